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

//===----------------------------------------------------------------------===//
// Phase differentiate
//===----------------------------------------------------------------------===//

def FlattenSumsPass : Pass<"galvatron-flatten-sums"> {
  let summary = "Makes one n-ary graph.sum of each tree of additions";
  let description = [{
    Partial sums wait in a sum until all its operands are there, so a parallel attention and MLP block
    needs one all-reduce instead of two. An addition whose result has one use joins the sum that uses
    it. The addition of a constant stays arithmetic: it is never partial.

    **Before:** additions are `arith.addf` or `graph.sum`.
    **After:** no operand of a `graph.sum` is another one's only use.
    **Example:**

    ```mlir
    func.func @example(%x: tensor<4xf32>, %attention: tensor<4xf32>, %mlp: tensor<4xf32>) -> tensor<4xf32> {
      %0 = arith.addf %x, %attention : tensor<4xf32>
      %1 = arith.addf %0, %mlp : tensor<4xf32>
      return %1 : tensor<4xf32>
    }
    ```

    ```mlir
    func.func @example(%x: tensor<4xf32>, %attention: tensor<4xf32>, %mlp: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.sum %x, %attention, %mlp : (tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
      return %0 : tensor<4xf32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numFlattened", "num-flattened", "Additions that joined another sum">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def DifferentiatePass : Pass<"galvatron-differentiate", "mlir::ModuleOp"> {
  let summary = "Gives each layer its backward, on global shapes";
  let description = [{
    Reverse-mode differentiation of each `graph.layer`, op by op through `DifferentiableOpInterface`.
    It happens before anything is divided, so that no gradient can be counted twice: what is partial
    later follows from the loops of the backward ops alone.

    **Before:** layers without `graph.backward`.
    **After:** each layer ends in one `graph.backward` that yields a gradient for each argument of float
    type (zeros where the argument is not used), or in the pair `input`, `weight`. Several uses of a
    value are added in one `graph.sum`. Statistics that a backward needs (of cross-entropy) stand in
    the forward.
    **Example:**

    ```mlir
    graph.layer @example(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "weight"}) -> tensor<8x6xf32> {
      %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
      graph.return %y : tensor<8x6xf32>
    }
    ```

    ```mlir
    graph.layer @example(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "weight"}) -> tensor<8x6xf32> {
      %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
      graph.backward(%dy: tensor<8x6xf32>) {
        %dx = graph.einsum %dy, %w "bo,oi->bi" : (tensor<8x6xf32>, tensor<6x4xf32>) -> tensor<8x4xf32>
        %dw = graph.einsum %dy, %x "bo,bi->oi" : (tensor<8x6xf32>, tensor<8x4xf32>) -> tensor<6x4xf32>
        graph.return %dx, %dw : tensor<8x4xf32>, tensor<6x4xf32>
      }
      graph.return %y : tensor<8x6xf32>
    }
    ```

    **Fails when:** a layer already has a backward, or a gradient flows into an op that has no rule for it.
  }];
  let options = [Option<"splitBackward", "split-backward", "bool", "false",
      "Build the pair of input and weight gradients, for schedules that run them apart">];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers that were differentiated">,
                    Statistic<"numOps", "num-ops", "Ops that a gradient flowed through">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def ExpandCrossEntropyPass : Pass<"galvatron-expand-cross-entropy"> {
  let summary = "Rewrites cross-entropy into statistics over the vocabulary and arithmetic on rows";
  let description = [{
    Maximum, sum of exponentials and target logit are reductions over the vocabulary, so that a sharded
    vocabulary is no special case: each is a partial value of one number a row. CSE afterwards shares
    the first two with the backward.

    **Before:** any program; `differentiate` has run if there are gradients.
    **After:** no `graph.cross_entropy`. loss = 1/n · Σ over rows of (log sum_exp + max - target), the
    first two terms 0 where the label is ignored, as the third is; n is the number of valid labels.
    **Example:**

    ```mlir
    func.func @example(%logits: tensor<8x16xf32>, %labels: tensor<8xi64>) -> tensor<f32> {
      %loss = graph.cross_entropy %logits, %labels : (tensor<8x16xf32>, tensor<8xi64>) -> tensor<f32>
      return %loss : tensor<f32>
    }
    ```

    ```mlir
    func.func @example(%logits: tensor<8x16xf32>, %labels: tensor<8xi64>) -> tensor<f32> {
      %max = graph.reduce max %logits dims [1] : tensor<8x16xf32> -> tensor<8xf32>
      %sum = graph.sum_exp %logits, %max : (tensor<8x16xf32>, tensor<8xf32>) -> tensor<8xf32>
      %target = graph.target_logit %logits, %labels {ignore_index = -100 : i64} : (tensor<8x16xf32>, tensor<8xi64>) -> tensor<8xf32>
      %log = math.log %sum : tensor<8xf32>
      %lse = arith.addf %log, %max : tensor<8xf32>
      %ignored = arith.constant dense<-100> : tensor<8xi64>
      %counts = arith.cmpi ne, %labels, %ignored : tensor<8xi64>
      %zero = arith.constant dense<0.000000e+00> : tensor<8xf32>
      %masked = arith.select %counts, %lse, %zero : tensor<8xi1>, tensor<8xf32>
      %rows = arith.subf %masked, %target : tensor<8xf32>
      %total = graph.reduce sum %rows dims [0] : tensor<8xf32> -> tensor<f32>
      %share = arith.constant dense<1.250000e-01> : tensor<f32>
      %loss = arith.mulf %total, %share : tensor<f32>
      return %loss : tensor<f32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numExpanded", "num-expanded", "Cross-entropies that were rewritten">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}


//===----------------------------------------------------------------------===//
// Phase plan
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase shard
//===----------------------------------------------------------------------===//


//===----------------------------------------------------------------------===//
// Phase stage
//===----------------------------------------------------------------------===//

def PartitionStagesPass : Pass<"galvatron-partition-stages", "mlir::ModuleOp"> {
  let summary = "Cuts the step into one list of layers per pipeline stage";
  let description = [{
    A value that a later stage reads is sent from neighbour to neighbour; every rank sends to the rank
    of the same device index. Layers are numbered over the whole model (`dist.unit`), so that random
    bits do not depend on the stages.

    **Before:** `@step` of calls of `dist.layer`s, each with `plan.stage`, not falling.
    **After:** a `dist.stage` per stage; no `@step`.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      func.func @step(%ids: tensor<4xi64, #dist.placement<[4]>>, %labels: tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>> {
        %0 = graph.call @all(%ids, %labels) parameters [] path "all" {plan.stage = 0 : i64} : (tensor<4xi64, #dist.placement<[4]>>, tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>>
        return %0 : tensor<f32, #dist.placement<[]>>
      }
    }
    ```

    ```mlir
    dist.stage @stage0 index 0 {
      %0 = dist.input "input_ids" : tensor<4xi64, #dist.placement<[4]>>
      %1 = dist.input "labels" : tensor<4xi64, #dist.placement<[4]>>
      %2 = graph.call @all(%0, %1) parameters [] path "all" : (tensor<4xi64, #dist.placement<[4]>>, tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>>
      dist.loss %2 : tensor<f32, #dist.placement<[]>>
    }
    ```

    **Fails when:** a call has no stage, or stages fall along the model; a stage has no layer; the step does not return a loss.
  }];
  let statistics = [Statistic<"numStages", "num-stages", "Stages that were made">,
                    Statistic<"numTransfers", "num-transfers", "Values sent from one stage to the next">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def ScheduleMicrobatchesPass : Pass<"galvatron-schedule-microbatches", "mlir::ModuleOp"> {
  let summary = "Gives every stage the order of its micro-batches";
  let description = [{
    GPipe (Huang et al. 2019): all forwards, then all backwards. 1F1B (Narayanan et al. 2021): as many
    forwards ahead as there are later stages, then one forward and one backward in turn, so that a
    stage holds the activations of at most `stages - index` micro-batches.

    **Before:** `dist.stage`s without an order; `plan.pipeline` on the module.
    **After:** each has its order.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
      dist.stage @stage0 index 0 {
      }
    }
    ```

    ```mlir
    dist.stage @stage0 index 0 order ["F0", "B0", "F1", "B1"] {
    }
    ```

    **Fails when:** the schedule is unknown; the module has no `plan.pipeline`.
  }];
  let statistics = [Statistic<"numEntries", "num-entries", "Forwards and backwards that were ordered">];
}

//===----------------------------------------------------------------------===//
// Phase lower
//===----------------------------------------------------------------------===//

def PlanMemoryPass : Pass<"galvatron-plan-memory", "mlir::ModuleOp"> {
  let summary = "Counts every stage's memory to the byte and proves that its transfers end";
  let description = [{
    Expands each stage's timetable, gives every slot (parameters, gradients, moments, activations of
    micro-batches in flight, scratch) its offset, and writes the size of the arena,
    `dist.arena_bytes`: the one allocation that a rank makes. Then executes all timetables together
    with unbuffered transfers: each rank's list is straight, so one execution that ends proves that
    no interleaving can deadlock.

    **Before:** `dist.stage`s with their order; bodies are `exec.function`s.
    **After:** every stage has `dist.arena_bytes`.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      dist.stage @stage0 index 0 order ["F0", "B0"] {
      }
    }
    ```

    ```mlir
    dist.stage @stage0 index 0 order ["F0", "B0"] attributes {dist.arena_bytes = 0 : i64} {
    }
    ```

    **Fails when:** a stage has no order; a call names a layer or body that is not there; a tied parameter has two placements; a send has no receive; stages wait for one another.
  }];
  let statistics = [Statistic<"numSlots", "num-slots", "Slots that were placed">];
}

#endif // GALVATRON_TRANSFORMS_PASSES_TD
