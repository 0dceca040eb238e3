// MLIR prints a location without a file as `<unknown>:0: … loc("…")`; a module path is one, and says more than a file.
#include "ProgramDiagnostics.h"

#include "galvatron/Pipelines/Places.h"
#include "galvatron/Support/Nesting.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/WithColor.h"

using namespace mlir;
using namespace galvatron;

static constexpr llvm::StringLiteral kTool = "galvatron-opt";

ProgramDiagnostics::ProgramDiagnostics(llvm::SourceMgr &sources, MLIRContext *context)
    : SourceMgrDiagnosticHandler(sources, context) {
  setHandler([this](Diagnostic &diagnostic) {
    print(diagnostic.getLocation(), diagnostic.str(), diagnostic.getSeverity());
    for (Diagnostic &note : diagnostic.getNotes())
      print(note.getLocation(), note.str(), note.getSeverity());
  });
}

void ProgramDiagnostics::print(Location loc, const llvm::Twine &message, DiagnosticSeverity severity) {
  if (!loc->findInstanceOf<NameLoc>() && loc->findInstanceOf<FileLineColLoc>())
    return emitDiagnostic(loc, message, severity);
  auto start = [&]() -> llvm::raw_ostream & {
    switch (severity) {
    case DiagnosticSeverity::Note:
      return llvm::WithColor::note(os, kTool);
    case DiagnosticSeverity::Warning:
      return llvm::WithColor::warning(os, kTool);
    case DiagnosticSeverity::Error:
      return llvm::WithColor::error(os, kTool);
    case DiagnosticSeverity::Remark:
      return llvm::WithColor::remark(os, kTool);
    }
    llvm_unreachable("unknown severity");
  };
  std::string text = (describePlace(loc) + message).str();
  if (severity != DiagnosticSeverity::Remark || remarks.insert(text).second)
    start() << text << "\n";
}

std::string galvatron::finishWriting(llvm::raw_fd_ostream &stream) {
  stream.flush();
  std::string why = stream.has_error() ? stream.error().message() : "";
  stream.clear_error();
  return why;
}

LogicalResult galvatron::reportError(const llvm::Twine &message) {
  llvm::WithColor::error(llvm::errs(), kTool) << message << "\n";
  return failure();
}

void galvatron::reportWarning(const llvm::Twine &message) {
  llvm::WithColor::warning(llvm::errs(), kTool) << message << "\n";
}

std::string galvatron::findForeignFormat(llvm::StringRef name, llvm::StringRef contents) {
  if (contents.starts_with("PK\x03\x04"))
    return "expects a program, but '" + name.str() +
           "' is an archive as galvatron.export writes it; import it first: " + "galvatron-import " + name.str() +
           " --batch B --seq S -o " + llvm::sys::path::stem(name).str() + ".mlir";
  if (contents.starts_with("ML\xefR"))
    return "expects a program, but '" + name.str() + "' is MLIR's bytecode, which no one checks; print it as text: " +
           "galvatron-opt " + name.str() + " -o " + llvm::sys::path::stem(name).str() + ".text.mlir";
  if (contents.take_front(4096).contains('\0'))
    return "expects a program, but '" + name.str() + "' is not text; write one with galvatron-import";
  std::string deep = findDeepNesting(contents);
  return deep.empty() ? "" : "cannot read '" + name.str() + "': " + deep;
}
