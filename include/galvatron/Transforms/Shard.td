// Passes of the phase shard; each is lib/Transforms/Shard/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_SHARD
#define GALVATRON_TRANSFORMS_SHARD

include "mlir/Pass/PassBase.td"

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

def AssignPlacementsPass : Pass<"galvatron-assign-placements", "mlir::ModuleOp"> {
  let summary = "Gives every tensor a placement, by the strategy of its layer";
  let description = [{
    Clones each layer type for each strategy in use. In every op each mesh axis, and time, takes the
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
      func.func @step(%x: tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>) -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>> {
        %y = graph.call @double.dp2(%x) parameters [] path "double" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>) -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
        return %y : tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
      }
    }
    ```

    **Fails when:** a degree does not factor the mesh or divides no axis of a layer; an op needs the
    whole batch at once and there are several micro-batches.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Clones of layer types">,
                    Statistic<"numRedistributions", "num-redistributions", "Layers that redistribute">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def VerifyPlacementsPass : Pass<"galvatron-verify-placements", "mlir::ModuleOp"> {
  let summary = "Checks every placement against the loops that ops declare";
  let description = [{
    Independent of how placements were assigned: for each op and each mesh axis at most one loop is
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

    **Fails when:** a placement is wrong; the error names op, mesh axis and operand or result.
  }];
  let statistics = [Statistic<"numOps", "num-ops", "Ops that were checked">];
}

def InsertCollectivesPass : Pass<"galvatron-insert-collectives", "mlir::ModuleOp"> {
  let summary = "Expands redistributions into collectives along mesh axes";
  let description = [{
    Per mesh axis: nothing to sub-axis is a shard, partial to sub-axis a reduce-scatter, sub-axis to sub-axis an
    all-to-all, partial to nothing an all-reduce, sub-axis to nothing an all-gather. The cheapest order is
    searched; axes that do the same to neighbouring sub-axes are one group.

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
        %y = dist.reduce_scatter sum %x axes [0] {dim = 0 : i64, outer = 1 : i64} : tensor<8xf32, #dist.placement<[8] partial [sum@g0]>> -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
        graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
      }
    }
    ```

    **Fails when:** no collectives lead from one placement to the other.
  }];
  let statistics = [Statistic<"numRedistributions", "num-redistributions", "Redistributions expanded">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def PlanRecomputationPass : Pass<"galvatron-plan-recomputation", "mlir::ModuleOp"> {
  let summary = "Decides which forward values backward keeps and which it recomputes";
  let description = [{
    Under a strategy without recomputation, what backward reads is kept, except what can be recomputed
    for next to nothing from the rest: views, constants, pieces, and elementwise results of values that
    are kept anyway. With recomputation only the layer's arguments are kept.

    **Before:** `insert-collectives` has run.
    **After:** the forward values that `graph.backward` reads are what is saved.
    **Example:**

    ```mlir
    graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
      %y = graph.activation relu %x : tensor<8xf32> -> tensor<8xf32>
      graph.backward(%dy: tensor<8xf32>) {
        %dx = arith.mulf %dy, %y : tensor<8xf32>
        graph.return %dx : tensor<8xf32>
      }
      graph.return %y : tensor<8xf32>
    }
    ```

    ```mlir
    graph.layer @relu(%x: tensor<8xf32>) -> tensor<8xf32> {
      %y = graph.activation relu %x : tensor<8xf32> -> tensor<8xf32>
      graph.backward(%dy: tensor<8xf32>) {
        %again = graph.activation relu %x : tensor<8xf32> -> tensor<8xf32>
        %dx = arith.mulf %dy, %again : tensor<8xf32>
        graph.return %dx : tensor<8xf32>
      }
      graph.return %y : tensor<8xf32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numKept", "num-kept", "Values kept from forward to backward">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def FuseExchangesPass : Pass<"galvatron-fuse-exchanges", "mlir::ModuleOp"> {
  let summary = "Makes one all-to-all of those that go to the same devices at the same time";
  let description = [{
    All-to-alls of one layer and direction over the same mesh axes, of which none needs another one's result, become
    one where the last of their operands is there: queries, keys and values under Ulysses, and their gradients. Views
    (reshapes, slices, transposes) of operands and results move out of the way; where anything else reads a result
    before the last operand is there, its all-to-all stays alone.

    **Before:** `insert-collectives` and `plan-recomputation` have run.
    **After:** as few messages as there are moments at which values are exchanged.
    **Example:**

    ```mlir
    graph.layer @heads(%k: tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>, %v: tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>) -> (tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>) {
      %0 = dist.all_to_all %k axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 2 : i64, split_outer = 1 : i64} : tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>> -> tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
      %1 = dist.all_to_all %v axes [0] {concat_dim = 1 : i64, concat_outer = 1 : i64, split_dim = 2 : i64, split_outer = 1 : i64} : tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>> -> tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
      graph.return %0, %1 : tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
    }
    ```

    ```mlir
    graph.layer @heads(%k: tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>, %v: tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>) -> (tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>) {
      %0:2 = dist.coalesced_all_to_all %k, %v axes [0] {concat_dims = array<i64: 1, 1>, concat_outers = array<i64: 1, 1>, split_dims = array<i64: 2, 2>, split_outers = array<i64: 1, 1>} : (tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>, tensor<8x16x4xf32, #dist.placement<[8, 2@g0 * 8, 4]>>) -> (tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>)
      graph.return %0#0, %0#1 : tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>, tensor<8x16x4xf32, #dist.placement<[8, 16, 2@g0 * 2]>>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numFused", "num-fused", "All-to-alls that joined another">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def SplitTensorsPass : Pass<"galvatron-split-tensors", "mlir::ModuleOp"> {
  let summary = "Turns layers into bodies on what one device holds";
  let description = [{
    Each layer becomes a `dist.body` for forward, one for backward, and a `dist.layer` of its name that
    ties them together and keeps the placements. Ops that read their global index get `dist.position`.

    **Before:** `insert-collectives` and `plan-recomputation` have run.
    **After:** bodies have local shapes and no encodings; the calls of `@step` name `dist.layer`s.
    **Example:**

    ```mlir
    graph.layer @double(%x: tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>> {
      %y = graph.sum %x, %x : (tensor<8xf32, #dist.placement<[2@g0 * 4]>>, tensor<8xf32, #dist.placement<[2@g0 * 4]>>) -> tensor<8xf32, #dist.placement<[2@g0 * 4]>>
      graph.return %y : tensor<8xf32, #dist.placement<[2@g0 * 4]>>
    }
    ```

    ```mlir
    dist.body @double.forward(%x: tensor<4xf32>) -> tensor<4xf32> {
      %y = graph.sum %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      dist.return %y : tensor<4xf32>
    }
    dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
    ```

    **Fails when:** a layer has no placements.
  }];
  let statistics = [Statistic<"numBodies", "num-layers", "Layers that were split">,
                    Statistic<"numSaved", "num-saved", "Values saved by forward bodies">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def InsertRingsPass : Pass<"galvatron-insert-rings", "mlir::ModuleOp"> {
  let summary = "Replaces gathers of keys and values by rings where a strategy says so";
  let description = [{
    Where a layer's strategy has `cp_kind = ring`, attention reads one device's keys and values after another, as
    permutes bring them round, and results are merged by their log-sum-exps. In backward the gradients of keys and values
    travel with them. A bias on the scores is computed anew for each step's keys.

    **Before:** `split-tensors` has run: attention reads keys and values that were gathered along their positions.
    **After:** in layers with a ring no attention reads gathered keys; others, as below, are as they were.
    **Example:**

    ```mlir
    dist.body @l.forward(%k: tensor<1x1x4x8xf32>) -> tensor<1x1x8x8xf32> {
      %all = dist.all_gather %k axes [0] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
      dist.return %all : tensor<1x1x8x8xf32>
    }
    dist.layer @l {forward = @l.forward, gradients = [], homes = [#dist.placement<[1, 1, 4, 8]>], input_gradients = [], inputs = [], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[1, 1, 8, 8]>], plan.strategy = #plan.strategy<cp = 2, cp_kind = gathered>}
    ```

    ```mlir
    dist.body @l.forward(%k: tensor<1x1x4x8xf32>) -> tensor<1x1x8x8xf32> {
      %all = dist.all_gather %k axes [0] {dim = 2 : i64, outer = 1 : i64} : tensor<1x1x4x8xf32> -> tensor<1x1x8x8xf32>
      dist.return %all : tensor<1x1x8x8xf32>
    }
    dist.layer @l {forward = @l.forward, gradients = [], homes = [#dist.placement<[1, 1, 4, 8]>], input_gradients = [], inputs = [], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[1, 1, 8, 8]>], plan.strategy = #plan.strategy<cp = 2, cp_kind = gathered>}
    ```

    **Fails when:** attention's keys or values are not gathered along their positions.
  }];
  let statistics = [Statistic<"numRings", "num-rings", "Attentions that were unrolled">];
  let dependentDialects = ["::galvatron::dist::DistDialect", "::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

def FuseSlicesPass : Pass<"galvatron-fuse-slices", "mlir::ModuleOp"> {
  let summary = "Makes one product of those with the pieces of one parameter";
  let description = [{
    A parameter that holds several matrices (q, k and v of GPT-2) is cut into them for placement. Afterwards one
    product computes all pieces again, bias included, one the input's gradient, one the parameter's: nothing is left
    of the sums of padded pieces.

    **Before:** `dist.body`s on local shapes (after `galvatron-split-tensors`).
    **After:** no products with slices that together are a whole parameter; their results are slices of one.
    **Example:**

    ```mlir
    dist.body @b(%x: tensor<4x8xf32>, %w: tensor<8x32xf32>) -> (tensor<4x16xf32>, tensor<4x16xf32>) {
      %0 = graph.slice %w offsets [0, 0] : tensor<8x32xf32> -> tensor<8x16xf32>
      %1 = graph.einsum %x, %0 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
      %2 = graph.slice %w offsets [0, 16] : tensor<8x32xf32> -> tensor<8x16xf32>
      %3 = graph.einsum %x, %2 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
      dist.return %1, %3 : tensor<4x16xf32>, tensor<4x16xf32>
    }
    ```

    ```mlir
    dist.body @b(%arg0: tensor<4x8xf32>, %arg1: tensor<8x32xf32>) -> (tensor<4x16xf32>, tensor<4x16xf32>) {
      %0 = graph.einsum %arg0, %arg1 "ac,cd->ad" : (tensor<4x8xf32>, tensor<8x32xf32>) -> tensor<4x32xf32>
      %1 = graph.slice %0 offsets [0, 0] : tensor<4x32xf32> -> tensor<4x16xf32>
      %2 = graph.slice %0 offsets [0, 16] : tensor<4x32xf32> -> tensor<4x16xf32>
      dist.return %1, %2 : tensor<4x16xf32>, tensor<4x16xf32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numFused", "num-fused", "Products that joined another">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def FuseParametersPass : Pass<"galvatron-fuse-parameters", "mlir::ModuleOp"> {
  let summary = "Makes one product of those that share an operand, over parameters that lie together";
  let description = [{
    Where parameters multiply the same value in the same way (q, k, v; gate, up), they are laid out one after
    another, and one product computes all results, one the input's gradient, one all their gradients: larger
    products run at a higher rate, and no sum of gradients is left. Results that are all kept for backward
    are kept as one. It changes where parameters lie and nothing else: names, shapes and checkpoints stay.

    **Before:** `dist.layer`s with their `dist.body`s (after `galvatron-split-tensors`).
    **After:** a layer names its groups in `dist.adjacent`; `graph.concat`s of their parameters and the products
    whose rows are their gradients carry the attribute too.
    **Example:**

    ```mlir
    dist.body @l.forward(%x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> tensor<4x32xf32> {
      %0 = graph.einsum %x, %q "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
      %1 = graph.einsum %x, %k "ac,dc->ad" : (tensor<4x32xf32>, tensor<32x32xf32>) -> tensor<4x32xf32>
      dist.return %0 : tensor<4x32xf32>
    }
    dist.body @l.backward(%dy: tensor<4x32xf32>, %x: tensor<4x32xf32>, %q: tensor<32x32xf32>, %k: tensor<32x32xf32>) -> (tensor<32x32xf32>, tensor<32x32xf32>) {
      %0 = graph.einsum %dy, %x "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
      dist.return %0, %0 : tensor<32x32xf32>, tensor<32x32xf32>
    }
    dist.layer @l {forward = @l.forward, backward = @l.backward, inputs = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>], input_gradients = [unit], output_gradients = [#dist.placement<[4, 32]>], homes = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], gradients = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], num_saved = 0 : i64}
    ```

    ```mlir
    dist.body @l.forward(%arg0: tensor<4x32xf32>, %arg1: tensor<32x32xf32>, %arg2: tensor<32x32xf32>) -> tensor<4x32xf32> {
      %0 = graph.concat %arg1, %arg2 {dim = 0 : i64, dist.adjacent} : (tensor<32x32xf32>, tensor<32x32xf32>) -> tensor<64x32xf32>
      %1 = graph.einsum %arg0, %0 "ac,dc->ad" : (tensor<4x32xf32>, tensor<64x32xf32>) -> tensor<4x64xf32>
      %2 = graph.slice %1 offsets [0, 0] : tensor<4x64xf32> -> tensor<4x32xf32>
      %3 = graph.slice %1 offsets [0, 32] : tensor<4x64xf32> -> tensor<4x32xf32>
      dist.return %2 : tensor<4x32xf32>
    }
    dist.body @l.backward(%arg0: tensor<4x32xf32>, %arg1: tensor<4x32xf32>, %arg2: tensor<32x32xf32>, %arg3: tensor<32x32xf32>) -> (tensor<32x32xf32>, tensor<32x32xf32>) {
      %0 = graph.einsum %arg0, %arg1 "ad,ac->dc" : (tensor<4x32xf32>, tensor<4x32xf32>) -> tensor<32x32xf32>
      dist.return %0, %0 : tensor<32x32xf32>, tensor<32x32xf32>
    }
    dist.layer @l {backward = @l.backward, dist.adjacent = [array<i64: 0, 1>], forward = @l.forward, gradients = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], homes = [#dist.placement<[32, 32]>, #dist.placement<[32, 32]>], input_gradients = [unit], inputs = [#dist.placement<[4, 32]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[4, 32]>], outputs = [#dist.placement<[4, 32]>]}
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numFused", "num-fused", "Products that joined another">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def VerifyShardPass : Pass<"galvatron-verify-shard", "mlir::ModuleOp"> {
  let summary = "Checks that layers are bodies on local shapes";
  let description = [{
    **Before:** `split-tensors` has run.
    **After:** the same module.
    **Example:**

    ```mlir
    dist.body @double.forward(%x: tensor<4xf32>) -> tensor<4xf32> {
      %y = graph.sum %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      dist.return %y : tensor<4xf32>
    }
    dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
    ```

    ```mlir
    dist.body @double.forward(%x: tensor<4xf32>) -> tensor<4xf32> {
      %y = graph.sum %x, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      dist.return %y : tensor<4xf32>
    }
    dist.layer @double {forward = @double.forward, gradients = [], homes = [], input_gradients = [], inputs = [#dist.placement<[2@g0 * 4]>], num_saved = 0 : i64, output_gradients = [], outputs = [#dist.placement<[2@g0 * 4]>]}
    ```

    **Fails when:** a global type, a layer or a redistribution is left, or a body's types do not fit the
    placements of its layer.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers that were checked">];
}

#endif // GALVATRON_TRANSFORMS_SHARD
