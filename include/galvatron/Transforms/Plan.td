// Passes of the phase plan; each is lib/Transforms/Plan/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_PLAN
#define GALVATRON_TRANSFORMS_PLAN

include "mlir/Pass/PassBase.td"

def AnnotatePlanPass : Pass<"galvatron-annotate-plan", "mlir::ModuleOp"> {
  let summary = "Writes a plan that the user gives on the model's layers";
  let description = [{
    The plan is a file, in this project's format or in Hetu-Galvatron's, or, without `plan`, one
    strategy for all layers, made from the degrees given as options; then stages get equal numbers of
    layers (the remainder goes to the last), the first stage what reads data and the last the loss.

    **Before:** the contract of phase `import` or `differentiate`; `graph.batch` is the plan's.
    **After:** `plan.pipeline` on the module, `plan.strategy` and `plan.stage` on each `graph.call`.
    **Example:** with `dp=2 micro-batches=2`

    ```mlir
    module attributes {graph.batch = 4 : i64} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    **Fails when:** the file cannot be read or is not a plan of this model (unknown key, wrong number
    of layers, a degree that does not divide ranks or batch); it asks for what the lowering lacks.
  }];
  let options = [
    Option<"planFile", "plan", "std::string", /*default=*/"", "Plan file; empty: a uniform plan from the degrees below">,
    Option<"ranks", "ranks", "int64_t", /*default=*/"0", "Ranks that the plan must use; 0: as many as it says">,
    Option<"pp", "pp", "int64_t", /*default=*/"1", "Pipeline stages of the uniform plan">,
    Option<"tp", "tp", "int64_t", /*default=*/"1", "Tensor parallel degree of the uniform plan">,
    Option<"dp", "dp", "int64_t", /*default=*/"1", "Data parallel degree of the uniform plan">,
    Option<"microBatches", "micro-batches", "int64_t", /*default=*/"1", "Micro-batches of the uniform plan">,
    Option<"schedule", "schedule", "std::string", /*default=*/"\"1f1b\"", "Schedule of the uniform plan: gpipe or 1f1b">,
    Option<"recompute", "recompute", "bool", /*default=*/"false", "Whether layers of the uniform plan recompute">,
  ];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers that were given a strategy">];
  let dependentDialects = ["::galvatron::plan::PlanDialect"];
}

def SearchPlanPass : Pass<"galvatron-search-plan", "mlir::ModuleOp"> {
  let summary = "Searches the fastest plan that fits the memory of every device";
  let description = [{
    Costs of each layer type under each strategy come from the program: operations and bytes of its ops,
    the axes that tensor parallelism may cut, all-reduces where partial sums are read, values that
    backward keeps. The search is exact for these costs; memory is an estimate until the plan is lowered,
    so the driver gives the pass a solver of its own, which lowers plans to copies of the program and goes by
    their bytes. A step in which some op needs the whole batch is offered one micro-batch only.

    **Before:** the contract of phase `differentiate`.
    **After:** `plan.pipeline` and `plan.predicted_step_seconds` on the module, `plan.strategy` and
    `plan.stage` on each `graph.call`.
    **Example:** with `ranks=1 memory=1GiB`

    ```mlir
    module attributes {graph.batch = 1 : i64} {
      graph.layer @same(%x: tensor<1xf32>) -> tensor<1xf32> {
        graph.backward(%dy: tensor<1xf32>) {
          graph.return %dy : tensor<1xf32>
        }
        graph.return %x : tensor<1xf32>
      }
      func.func @step(%x: tensor<1xf32>) -> tensor<1xf32> {
        %0 = graph.call @same(%x) parameters [] path "same" : (tensor<1xf32>) -> tensor<1xf32>
        return %0 : tensor<1xf32>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 1 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "1f1b">} {
      graph.layer @same(%x: tensor<1xf32>) -> tensor<1xf32> {
        graph.backward(%dy: tensor<1xf32>) {
          graph.return %dy : tensor<1xf32>
        }
        graph.return %x : tensor<1xf32>
      }
      func.func @step(%x: tensor<1xf32>) -> tensor<1xf32> {
        %0 = graph.call @same(%x) parameters [] path "same" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<>} : (tensor<1xf32>) -> tensor<1xf32>
        return %0 : tensor<1xf32>
      }
    }
    ```

    **Fails when:** no plan fits (says the smallest budget that does and the layer in the way); the
    cluster cannot be read; a layer has no backward.
  }];
  let options = [
    Option<"clusterFile", "cluster", "std::string", /*default=*/"", "Cluster file (cluster.json), instead of ranks">,
    Option<"profileFile", "profile", "std::string", /*default=*/"", "Profile (profile.json) that prices the devices; without a cluster file it is the cluster, too">,
    Option<"deviceKind", "device-kind", "std::string", /*default=*/"\"cpu\"", "Kind of the devices where no cluster file says it">,
    Option<"ranks", "ranks", "int64_t", /*default=*/"0", "Devices of this host; 0: as many as it has cores">,
    Option<"memory", "memory", "std::string", /*default=*/"", "Budget of one device, such as 2GiB; empty: the cluster's, or a share of this host's">,
    Option<"overhead", "reserve", "int64_t", /*default=*/"0", "Bytes of the budget to leave free">,
    Option<"microBatches", "micro-batches", "int64_t", /*default=*/"0", "Exactly so many; 0: all counts that divide the batch and that the step can be cut into">,
  ];
  let statistics = [Statistic<"numCandidates", "num-candidates", "Pipelines and micro-batch counts in the space">,
                    Statistic<"numOpened", "num-opened", "Of these, searched to the end">];
  let dependentDialects = ["::galvatron::dist::DistDialect", "::galvatron::plan::PlanDialect"];
}

def PadDimensionsPass : Pass<"galvatron-pad-dimensions", "mlir::ModuleOp"> {
  let summary = "Pads heads, widths, vocabularies and positions to multiples of degrees, where the plan asks for it";
  let description = [{
    A layer type is rewritten for each way to pad it, with masks where padding would count: logits of rows beyond the
    vocabulary are the lowest number, gradients of padding are 0. Parameters are 0 there and stay so under every
    optimizer; `graph.padding` says which elements files hold. A tied parameter is padded to what all its
    layers need. Positions are padded in all layers alike, to `graph.padded_seq`: labels there are ignored.

    **Before:** `plan.pipeline` on the module, `plan.strategy` on each `graph.call`, layers differentiated.
    **After:** where a strategy says `pad`, its degrees divide the axes that they cut.
    **Example:**

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
      graph.layer @mlp(%x: tensor<4x8xf32>, %w: tensor<3x8xf32> {graph.parameter = "w"}) -> tensor<4x8xf32> {
        %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<3x8xf32>) -> tensor<4x3xf32>
        %1 = graph.einsum %0, %w "bo,oi->bi" : (tensor<4x3xf32>, tensor<3x8xf32>) -> tensor<4x8xf32>
        graph.return %1 : tensor<4x8xf32>
      }
      func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
        %0 = graph.call @mlp(%x) parameters ["w"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, pad = true>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
        return %0 : tensor<4x8xf32>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 1, schedule = "1f1b">} {
      graph.layer @mlp.padded(%x: tensor<4x8xf32>, %w: tensor<4x8xf32> {graph.padding = #graph.padding<[3 pad 1, 8]>, graph.parameter = "w"}) -> tensor<4x8xf32> attributes {plan.layer_type = "mlp", plan.values = []} {
        %0 = graph.einsum %x, %w "bi,oi->bo" : (tensor<4x8xf32>, tensor<4x8xf32>) -> tensor<4x4xf32>
        %1 = graph.einsum %0, %w "bo,oi->bi" : (tensor<4x4xf32>, tensor<4x8xf32>) -> tensor<4x8xf32>
        graph.return %1 : tensor<4x8xf32>
      }
      func.func @step(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
        %0 = graph.call @mlp.padded(%x) parameters ["w"] path "mlp" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<tp = 2, pad = true>} : (tensor<4x8xf32>) -> tensor<4x8xf32>
        return %0 : tensor<4x8xf32>
      }
    }
    ```

    **Fails when:** an op of the layer would compute something else: it reads the index of elements along an axis whose
    index padding changes, draws random numbers by it (dropout), takes the axis whole, or lets positions see those after
    them.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers that were padded">,
                    Statistic<"numMasks", "num-masks", "Values of which padding was masked">];
}

def VerifyPlanPass : Pass<"galvatron-verify-plan", "mlir::ModuleOp"> {
  let summary = "Verifies that every layer has one legal strategy";
  let description = [{
    The contract of phase `plan`, whoever wrote the attributes.

    **Before:** `plan.pipeline` on the module, `plan.strategy` and `plan.stage` on each `graph.call`.
    **After:** unchanged. Degrees multiply to the stage's devices, data-parallel degrees divide the
    micro-batch, stages rise one by one from 0 and none is empty, and the lowering can run it all.
    **Example:**

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    ```mlir
    module attributes {graph.batch = 4 : i64, plan.pipeline = #plan.pipeline<stages = 1, devices = 2, micro_batches = 2, schedule = "1f1b">} {
      graph.layer @mean(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = arith.constant dense<0.0> : tensor<f32>
        graph.return %0 : tensor<f32>
      }
      func.func @step(%ids: tensor<4xi64>) -> tensor<f32> {
        %0 = graph.call @mean(%ids) parameters [] path "mean" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<4xi64>) -> tensor<f32>
        return %0 : tensor<f32>
      }
    }
    ```

    **Fails when:** an attribute is missing, a degree does not divide, or a strategy is not supported.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers that were verified">];
}

#endif // GALVATRON_TRANSFORMS_PLAN
