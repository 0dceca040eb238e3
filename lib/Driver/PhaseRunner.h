// Phases on a program, with the user's options of the pass manager and its timing.
#ifndef GALVATRON_DRIVER_PHASERUNNER_H
#define GALVATRON_DRIVER_PHASERUNNER_H

#include "galvatron/Pipelines/Phases.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/Timing.h"

#include <memory>
#include <string>
#include <vector>

namespace galvatron {

class PhaseRunner {
public:
  /// `device`: the library that stages link, as in LowerPhaseOptions.
  /// `keepBodies`: in the program that is kept, not in trials.
  PhaseRunner(mlir::TimingScope &timing, std::string device, bool keepBodies = false)
      : timing(&timing), device(std::move(device)), keepBodies(keepBodies) {}

  mlir::LogicalResult run(mlir::ModuleOp module, Phase phase, llvm::function_ref<void(mlir::OpPassManager &)> build);

  /// A planned program from the phase that it is after to `last`. `timetables`, if not null, receives those of its
  /// stages where phase lower is among them.
  mlir::LogicalResult lower(mlir::ModuleOp planned, Phase last,
                            std::shared_ptr<std::vector<Timetable>> timetables = nullptr);

  /// To the end and in silence, for its bytes and timetables alone: what later phases remark on, and options that print
  /// programs, are for the plan that is kept. May be called while another program is in a phase.
  mlir::LogicalResult tryLower(mlir::ModuleOp planned, std::shared_ptr<std::vector<Timetable>> timetables = nullptr);

private:
  mlir::TimingScope *timing; ///< of the phase at hand, or of all
  std::string device;
  bool keepBodies;
  bool isTrial = false;
  int numRuns = 0; ///< of phases, but in trials
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_PHASERUNNER_H
