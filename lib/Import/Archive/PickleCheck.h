// A pickle from anyone, read without running anything of it.
#ifndef GALVATRON_IMPORT_ARCHIVE_PICKLECHECK_H
#define GALVATRON_IMPORT_ARCHIVE_PICKLECHECK_H

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <optional>

namespace galvatron::importer {

/// Bytes of the storage of that key; none where the archive has no such entry.
using StorageBytes = llvm::function_ref<std::optional<uint64_t>(llvm::StringRef key)>;

/// Throws ImportError where the pickle is not what torch.jit.save writes: opcodes and globals of another kind, values
/// that are nested deeply, contain themselves or multiply by sharing, storages with fewer bytes than their elements,
/// tensors that reach outside their storage. LibTorch's reader checks none of these.
void checkPickle(llvm::StringRef pickle, StorageBytes storageBytes);

/// The same for what tells where code comes from (`.debug_pkl`), whose positions must be inside its texts.
void checkDebugPickle(llvm::StringRef pickle);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_ARCHIVE_PICKLECHECK_H
