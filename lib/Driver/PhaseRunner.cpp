// A pass manager for each phase.
#include "PhaseRunner.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace galvatron;

namespace {

std::string withDigits(uint64_t number) { return llvm::formatv("{0,0+2}", number); }

/// --mlir-print-ir-tree-dir=DIR writes a file after each pass and numbers them from 0 in each pass manager. While this
/// lives DIR is a folder of its own for the phase, "03_shard"; at the end the numbers of its files get as many digits,
/// "07_galvatron-insert-rings.mlir", so that names sort as passes ran.
class IrTree {
public:
  IrTree(Phase phase, int run) {
    auto found = llvm::cl::getRegisteredOptions().find("mlir-print-ir-tree-dir");
    if (run < 0 || found == llvm::cl::getRegisteredOptions().end())
      return;
    option = static_cast<llvm::cl::opt<std::string> *>(found->second);
    asked = option->getValue();
    if (asked.empty())
      return;
    llvm::SmallString<256> own(asked);
    llvm::sys::path::append(own, withDigits(run) + "_" + getPhaseName(phase));
    folder = own.str();
    (void)llvm::sys::fs::create_directories(folder); // MLIR says so if it cannot write there
    option->setValue(folder);
  }

  ~IrTree() {
    if (folder.empty())
      return;
    option->setValue(asked);
    std::vector<std::string> files;
    std::error_code error;
    for (llvm::sys::fs::recursive_directory_iterator at(folder, error), end; at != end && !error; at.increment(error))
      if (at->type() == llvm::sys::fs::file_type::regular_file)
        files.push_back(at->path());
    for (const std::string &file : files)
      if (std::string name = padNumbers(llvm::sys::path::filename(file)); name != llvm::sys::path::filename(file)) {
        llvm::SmallString<256> renamed(llvm::sys::path::parent_path(file));
        llvm::sys::path::append(renamed, name);
        (void)llvm::sys::fs::rename(file, renamed); // under its old name it is no less right
      }
  }
  IrTree(const IrTree &) = delete;

private:
  /// "6_0_cse.mlir" is "06_00_cse.mlir": a number for each level of nested passes.
  static std::string padNumbers(StringRef name) {
    std::string padded;
    for (uint64_t number; !name.consumeInteger(10, number); name.consume_front("_"))
      padded += withDigits(number) + "_";
    return padded + name.str();
  }

  llvm::cl::opt<std::string> *option = nullptr;
  std::string asked, folder;
};

} // namespace

LogicalResult PhaseRunner::run(ModuleOp module, Phase phase, llvm::function_ref<void(OpPassManager &)> build) {
  PassManager passes(module.getContext());
  IrTree tree(phase, isTrial ? -1 : numRuns++);
  if (!isTrial && failed(applyPassManagerCLOptions(passes)))
    return failure();
  TimingScope scope = timing->nest(getPhaseName(phase));
  llvm::SaveAndRestore<TimingScope *> inner(timing, &scope);
  passes.enableTiming(scope);
  build(passes);
  return passes.run(module);
}

LogicalResult PhaseRunner::lower(ModuleOp planned, Phase last, std::shared_ptr<std::vector<Timetable>> timetables) {
  Phase start = detectPhase(planned);
  auto runIfDue = [&](Phase phase, auto build) {
    return phase <= start || phase > last ? success() : run(planned, phase, build);
  };
  LowerPhaseOptions lower;
  lower.device = device;
  lower.keepBodies = keepBodies && !isTrial;
  lower.timetables = std::move(timetables);
  if (failed(runIfDue(Phase::Shard, [](OpPassManager &passes) { buildShardPhase(passes, {}); })) ||
      failed(runIfDue(Phase::Stage, [](OpPassManager &passes) { buildStagePhase(passes, {}); })))
    return failure();
  return runIfDue(Phase::Lower, [&](OpPassManager &passes) { buildLowerPhase(passes, lower); });
}

LogicalResult PhaseRunner::tryLower(ModuleOp planned, std::shared_ptr<std::vector<Timetable>> timetables) {
  ScopedDiagnosticHandler silence(planned.getContext(), [](Diagnostic &) {});
  llvm::SaveAndRestore<bool> trial(isTrial, true);
  return lower(planned, Phase::Lower, std::move(timetables));
}
