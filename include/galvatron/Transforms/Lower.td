// Passes of the phase lower; each is lib/Transforms/Lower/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_LOWER
#define GALVATRON_TRANSFORMS_LOWER

include "mlir/Pass/PassBase.td"

def PlanMemoryPass : Pass<"galvatron-plan-memory", "mlir::ModuleOp"> {
  let summary = "Counts every stage's memory to the byte";
  let description = [{
    Expands each stage's timetable, gives every buffer (parameters, gradients, moments, activations of
    micro-batches in flight, scratch) its offset, and writes the size of the arena,
    `dist.arena_bytes`: the one allocation that a rank makes. What the timetables compute, and that they end, is
    proved when all of them are there (`--verify-timetable`).

    **Before:** `dist.stage`s with their order; bodies are `exec.function`s.
    **After:** every stage has `dist.arena_bytes`.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      dist.stage @stage0 index 0 order <F0, B0> {
      }
    }
    ```

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      dist.stage @stage0 index 0 order <F0, B0> attributes {dist.arena_bytes = 0 : i64} {
      }
    }
    ```

    **Fails when:** a stage has no order; a call names a layer or body that is not there; a tied parameter has two placements.
  }];
  let statistics = [Statistic<"numBuffers", "num-buffers", "Buffers that were placed">];
}

def VerifyLowerPass : Pass<"galvatron-verify-lower", "mlir::ModuleOp"> {
  let summary = "Checks that bodies are calls and loops on the buffers that their layers name";
  let description = [{
    The timetable hands a body its buffers by position: what a layer says of its values and what its functions take
    must agree in number and shape, or a step would read one value for another.

    **Before:** `convert-dist-to-exec` and `plan-memory` have run.
    **After:** the same module.
    **Example:**

    ```mlir
    exec.function @double.forward(%arg0: memref<4xf32>, %arg1: memref<4xf32>, %arg2: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
      exec.return
    }
    dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
    dist.stage @stage0 index 0 order <F0, B0> attributes {dist.arena_bytes = 0 : i64} {
    }
    ```

    ```mlir
    exec.function @double.forward(%arg0: memref<4xf32>, %arg1: memref<4xf32>, %arg2: memref<?xi8>) attributes {exec.scratch_bytes = 0 : i64} {
      exec.return
    }
    dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
    dist.stage @stage0 index 0 order <F0, B0> attributes {dist.arena_bytes = 0 : i64} {
    }
    ```

    **Fails when:** an op of an earlier phase is left; a function's arguments do not fit its layer; a collective names
    no group of the module; a stage has no `dist.arena_bytes`.
  }];
  let statistics = [Statistic<"numFunctions", "num-functions", "Functions that were checked">];
}

def ExpandBfloat16Pass : Pass<"galvatron-expand-bfloat16", "mlir::ModuleOp"> {
  let summary = "Replaces conversions between f32 and bf16 by integer arithmetic";
  let description = [{
    Where a processor has no instruction for the rounding, LLVM calls a function, which keeps a loop
    scalar. Shifts and additions vectorize. Rounding is to nearest even; what is not a number stays so.

    **Before:** `arith.extf` and `arith.truncf` on scalars.
    **After:** none between f32 and bf16.
    **Example:**

    ```mlir
    func.func @widen(%x: bf16) -> f32 {
      %0 = arith.extf %x : bf16 to f32
      return %0 : f32
    }
    ```

    ```mlir
    func.func @widen(%x: bf16) -> f32 {
      %c16_i32 = arith.constant 16 : i32
      %0 = arith.bitcast %x : bf16 to i16
      %1 = arith.extui %0 : i16 to i32
      %2 = arith.shli %1, %c16_i32 : i32
      %3 = arith.bitcast %2 : i32 to f32
      return %3 : f32
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numExpanded", "num-expanded", "Conversions that became integer arithmetic">];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def ApproximateMathPass : Pass<"galvatron-approximate-math", "mlir::ModuleOp"> {
  let summary = "Replaces exp, tanh, erf, log and atan by polynomials that vectorize";
  let description = [{
    A call of libm in a loop keeps it scalar. Upstream's approximations (a few units in the last
    place in f32) are arithmetic, which LLVM vectorizes.

    **Before:** `math` ops on f32 scalars.
    **After:** `arith` and bit operations instead of `math.exp`, `math.tanh`, `math.erf`, `math.log`, `math.atan`
    and `math.atan2`.
    **Example:**

    ```mlir
    func.func @logarithm(%x: f32) -> f32 {
      %0 = math.absf %x : f32
      return %0 : f32
    }
    ```

    ```mlir
    func.func @logarithm(%x: f32) -> f32 {
      %0 = math.absf %x : f32
      return %0 : f32
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numReplaced", "num-replaced", "Ops that were replaced">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect", "::mlir::vector::VectorDialect"];
}

#endif // GALVATRON_TRANSFORMS_LOWER
