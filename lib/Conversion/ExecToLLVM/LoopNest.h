// The loops of an `exec.loops` as they are generated: sorted, merged, without extents of 1.
#ifndef GALVATRON_CONVERSION_EXECTOLLVM_LOOPNEST_H
#define GALVATRON_CONVERSION_EXECTOLLVM_LOOPNEST_H

#include "dialects/Exec/Exec.h"

namespace galvatron {

/// Extents outermost first, and per buffer (inputs, then outputs) one stride in elements for each loop.
struct LoopNest {
  llvm::SmallVector<int64_t> extents;
  llvm::SmallVector<llvm::SmallVector<int64_t>> strides; // [buffer][loop]
};

/// Loops of extent 1 vanish; the last output's smallest stride comes innermost; neighbours that lie one
/// after another in every buffer merge. Where there are sums over or along rows, the innermost
/// loop stays what it is.
LoopNest simplifyLoops(exec::LoopsOp op);

/// The buffers of a kernel without repetition, outputs first: an input that is also an output shares its
/// pointer.
struct KernelPointers {
  llvm::SmallVector<mlir::Value> distinct;
  llvm::SmallVector<unsigned> indexOf; // of each input, then each output, in `distinct`
};
KernelPointers collectPointers(exec::LoopsOp op);

/// The row sums from `it` on that can be made in one walk over the row; `it` then stands after them.
llvm::SmallVector<exec::RowSumOp> takeRowSums(mlir::Block::iterator &it);

} // namespace galvatron

#endif // GALVATRON_CONVERSION_EXECTOLLVM_LOOPNEST_H
