// `exec.loops` as kernels of a GPU.
//
// One thread computes a few runs of neighbouring elements; a run is as many elements as 16 bytes hold of the
// narrowest buffer, so that memory is read and written in 16-byte accesses wherever strides and offsets allow.
// Everything about a kernel but its pointers is constant.
#ifndef GALVATRON_CONVERSION_EXECTOLLVM_GPUKERNELS_H
#define GALVATRON_CONVERSION_EXECTOLLVM_GPUKERNELS_H

#include "LoopNest.h"

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {

/// How a kernel is to be launched.
struct LaunchShape {
  int64_t blocks = 1, threads = 1;
};

/// Appends the kernel `name` for `op` to `kernels`: an `llvm.func` of the kernel calling convention on one
/// pointer for each of `pointers.distinct` that is not a constant. Scalar ops are left as `arith` and `math`.
LaunchShape createGpuKernel(exec::LoopsOp op, const KernelPointers &pointers, llvm::StringRef name,
                            mlir::ModuleOp kernels);

} // namespace galvatron

#endif // GALVATRON_CONVERSION_EXECTOLLVM_GPUKERNELS_H
