// What can be trained in the reference evaluator: a program, or the timetables made of it.
#ifndef GALVATRON_REFERENCE_TRAINEE_H
#define GALVATRON_REFERENCE_TRAINEE_H

#include "galvatron/Reference/Evaluator.h"
#include "galvatron/Reference/Optimizer.h"

namespace galvatron::reference {

/// Failures come with a diagnostic.
class Trainee {
public:
  virtual ~Trainee() = default;

  /// Names and global shapes of the step's data.
  virtual std::map<std::string, Shape> inputShapes() = 0;
  virtual mlir::FailureOr<NamedTensors> initialParameters(uint64_t seed) = 0;
  /// Starts from these, with moments of zero.
  virtual mlir::LogicalResult setParameters(NamedTensors parameters) = 0;
  /// As they are now.
  virtual mlir::FailureOr<NamedTensors> getParameters() = 0;
  /// Forward and backward of one batch; steps count from 1.
  virtual mlir::FailureOr<StepResult> runStep(const NamedTensors &inputs, uint64_t step) = 0;
  /// Clips and updates, unless the batch had nothing to learn from; the gradients' norm before.
  mlir::FailureOr<double> finishStep(const StepResult &result, Optimizer &optimizer);

protected:
  virtual mlir::FailureOr<double> gradientNorm(const NamedTensors &gradients);
  virtual mlir::LogicalResult update(const NamedTensors &gradients, const Optimizer &optimizer, double scale) = 0;
};

/// A program at any phase from import to shard, by `evaluateStep`.
class ProgramTrainee : public Trainee {
public:
  ProgramTrainee(mlir::ModuleOp module, uint64_t seed, bool exact) : module(module), seed(seed), exact(exact) {}

  std::map<std::string, Shape> inputShapes() override;
  mlir::FailureOr<NamedTensors> initialParameters(uint64_t seed) override;
  mlir::LogicalResult setParameters(NamedTensors values) override;
  mlir::FailureOr<NamedTensors> getParameters() override { return parameters; }
  mlir::FailureOr<StepResult> runStep(const NamedTensors &inputs, uint64_t step) override;

protected:
  mlir::LogicalResult update(const NamedTensors &gradients, const Optimizer &optimizer, double scale) override;

private:
  mlir::ModuleOp module;
  uint64_t seed;
  bool exact;
  NamedTensors parameters, firstMoments, secondMoments;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_TRAINEE_H
