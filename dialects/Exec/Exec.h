// The exec dialect: one include for its classes.
#ifndef GALVATRON_DIALECTS_EXEC_EXEC_H
#define GALVATRON_DIALECTS_EXEC_EXEC_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/Exec/RuntimeFunctions.h"
#include "runtime/api/GalvatronRuntime.h"

#include "dialects/Exec/ExecDialect.h.inc"

#define GET_OP_CLASSES
#include "dialects/Exec/ExecOps.h.inc"

namespace galvatron::exec {

/// What every buffer of the arena, and every value in scratch and in what a layer saves, begins at a multiple of, in
/// bytes.
inline constexpr int64_t kBufferAlignment = GVRT_BUFFER_ALIGNMENT;
/// On an `exec.function`: bytes its scratch must have.
inline constexpr llvm::StringLiteral kScratchBytes = "exec.scratch_bytes";
/// On a backward `exec.function`: indices of parameters to whose gradients it adds, whatever the entry says.
inline constexpr llvm::StringLiteral kAdds = "exec.adds";
/// On a module: the groups that collectives name by index, each a list of mesh axes.
inline constexpr llvm::StringLiteral kGroups = "exec.groups";
/// Nested module of generated GPU kernels, on the way to device code.
inline constexpr llvm::StringLiteral kKernels = "kernels";
/// On a module: the device its functions are for, where that is not the processor.
inline constexpr llvm::StringLiteral kDevice = "exec.device";
/// On a module: bytes that the device's products want at a fixed place of the arena.
inline constexpr llvm::StringLiteral kWorkspaceBytes = "exec.workspace_bytes";

/// The constant that a buffer is, or a view of; null for memory.
ConstantOp getConstantSource(mlir::Value buffer);

} // namespace galvatron::exec

#endif // GALVATRON_DIALECTS_EXEC_EXEC_H
