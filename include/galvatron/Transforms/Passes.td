// Passes that keep to one dialect or go between ours; each is lib/Transforms/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_PASSES_TD
#define GALVATRON_TRANSFORMS_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Phase import
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase differentiate
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase plan
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase shard
//===----------------------------------------------------------------------===//

def InferAxesPass : Pass<"galvatron-infer-axes", "mlir::ModuleOp"> {
  let summary = "Writes the logical axes of layers' arguments and results beside them";
  let description = [{
    For people and tests; later passes run the analysis themselves. Axes are found over the whole
    module, so run it where `differentiate` has run to see what sharding sees.

    **Before:** layers, and calls of them in `@step`.
    **After:** each layer's arguments and results have `graph.axes`, a string for each dimension: roles
    of its factors, major first, numbered where a role has several axes.
    **Example:**

    ```mlir
    graph.layer @mlp(%x: tensor<8x16x64xf32>, %w: tensor<32x64xf32> {graph.parameter = "w"}) -> tensor<8x16x32xf32> {
      %y = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
      graph.return %y : tensor<8x16x32xf32>
    }
    ```

    ```mlir
    graph.layer @mlp(%x: tensor<8x16x64xf32> {graph.axes = ["batch", "seq", "hidden"]}, %w: tensor<32x64xf32> {graph.axes = ["fixed", "hidden"], graph.parameter = "w"}) -> (tensor<8x16x32xf32> {graph.axes = ["batch", "seq", "fixed"]}) {
      %y = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
      graph.return %y : tensor<8x16x32xf32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numAxes", "num-axes", "Axes that were found">];
}

def RebatchPass : Pass<"galvatron-rebatch", "mlir::ModuleOp"> {
  let summary = "Replaces the global batch size";
  let description = [{
    Every dimension along the batch axis, wherever it is, gets the new extent.

    **Before:** the module as after phase `import`: `graph.batch` on the module, no backward.
    **After:** the same program for another batch.
    **Example:**

    ```mlir
    module attributes {graph.batch = 8 : i64, graph.seq = 16 : i64} {
      func.func @step(%ids: tensor<8x16xi64>, %labels: tensor<8x16xi64>) -> tensor<8x16xi64> {
        return %ids : tensor<8x16xi64>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 32 : i64, graph.seq = 16 : i64} {
      func.func @step(%ids: tensor<32x16xi64>, %labels: tensor<32x16xi64>) -> tensor<32x16xi64> {
        return %ids : tensor<32x16xi64>
      }
    }
    ```

    **Fails when:** a constant of unequal elements lies along the batch.
  }];
  let options = [Option<"batch", "batch", "int64_t", "0", "Samples in a step; 0 keeps what is there">];
  let statistics = [Statistic<"numTypes", "num-types", "Values that got another type">];
}

def AssignPlacementsPass : Pass<"galvatron-assign-placements", "mlir::ModuleOp"> {
  let summary = "Gives every tensor a placement, by the strategy of its layer";
  let description = [{
    Clones each layer type for each strategy in use. In every op each grid axis, and time, takes the
    first logical axis of its strategy's list that the op has and allows; operands must follow, and
    results come out sharded, partial or replicated. Where an operand is placed otherwise, a
    `dist.redistribute` converts it, once for all readers.

    **Before:** phase `plan` is done: `plan.pipeline`, and `plan.strategy` and `plan.stage` on calls.
    **After:** every tensor has a `#dist.placement`; layers are named `<type>.<degrees>` and carry
    their `plan.strategy`; `@redistribute.<n>` layers stand between calls where placements differ.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
      graph.layer @double(%x: tensor<8x16xf32>) -> tensor<8x16xf32> {
        %y = graph.sum %x, %x : (tensor<8x16xf32>, tensor<8x16xf32>) -> tensor<8x16xf32>
        graph.return %y : tensor<8x16xf32>
      }
      func.func @step(%x: tensor<8x16xf32>) -> tensor<8x16xf32> {
        %y = graph.call @double(%x) parameters [] path "double" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x16xf32>) -> tensor<8x16xf32>
        return %y : tensor<8x16xf32>
      }
    }
    ```

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
      graph.layer @double.dp2(%x: tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>) -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>> attributes {plan.strategy = #plan.strategy<dp = 2>} {
        %y = graph.sum %x, %x : (tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>, tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>) -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
        graph.return %y : tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
      }
    }
    ```

    **Fails when:** a degree does not factor the grid or divides no axis of a layer; an op needs the
    whole batch at once and there are several micro-batches.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Clones of layer types">,
                    Statistic<"numRedistributions", "num-redistributions", "Layers that redistribute">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def VerifyPlacementsPass : Pass<"galvatron-verify-placements", "mlir::ModuleOp"> {
  let summary = "Checks every placement against the loops that ops declare";
  let description = [{
    Independent of how placements were assigned: for each op and each grid axis at most one loop is
    cut, every operand and result that has the loop is cut alike, operands that lack it are whole and
    results that lack it partial; partial sums are read only by what is linear in them; a collective
    leads from its operand's placement to its result's; gradients leave where parameters live.

    **Before:** `assign-placements` has run; `insert-collectives` may have.
    **After:** the same module.
    **Example:**

    ```mlir
    graph.layer @double(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
      %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[2@g0 * 4]>>, tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
      graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
    }
    ```

    ```mlir
    graph.layer @double(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
      %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[2@g0 * 4]>>, tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
      graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
    }
    ```

    **Fails when:** a placement is wrong; the error names op, grid axis and operand or result.
  }];
  let statistics = [Statistic<"numOps", "num-ops", "Ops that were checked">];
}

def InsertCollectivesPass : Pass<"galvatron-insert-collectives", "mlir::ModuleOp"> {
  let summary = "Expands redistributions into collectives along grid axes";
  let description = [{
    Per grid axis: nothing to digit is a shard, partial to digit a reduce-scatter, digit to digit an
    all-to-all, partial to nothing an all-reduce, digit to nothing an all-gather. The cheapest order is
    searched; axes that do the same to neighbouring digits are one group.

    **Before:** `assign-placements` has run.
    **After:** no `dist.redistribute` is left.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
      graph.layer @reduce(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
        %y = dist.redistribute %x : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
        graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
      }
    }
    ```

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "gpipe">} {
      graph.layer @reduce(%x: tensor<8xf32, #dist.placement<[8] partial [sum@g0]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
        %y = dist.reduce_scatter %x axes [0] {dim = 0 : i64, kind = 0 : i64, outer = 1 : i64} : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
        graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
      }
    }
    ```

    **Fails when:** no collectives lead from one placement to the other.
  }];
  let statistics = [Statistic<"numRedistributions", "num-redistributions", "Redistributions expanded">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}


//===----------------------------------------------------------------------===//
// Phase stage
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase lower
//===----------------------------------------------------------------------===//


#endif // GALVATRON_TRANSFORMS_PASSES_TD
