// Passes of lib/Conversion/ExecToLLVM.
#ifndef GALVATRON_CONVERSION_EXECTOLLVM
#define GALVATRON_CONVERSION_EXECTOLLVM

include "mlir/Pass/PassBase.td"

def ConvertExecToLLVMPass : Pass<"galvatron-convert-exec-to-llvm", "mlir::ModuleOp"> {
  let summary = "Turns functions on buffers into functions of the uniform C signature";
  let description = [{
    A body becomes `void body(gvrt_context *, void *const *buffers, const int64_t *attributes)`;
    buffers become bare pointers, runtime calls pass a table of pointers and a constant table of
    attributes; each `exec.loops` becomes a private function with `noalias` pointers, whose loops
    are merged where all its buffers allow, so that LLVM's vectorizer sees long inner loops. Left for
    upstream passes: `scf`, `arith`, `math`, `func` to LLVM.

    On a GPU (module attribute `exec.device = "cuda"`) an `exec.loops` becomes the kernel `kernel_<k>` in the nested module
    `@kernels`, with 16-byte accesses where strides allow, and a call of `gvrt_launch` in its place.

    **Before:** `exec.function`s.
    **After:** no `exec` op; `func`, `scf`, `arith`, `math` and `llvm` ops on pointers.
    **Example:**

    ```mlir
    exec.function @nothing(%scratch: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
      exec.return
    }
    ```

    ```mlir
    module {
      func.func @nothing(%arg0: !llvm.ptr, %arg1: !llvm.ptr, %arg2: !llvm.ptr) {
        %0 = llvm.getelementptr %arg1[0] : (!llvm.ptr) -> !llvm.ptr, !llvm.ptr
        %1 = llvm.load %0 : !llvm.ptr -> !llvm.ptr
        return
      }
    }
    ```

    **Fails when:** on a GPU, a runtime function reads a constant, which only generated kernels can.
  }];
  let statistics = [Statistic<"numKernels", "num-kernels", "Generated kernels">];
  let dependentDialects = ["::mlir::func::FuncDialect", "::mlir::scf::SCFDialect", "::mlir::arith::ArithDialect",
                           "::mlir::LLVM::LLVMDialect"];
}

#endif // GALVATRON_CONVERSION_EXECTOLLVM
