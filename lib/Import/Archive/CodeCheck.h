// The code of an archive from anyone, looked through before LibTorch compiles it.
#ifndef GALVATRON_IMPORT_ARCHIVE_CODECHECK_H
#define GALVATRON_IMPORT_ARCHIVE_CODECHECK_H

#include "llvm/ADT/StringRef.h"

#include <string>

namespace galvatron::importer {

/// Throws ImportError naming the line where the text is not what torch.jit.save prints of modules and functions, or
/// where loading it could run something: `__setstate__` and `__getstate__`, which the loader calls; values of default
/// arguments and of classes that are no constants, which it computes; kinds of classes other than modules and named
/// tuples; operators that write files or are no PyTorch's own. Nesting is bounded, as LibTorch's parser calls itself.
void checkCode(llvm::StringRef text);

/// The same of a type, as "Dict[str, Tensor]", in a pickle.
void checkType(llvm::StringRef text);

/// For messages: what a terminal shows as it is.
std::string printable(llvm::StringRef text);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_ARCHIVE_CODECHECK_H
