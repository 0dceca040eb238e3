// Passes of the phase stage; each is lib/Transforms/Stage/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_STAGE
#define GALVATRON_TRANSFORMS_STAGE

include "mlir/Pass/PassBase.td"

def PartitionStagesPass : Pass<"galvatron-partition-stages", "mlir::ModuleOp"> {
  let summary = "Cuts the step into one list of layers per pipeline stage";
  let description = [{
    A value that a later stage reads is sent from neighbour to neighbour; every rank sends to the rank
    of the same device index. Layers are numbered over the whole model (`dist.layer_index`), so that random
    bits do not depend on the stages.

    **Before:** `@step` of calls of `dist.layer`s, each with `plan.stage`, not falling.
    **After:** a `dist.stage` per stage; no `@step`.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      graph.layer @all(%ids: tensor<4xi64, #dist.placement<[4]>>, %labels: tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>> {
        %loss = arith.constant dense<0.0> : tensor<f32, #dist.placement<[]>>
        graph.return %loss : tensor<f32, #dist.placement<[]>>
      }
      func.func @step(%ids: tensor<4xi64, #dist.placement<[4]>>, %labels: tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>> {
        %0 = graph.call @all(%ids, %labels) parameters [] path "all" {plan.stage = 0 : i64} : (tensor<4xi64, #dist.placement<[4]>>, tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>>
        return %0 : tensor<f32, #dist.placement<[]>>
      }
    }
    ```

    ```mlir
    module attributes {dist.layer_paths = [], plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      graph.layer @all(%arg0: tensor<4xi64, #dist.placement<[4]>>, %arg1: tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>> {
        %cst = arith.constant dense<0.000000e+00> : tensor<f32, #dist.placement<[]>>
        graph.return %cst : tensor<f32, #dist.placement<[]>>
      }
      dist.stage @stage0 index 0 {
        %0 = dist.input "input_ids" : tensor<4xi64, #dist.placement<[4]>>
        %1 = dist.input "labels" : tensor<4xi64, #dist.placement<[4]>>
        %2 = graph.call @all(%0, %1) parameters [] path "all" {plan.stage = 0 : i64} : (tensor<4xi64, #dist.placement<[4]>>, tensor<4xi64, #dist.placement<[4]>>) -> tensor<f32, #dist.placement<[]>>
        dist.loss %2 : tensor<f32, #dist.placement<[]>>
      }
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
    stage holds the activations of at most `stages - index` micro-batches. The search makes the list
    (`lib/Search/Model/Timetable.cpp`): what it prices is what runs.

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
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
      dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
      }
    }
    ```

    **Fails when:** the module has no `plan.pipeline`.
  }];
  let statistics = [Statistic<"numInstructions", "num-instructions", "Forwards and backwards that were ordered">];
}

def SplitBackwardPass : Pass<"galvatron-split-backward", "mlir::ModuleOp"> {
  let summary = "Puts off gradients of weights, where the schedule has a place for them";
  let description = [{
    Under zero-bubble schedules (Qi et al. 2023) the stage before waits for gradients of inputs alone. Products that are gradients of
    weights, what depends on them, and collectives that nothing else needs move into a body of their own, `weights`; what
    the backward body computes and they read is its result, kept until then. Nothing is computed twice: what is gathered
    is kept or gathered again as the strategy says. Gradients that need no product (norms, biases, tables) stay.
    A call's `plan.split_backward` says whether its layer's backward is split; without it, it is, but where a layer's
    results are terms of the loss alone.

    **Before:** `dist.stage`s whose calls' layers have their bodies; `plan.pipeline` on the module.
    **After:** under zero-bubble schedules layers have `weights`, `put_off` and `num_kept`; under all others the same module.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "zb-h1">} {
      dist.body @l.forward(%x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> tensor<4x8xf32> { %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32> dist.return %0 : tensor<4x8xf32> }
      dist.body @l.backward(%dy: tensor<4x8xf32>, %x: tensor<4x8xf32>, %w: tensor<8x8xf32>) -> (tensor<4x8xf32>, tensor<8x8xf32>) {
        %0 = graph.einsum %dy, %w "bo,oi->bi" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32>
        %1 = graph.einsum %dy, %x "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
        dist.return %0, %1 : tensor<4x8xf32>, tensor<8x8xf32>
      }
      dist.layer @l {backward = @l.backward, forward = @l.forward, gradients = [#dist.placement<[8, 8]>], homes = [#dist.placement<[8, 8]>], input_gradients = [#dist.placement<[4, 8]>], inputs = [#dist.placement<[4, 8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[4, 8]>], outputs = [#dist.placement<[4, 8]>]}
      dist.stage @stage0 index 0 { %0 = dist.receive from 1 tag 0 : tensor<4x8xf32, #dist.placement<[4, 8]>> %1 = graph.call @l(%0) parameters ["w"] path "l" : (tensor<4x8xf32, #dist.placement<[4, 8]>>) -> tensor<4x8xf32, #dist.placement<[4, 8]>> dist.send %1 to 1 tag 1 : tensor<4x8xf32, #dist.placement<[4, 8]>> }
    }
    ```

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "zb-h1">} {
      dist.body @l.forward(%arg0: tensor<4x8xf32>, %arg1: tensor<8x8xf32>) -> tensor<4x8xf32> { %0 = graph.einsum %arg0, %arg1 "bi,oi->bo" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32> dist.return %0 : tensor<4x8xf32> }
      dist.body @l.backward(%arg0: tensor<4x8xf32>, %arg1: tensor<4x8xf32>, %arg2: tensor<8x8xf32>) -> tensor<4x8xf32> { %0 = graph.einsum %arg0, %arg2 "bo,oi->bi" : (tensor<4x8xf32>, tensor<8x8xf32>) -> tensor<4x8xf32> dist.return %0 : tensor<4x8xf32> }
      dist.body @l.weights(%arg0: tensor<4x8xf32>, %arg1: tensor<4x8xf32>, %arg2: tensor<8x8xf32>) -> tensor<8x8xf32> {
        %0 = graph.einsum %arg0, %arg1 "bo,bi->oi" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
        dist.return %0 : tensor<8x8xf32>
      }
      dist.layer @l {backward = @l.backward, forward = @l.forward, gradients = [#dist.placement<[8, 8]>], homes = [#dist.placement<[8, 8]>], input_gradients = [#dist.placement<[4, 8]>], inputs = [#dist.placement<[4, 8]>], num_saved = 0 : i64, output_gradients = [#dist.placement<[4, 8]>], outputs = [#dist.placement<[4, 8]>], put_off = array<i64: 0>, weights = @l.weights}
      dist.stage @stage0 index 0 { %0 = dist.receive from 1 tag 0 : tensor<4x8xf32, #dist.placement<[4, 8]>> %1 = graph.call @l(%0) parameters ["w"] path "l" : (tensor<4x8xf32, #dist.placement<[4, 8]>>) -> tensor<4x8xf32, #dist.placement<[4, 8]>> dist.send %1 to 1 tag 1 : tensor<4x8xf32, #dist.placement<[4, 8]>> }
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers with a body for gradients of weights">,
                    Statistic<"numKept", "num-kept", "Values that a backward keeps for it">];
  let dependentDialects = ["::galvatron::dist::DistDialect"];
}

def VerifyStagePass : Pass<"galvatron-verify-stage", "mlir::ModuleOp"> {
  let summary = "Checks that stages know their order, and that the orders end";
  let description = [{
    What one stage sends another receives, once and with the same type. All orders together are executed: a forward
    waits for the stages that it receives from, a backward for those that it sends to.

    **Before:** `schedule-microbatches` has run.
    **After:** the same module.
    **Example:**

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
      dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
        %0 = dist.input "labels" : tensor<f32, #dist.placement<[]>>
        dist.loss %0 : tensor<f32, #dist.placement<[]>>
      }
    }
    ```

    ```mlir
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
      dist.stage @stage0 index 0 order <F0, B0, F1, B1> {
        %0 = dist.input "labels" : tensor<f32, #dist.placement<[]>>
        dist.loss %0 : tensor<f32, #dist.placement<[]>>
      }
    }
    ```

    **Fails when:** the step is not in stages, or not in as many as planned; an order is missing, names an instruction
    twice or too early, or lacks one; a value is sent and not received, or received otherwise than it is sent; stages
    wait for one another.
  }];
  let statistics = [Statistic<"numStages", "num-stages", "Stages that were checked">,
                    Statistic<"numTransfers", "num-transfers", "Values sent from one stage to the next">];
}

#endif // GALVATRON_TRANSFORMS_STAGE
