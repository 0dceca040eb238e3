// Executes the timetables of all stages and ranks together, in one process: a whole step as its binaries will run it,
// on buffers at the offsets of their arenas, the update included.
//
// Bodies mean what their `dist` form says, so this judges everything between it and the device: what is computed when
// and where it lies, what is sent, reduced and waited for, who has which part of a parameter, and what all ranks
// together make of gradients. It does not see scratch inside bodies, kernels, streams, or the runtime's own code.
#ifndef GALVATRON_REFERENCE_TIMETABLERUN_H
#define GALVATRON_REFERENCE_TIMETABLERUN_H

#include "galvatron/Reference/Trainee.h"
#include "galvatron/Schedule/Timetable.h"

#include <memory>

namespace galvatron::reference {

struct Machine;
struct Exchange;
class StageRun;

class TimetableRun : public Trainee {
public:
  /// `bodies`: the module with `dist.body`s and layers from which the timetables' functions were made; both outlive
  /// this. `exact`: keeps doubles instead of rounding to the element types.
  TimetableRun(mlir::ModuleOp bodies, llvm::ArrayRef<Timetable> timetables, uint64_t seed, bool exact);
  ~TimetableRun() override;

  std::map<std::string, Shape> inputShapes() override;
  mlir::FailureOr<NamedTensors> initialParameters(uint64_t seed) override;
  /// Puts parameters into all ranks' arenas.
  mlir::LogicalResult setParameters(NamedTensors values) override;
  /// Fails where replicas, or tied copies, differ.
  mlir::FailureOr<NamedTensors> getParameters() override;
  /// Up to whole gradients. Fails, naming entry, buffer and rank, where an entry reads what is not there or touches
  /// what is under way, where stages wait for one another, and where replicas differ.
  mlir::FailureOr<StepResult> runStep(const NamedTensors &inputs, uint64_t step) override;

protected:
  /// As ranks add it up, each over what it answers for. Fails where that is not every element once.
  mlir::FailureOr<double> gradientNorm(const NamedTensors &gradients) override;
  /// Every rank updates what it holds; afterwards all replicas are equal, or this fails.
  mlir::LogicalResult update(const NamedTensors &gradients, const Optimizer &optimizer, double scale) override;

private:
  mlir::LogicalResult runEntries(uint64_t step);
  mlir::FailureOr<NamedTensors> gather(int StageParameter::*buffer, llvm::StringRef what);
  /// State of a parameter that one device holds: all of it, or its part of a piece.
  void write(StageRun &stage, const StageParameter &parameter, int64_t device, int StageParameter::*buffer,
             std::vector<double> values);
  mlir::FailureOr<std::vector<double>> read(StageRun &stage, const StageParameter &parameter, int64_t device,
                                            int StageParameter::*buffer, const std::string &reader);
  mlir::FailureOr<std::vector<Tensor>> readWhole(StageRun &stage, const StageParameter &parameter,
                                                 int StageParameter::*buffer, const std::string &reader);

  mlir::ModuleOp bodies;
  uint64_t seed;
  bool exact;
  std::unique_ptr<Machine> machine;
  std::unique_ptr<Exchange> exchange;
  std::vector<std::unique_ptr<StageRun>> stages;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_TIMETABLERUN_H
