// Passes of the phase import that give decomposed arithmetic its name; each is lib/Transforms/Raise/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_RAISE
#define GALVATRON_TRANSFORMS_RAISE

include "mlir/Pass/PassBase.td"

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

#endif // GALVATRON_TRANSFORMS_RAISE
