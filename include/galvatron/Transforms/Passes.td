// Passes that keep to one dialect or go between ours; each is lib/Transforms/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_PASSES_TD
#define GALVATRON_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Phase import
//===----------------------------------------------------------------------===//

def RaiseOpsPass : Pass<"galvatron-raise-ops", "mlir::ModuleOp"> {
  let summary = "Recognizes norms, rotary embedding, attention, activations and losses in arithmetic";
  let description = [{
    Eager code spells operators out; sharding, kernels and recomputation need them named. Recognized
    by meaning rather than by spelling: rotary embedding from its coefficients, masks from position
    arithmetic, nonlinearities from their values. Fused projections are split along their slices.
    Merged batch and sequence dimensions are kept apart.

    **Before:** `@step` as the importer writes it.
    **After:** the same function of the same arguments; what was recognized is one op, with no dead code.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<8xf32>) -> tensor<2x4x8xf32> {
      %eighth = arith.constant dense<0.125> : tensor<2x4xf32>
      %eps = arith.constant dense<0.5> : tensor<2x4xf32>
      %0 = arith.mulf %x, %x : tensor<2x4x8xf32>
      %1 = graph.reduce sum %0 dims [2] : tensor<2x4x8xf32> -> tensor<2x4xf32>
      %2 = arith.mulf %1, %eighth : tensor<2x4xf32>
      %3 = arith.addf %2, %eps : tensor<2x4xf32>
      %4 = math.rsqrt %3 : tensor<2x4xf32>
      %5 = graph.broadcast %4 dims [0, 1] : tensor<2x4xf32> -> tensor<2x4x8xf32>
      %6 = arith.mulf %x, %5 : tensor<2x4x8xf32>
      return %6 : tensor<2x4x8xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<8xf32>) -> tensor<2x4x8xf32> {
      %y, %mean, %rstd = graph.norm rms %x {epsilon = 0.5 : f64} : (tensor<2x4x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>, tensor<2x4xf32>)
      return %y : tensor<2x4x8xf32>
    }
    ```

    **Fails when:** never; what is not recognized stays arithmetic.
  }];
  let statistics = [
    Statistic<"numAttentions", "num-attentions", "Attentions recognized in products and softmax">,
    Statistic<"numRopes", "num-ropes", "Rotary embeddings recognized">,
    Statistic<"numActivations", "num-activations", "Nonlinearities recognized, gated ones again">,
    Statistic<"numProjections", "num-projections", "Fused projections split">,
    Statistic<"numPositions", "num-positions", "Lookups of positions that became slices">
  ];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

def FormLayersPass : Pass<"galvatron-form-layers", "mlir::ModuleOp"> {
  let summary = "Forms layer types from repeated structure and makes the step a list of calls";
  let description = [{
    Units are the members of module lists, what comes before, between and after them; without module
    paths, the periods of a repeating structure. Units of equal ops, shapes, distributions and relative
    parameter names share one body, found by hash. What is computed from constants, parameters or the
    step's integers alone is cloned into each layer that reads it.

    **Before:** everything inline in `@step`.
    **After:** `@step` is `graph.call`s; only activations and the step's arguments cross layers.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
      %w0 = graph.parameter ["h.0.p.w"] : tensor<4xf32>
      %0 = arith.mulf %x, %w0 : tensor<4xf32> loc("h.0.p")
      %w1 = graph.parameter ["h.1.p.w"] : tensor<4xf32>
      %1 = arith.mulf %0, %w1 : tensor<4xf32> loc("h.1.p")
      return %1 : tensor<4xf32>
    }
    ```

    ```mlir
    graph.layer @layer(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "p.w"}) -> tensor<4xf32> {
      %0 = arith.mulf %x, %w : tensor<4xf32>
      graph.return %0 : tensor<4xf32>
    }
    func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.call @layer(%x) parameters ["h.0.p.w"] path "h.0" : (tensor<4xf32>) -> tensor<4xf32>
      %1 = graph.call @layer(%0) parameters ["h.1.p.w"] path "h.1" : (tensor<4xf32>) -> tensor<4xf32>
      return %1 : tensor<4xf32>
    }
    ```

    **Fails when:** there is no `@step`, or members of a list read each other's values in a cycle.
  }];
  let statistics = [
    Statistic<"numTypes", "num-types", "Layer types formed">,
    Statistic<"numCalls", "num-calls", "Layers in the step">
  ];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def VerifyImportPass : Pass<"galvatron-verify-import", "mlir::ModuleOp"> {
  let summary = "Checks what phase import promises: static shapes, every op in a layer, one body a type";
  let description = [{
    The contract of docs/IR.md after phase `import`.

    **Before:** any module.
    **After:** the same module.
    **Example:**

    ```mlir
    graph.layer @layer(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
      %0 = arith.mulf %x, %w : tensor<4xf32>
      graph.return %0 : tensor<4xf32>
    }
    func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.call @layer(%x) parameters ["h.0.w"] path "h.0" : (tensor<4xf32>) -> tensor<4xf32>
      return %0 : tensor<4xf32>
    }
    ```

    ```mlir
    graph.layer @layer(%x: tensor<4xf32>, %w: tensor<4xf32> {graph.parameter = "w"}) -> tensor<4xf32> {
      %0 = arith.mulf %x, %w : tensor<4xf32>
      graph.return %0 : tensor<4xf32>
    }
    func.func @step(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.call @layer(%x) parameters ["h.0.w"] path "h.0" : (tensor<4xf32>) -> tensor<4xf32>
      return %0 : tensor<4xf32>
    }
    ```

    **Fails when:** a shape is dynamic, an op is outside of a layer or no graph op or elementwise
    arithmetic, a constant is larger than 64 KiB, or two layer types have equal bodies.
  }];
  let statistics = [Statistic<"numCalls", "num-calls", "Layers in the step">];
}

//===----------------------------------------------------------------------===//
// Phase differentiate
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase plan
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase shard
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase stage
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase lower
//===----------------------------------------------------------------------===//


#endif // GALVATRON_TRANSFORMS_PASSES_TD
