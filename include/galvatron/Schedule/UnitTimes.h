// When each instruction of every stage runs if a forward takes one unit of time, a backward two (one, where gradients
// of weights run apart and take the other) and a transfer none: by it a stage judges which values are there early, and
// orders are drawn.
#ifndef GALVATRON_SCHEDULE_UNITTIMES_H
#define GALVATRON_SCHEDULE_UNITTIMES_H

#include "dialects/Dist/Dist.h"

#include "mlir/IR/BuiltinOps.h"

#include <map>
#include <optional>
#include <set>
#include <vector>

namespace galvatron {

class UnitTimes {
public:
  /// All stages have their order.
  explicit UnitTimes(mlir::ModuleOp module);

  int64_t durationOf(const dist::Instruction &instruction) const {
    return instruction.computation == dist::Computation::Backward && !isSplit ? 2 : 1;
  }
  /// End of a stage's instruction, by its index in the order; none where the orders never let it begin.
  std::optional<int64_t> endOf(int64_t stage, size_t index) const;
  /// When all that an instruction waits for has been sent: the instruction of the same micro-batch in the parts that
  /// this one receives activations from (forward) or gradients (backward). None where it never is.
  std::optional<int64_t> sentBy(int64_t stage, const dist::Instruction &instruction) const;

private:
  using Part = std::pair<int64_t, int64_t>; // stage, chunk
  struct Stage {
    llvm::ArrayRef<dist::Instruction> order;
    std::vector<int64_t> ends; // of the first instructions of the order, as many as are known
    /// Parts that each of its parts receives activations, gradients from, by chunk.
    std::map<int64_t, std::set<Part>> forward, backward;
  };
  void collectParts(mlir::ModuleOp module);
  bool advance(int64_t index, Stage &stage);

  bool isSplit = false; // gradients of weights run apart
  std::map<int64_t, Stage> stages;
  std::map<std::pair<int64_t, dist::Instruction>, int64_t> ends; // by stage
};

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_UNITTIMES_H
