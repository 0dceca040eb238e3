// A pass manager for each phase.
#include "PhaseRunner.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace galvatron;

LogicalResult PhaseRunner::run(ModuleOp module, Phase phase, llvm::function_ref<void(OpPassManager &)> build) {
  PassManager passes(module.getContext());
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
