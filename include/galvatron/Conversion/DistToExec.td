// Passes of lib/Conversion/DistToExec.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC
#define GALVATRON_CONVERSION_DISTTOEXEC

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
    **After:** an `exec.function` of the same name for each body; the bodies are gone, or with `keep-bodies` in a module of their own.
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
                 ListOption<"lacking", "lacking", "std::string", "Functions of the runtime that the device lacks beside those that its sources do not define">,
                 Option<"keepBodies", "keep-bodies", "bool", "false", "Keep bodies and layers as they were in a module @dist.bodies, which the reference evaluator runs">];
  let statistics = [Statistic<"numBodies", "num-bodies", "Bodies that were converted">,
                    Statistic<"numFused", "num-fused", "Generated kernels that became part of another">];
  let dependentDialects = ["::galvatron::exec::ExecDialect", "::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

#endif // GALVATRON_CONVERSION_DISTTOEXEC
