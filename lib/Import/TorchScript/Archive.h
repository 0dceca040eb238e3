// Archives from anyone: looked through, then loaded.
#ifndef GALVATRON_IMPORT_TORCHSCRIPT_ARCHIVE_H
#define GALVATRON_IMPORT_TORCHSCRIPT_ARCHIVE_H

#include <torch/script.h>

namespace galvatron::importer {

/// The module, and the text of `galvatron.json` in the archive; empty where it has none. Runs nothing of the archive
/// and reads nothing outside of it: what lib/Import/Archive refuses never reaches LibTorch's loader. Throws ImportError
/// naming the entry.
torch::jit::Module loadArchive(const std::string &path, std::string &description);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_TORCHSCRIPT_ARCHIVE_H
