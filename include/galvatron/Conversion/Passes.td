// Passes that change dialect; galvatron-convert-x-to-y is lib/Conversion/ConvertXToY.cpp.
#ifndef GALVATRON_CONVERSION_PASSES_TD
#define GALVATRON_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

def ConvertDistToExecPass : Pass<"galvatron-convert-dist-to-exec", "mlir::ModuleOp"> {
  let summary = "Turns bodies on local tensors into functions on buffers at fixed places";
  let description = [{
    Every tensor becomes a memref with static strides: an argument, or a place in the function's
    scratch. Reshapes, transposes and slices become views where strides can say it; elementwise ops
    are fused along their single uses into generated loops; every other op becomes a call of the
    runtime function that computes it. Gradients of parameters are written, or added to what their buffers
    hold, as the timetable's entry says (`entry` of `exec.call`); where nothing but adding is possible
    (`exec.adds`), the timetable sees to zeros.

    **Before:** `dist.layer`s with their `dist.body`s (after `galvatron-split-tensors`).
    **After:** an `exec.function` of the same name for each body.
    **Example:**

    ```mlir
    dist.body @add.forward(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
      %z = arith.addf %x, %y : tensor<4xf32>
      dist.return %z : tensor<4xf32>
    }
    dist.layer @add {forward = @add.forward, inputs = [#dist.placement<[4]>, #dist.placement<[4]>], outputs = [#dist.placement<[4]>], input_gradients = [], output_gradients = [], homes = [], gradients = [], num_saved = 0 : i64}
    ```

    ```mlir
    module attributes {exec.groups = []} {
      exec.function @add.forward(%arg0: memref<4xf32>, %arg1: memref<4xf32>, %arg2: memref<4xf32>, %arg3: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
        exec.loops [4] inputs(%arg0, %arg1 : memref<4xf32>, memref<4xf32>) outputs(%arg2 : memref<4xf32>) strides [1, 1, 1] {
        ^bb0(%arg4: f32, %arg5: f32):
          %0 = arith.addf %arg4, %arg5 : f32
          exec.yield %0 : f32
        }
        exec.return
      }
      dist.layer @add {forward = @add.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[4]>, #dist.placement<[4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[4]>]}
    }
    ```

    **Fails when:** an op has no runtime function, or one that the device's library lacks; a rope has more than 4 dimensions; a layer names a body that is not there.
  }];
  let options = [Option<"deviceName", "device", "std::string", [{"cpu"}], "Device that will run the functions: cpu or cuda">,
                 ListOption<"lacking", "lacking", "std::string", "Functions of the runtime that the device lacks beside those that its sources do not define">];
  let statistics = [Statistic<"numBodies", "num-bodies", "Bodies that were converted">,
                    Statistic<"numFused", "num-fused", "Generated kernels that became part of another">];
  let dependentDialects = ["::galvatron::exec::ExecDialect", "::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

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

#endif // GALVATRON_CONVERSION_PASSES_TD
