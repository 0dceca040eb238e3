// What `galvatron-opt --help` says: what people use, in the order in which they come to it. All else, hundreds of
// options of MLIR and LLVM, is in `--help-hidden`, and is parsed as ever.
#ifndef GALVATRON_DRIVER_HELPTEXT_H
#define GALVATRON_DRIVER_HELPTEXT_H

#include "galvatron/Pipelines/RegisteredOptions.h"

#include "mlir/Support/LLVM.h"

namespace galvatron {

/// Whether a command line asks for help: before it is parsed, as parsing one that does ends the program.
bool asksForHelp(mlir::ArrayRef<char *> words);

/// Prints the options that are registered by then: those of `categories` in order, our phases and passes, and those of
/// MLIR that people use.
void printHelp(mlir::StringRef overview, mlir::ArrayRef<const llvm::cl::OptionCategory *> categories);

/// The same as rows, behind them as rare ones all others.
std::vector<options::Option> describeHelp(mlir::ArrayRef<const llvm::cl::OptionCategory *> categories);

} // namespace galvatron

#endif // GALVATRON_DRIVER_HELPTEXT_H
