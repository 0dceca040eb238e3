// Messages about a program, in the words of the model's author.
#ifndef GALVATRON_DRIVER_PROGRAMDIAGNOSTICS_H
#define GALVATRON_DRIVER_PROGRAMDIAGNOSTICS_H

#include "mlir/IR/Diagnostics.h"
#include "llvm/ADT/StringSet.h"

namespace galvatron {

/// Ops of an imported model are located by module path and Python line: messages begin with these. Messages that
/// point into the program's text show its line, as mlir-opt's do.
class ProgramDiagnostics : public mlir::SourceMgrDiagnosticHandler {
public:
  ProgramDiagnostics(llvm::SourceMgr &sources, mlir::MLIRContext *context);

private:
  void print(mlir::Location loc, const llvm::Twine &message, mlir::DiagnosticSeverity severity);

  llvm::StringSet<> remarks; ///< printed: a search may lower several plans of which the same is true
};

/// An error of options or files, which no place of a program is to blame for, on standard error.
mlir::LogicalResult reportError(const llvm::Twine &message);

/// What may be wrong with options or files, likewise.
void reportWarning(const llvm::Twine &message);

/// Once all is written to `stream`: why some of it was not; empty if all was. Such an error is then no longer LLVM's.
std::string finishWriting(llvm::raw_fd_ostream &stream);

/// What is wrong with a file that cannot be a program, with a remedy; empty if it may be one.
std::string findForeignFormat(llvm::StringRef name, llvm::StringRef contents);

} // namespace galvatron

#endif // GALVATRON_DRIVER_PROGRAMDIAGNOSTICS_H
