// The kernels that a layer's ops become on one device, and what each of them computes and moves: what lib/Conversion
// will do, foretold from placed values, before there are buffers.
//
//   a product     takes a bias and one more tensor that are added to its result into its own kernel
//   elementwise   ops over the same elements become one kernel where that pays (galvatron/Kernels/FusionRule.h)
//   no kernel     views; pieces of parameters' gradients and sums of such pieces, which products write in place
#ifndef GALVATRON_LIB_COSTS_KERNELWORK_H
#define GALVATRON_LIB_COSTS_KERNELWORK_H

#include "mlir/IR/Operation.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <vector>

namespace galvatron {

/// What one device has of something in one micro-batch of n samples (counted over all ranks): fixed + n · perSample.
struct Amount {
  double fixed = 0, perSample = 0;
  double cutFixed = 0, cutPerSample = 0; ///< of both, what data parallelism cuts

  double of(double samples) const { return fixed + samples * perSample; }
  Amount &operator+=(const Amount &other) {
    fixed += other.fixed;
    perSample += other.perSample;
    cutFixed += other.cutFixed;
    cutPerSample += other.cutPerSample;
    return *this;
  }
  Amount operator*(double factor) const {
    return {fixed * factor, perSample * factor, cutFixed * factor, cutPerSample * factor};
  }
  /// With `factor` times as much of what data parallelism cuts.
  Amount recut(double factor) const {
    return {fixed + cutFixed * (factor - 1), perSample + cutPerSample * (factor - 1), cutFixed * factor,
            cutPerSample * factor};
  }
};

/// Reads amounts off placements. Time has a sub-axis of whatever depends on samples, or, with one micro-batch, nothing
/// does.
class PlacedAmounts {
public:
  /// `parts`: micro-batches of the placements; `dataAxes`: mesh axes of data parallelism.
  PlacedAmounts(int64_t globalBatch, int64_t parts, llvm::ArrayRef<int> dataAxes)
      : globalBatch(double(globalBatch)), parts(double(parts)), dataAxes(dataAxes.begin(), dataAxes.end()) {}

  /// Of all elements that a device holds; nothing of what is no tensor.
  Amount getBytes(mlir::Value value) const;
  /// A device's part of `whole`, an amount of the op's global shapes: its loops are cut by whatever cuts an operand or
  /// a result.
  Amount getShare(mlir::Operation *op, double whole) const;
  /// For comparisons: with all samples in one micro-batch.
  double atOnce(const Amount &amount) const { return amount.of(globalBatch); }

private:
  Amount make(double amount, bool isPartOfTime, bool isCutByData) const;

  double globalBatch, parts;
  llvm::SmallVector<int> dataAxes;
};

/// One kernel on one device.
struct KernelWork {
  Amount flops, bytes;
  bool isProduct = false; ///< runs at the rate of matrix products
  /// Of attention: queries and keys that the mask lets meet, over samples and heads, as many as forward would take the
  /// time of.
  Amount pairs;
  bool isBackward = false; ///< of attention's
  int times = 1;           ///< that it runs one after another
};

/// How many steps of a ring an op stands for, which run one after another; 1: itself.
int countSteps(mlir::Operation *op);

/// Whether no kernel runs for the op wherever it stands: a view, a multiplier, or what has no operands.
bool computesNothing(mlir::Operation *op);

/// What `value` is a view of.
mlir::Value getRoot(mlir::Value value);

/// Kernels of `ops`, which are in an order that computes operands first. `isRead`: whether others read a value, which
/// must then be stored. `isGradient`: whether it is a gradient of a parameter as backward leaves it.
std::vector<KernelWork> readKernels(llvm::ArrayRef<mlir::Operation *> ops, llvm::function_ref<bool(mlir::Value)> isRead,
                                    llvm::function_ref<bool(mlir::Value)> isGradient, const PlacedAmounts &amounts);

} // namespace galvatron

#endif // GALVATRON_LIB_COSTS_KERNELWORK_H
