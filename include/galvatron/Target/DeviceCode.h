// Generated GPU kernels → PTX text, which the GPU's driver compiles when the stage starts.
#ifndef GALVATRON_TARGET_DEVICECODE_H
#define GALVATRON_TARGET_DEVICECODE_H

#include "mlir/IR/BuiltinOps.h"

#include <string>

namespace llvm {
class Module;
class TargetMachine;
} // namespace llvm

namespace galvatron {

/// `kernels`: the module that `galvatron-convert-exec-to-llvm{device=cuda}` filled. `architecture`: a GPU as
/// nvcc names it, "sm_90a". Fails with a message.
mlir::FailureOr<std::string> compileKernels(mlir::ModuleOp kernels, llvm::StringRef architecture);

/// Whether LLVM generates code for it.
bool isKnownGpuArchitecture(llvm::StringRef architecture);

/// The optimization pipeline that all generated code goes through.
void optimize(llvm::Module &module, llvm::TargetMachine &machine);

} // namespace galvatron

#endif // GALVATRON_TARGET_DEVICECODE_H
