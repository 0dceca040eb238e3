//===- ExecDialect.td - what a device executes ----------------------------===//
#ifndef GALVATRON_DIALECTS_EXEC_DIALECT
#define GALVATRON_DIALECTS_EXEC_DIALECT

include "mlir/IR/OpBase.td"

def Exec_Dialect : Dialect {
  let name = "exec";
  let cppNamespace = "::galvatron::exec";
  let summary = "What a device executes: buffers at fixed offsets, runtime calls, generated loops";
  let description = [{
    The last level before LLVM. Values are `memref`s whose layout is static strides; nothing is
    allocated: a buffer is an argument of the function or a place in its scratch. The functions that
    `exec.call` may name are those of `runtime/api/Functions.def`.
  }];
  let dependentDialects = ["::mlir::memref::MemRefDialect"];
}

#endif
