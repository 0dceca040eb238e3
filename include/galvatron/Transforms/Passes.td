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

def FormTotalsPass : Pass<"galvatron-form-totals", "mlir::ModuleOp"> {
  let summary = "Forms sums over the batch that only labels decide, so that they are known before the first micro-batch";
  let description = [{
    A mean over labels divides by how many count, and nobody who holds only a part of the batch knows that. Each
    `graph.cross_entropy` that is a mean is given its `count`, unless that follows from positions alone; then every
    sum to a scalar that the step's integers decide becomes a `graph.total` of a layer of its own. Where a total
    divides and is zero, one divides instead: a sum over no labels is zero.

    **Before:** everything inline in `@step`, losses recognized.
    **After:** sums over the batch of what the step's inputs say are `graph.total`s.
    **Example:**

    ```mlir
    func.func @step(%labels: tensor<2x4xi64>) -> tensor<f32> {
      %0 = arith.sitofp %labels : tensor<2x4xi64> to tensor<2x4xf32>
      %1 = graph.reduce sum %0 dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
      return %1 : tensor<f32>
    }
    ```

    ```mlir
    graph.layer @total0(%labels: tensor<2x4xi64>) -> tensor<f32> {
      %0 = arith.sitofp %labels : tensor<2x4xi64> to tensor<2x4xf32>
      %1 = graph.reduce sum %0 dims [0, 1] : tensor<2x4xf32> -> tensor<f32>
      graph.return %1 : tensor<f32>
    }
    func.func @step(%labels: tensor<2x4xi64>) -> tensor<f32> {
      %0 = graph.total @total0(%labels) : (tensor<2x4xi64>) -> tensor<f32>
      %1 = graph.detach %0 : tensor<f32>
      return %1 : tensor<f32>
    }
    ```

    **Fails when:** labels whose number divides a mean depend on parameters.
  }];
  let statistics = [
    Statistic<"numTotals", "num-totals", "Sums over the batch that became totals">,
    Statistic<"numCounts", "num-counts", "Means over labels that were given their count">
  ];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

def FormLayersPass : Pass<"galvatron-form-layers", "mlir::ModuleOp"> {
  let summary = "Forms layer types from repeated structure and makes the step a list of calls";
  let description = [{
    Units are the members of module lists, what comes before, between and after them; without module
    paths, the periods of a repeating structure. Units of equal ops, shapes, distributions and relative
    parameter names share one body, found by hash. What is computed from constants, parameters or the
    step's integers alone is cloned into each layer that reads it. What has no gradient in a layer is
    `graph.frozen` there: equal units of which one is frozen, or has nothing to train before it, are of two
    types.

    **Before:** everything inline in `@step`.
    **After:** `@step` is `graph.call`s; only activations and the step's arguments cross layers. Parameters
    that no layer reads are in the module attribute `graph.carried`.
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

    **Fails when:** there is no `@step`, members of a list read each other's values in a cycle, or every
    parameter is frozen.
  }];
  let statistics = [
    Statistic<"numTypes", "num-types", "Layer types formed">,
    Statistic<"numCalls", "num-calls", "Layers in the step">,
    Statistic<"numCarried", "num-carried", "Tensors that no layer reads">
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

def AssignPrecisionPass : Pass<"galvatron-assign-precision", "mlir::ModuleOp"> {
  let summary = "Decides which tensors are bf16 and which f32";
  let description = [{
    With `bf16`, activations and the parameters that products, embeddings and arithmetic read become
    bf16 (a copy of an f32 master that the optimizer keeps). Parameters that only norms read, statistics
    of norms and attention, and all that follows a loss stay f32. Arithmetic is f32: `arith` and `math`
    ops are widened, and what they yield is rounded again.

    **Before:** float tensors are f32; layers have no backward.
    **After:** float tensors that cross layers are bf16, scalars aside.
    **Example:**

    ```mlir
    graph.layer @example(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "weight"}, %g: tensor<6xf32> {graph.parameter = "norm"}) -> tensor<8x6xf32> {
      %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
      %result, %mean, %rstd = graph.norm rms %y weight %g {epsilon = 1.0e-5} : (tensor<8x6xf32>, tensor<6xf32>) -> (tensor<8x6xf32>, tensor<8xf32>, tensor<8xf32>)
      graph.return %result : tensor<8x6xf32>
    }
    ```

    ```mlir
    graph.layer @example(%x: tensor<8x4xbf16>, %w: tensor<6x4xbf16> {graph.parameter = "weight"}, %g: tensor<6xf32> {graph.parameter = "norm"}) -> tensor<8x6xbf16> {
      %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xbf16>, tensor<6x4xbf16>) -> tensor<8x6xbf16>
      %result, %mean, %rstd = graph.norm rms %y weight %g {epsilon = 1.0e-5} : (tensor<8x6xbf16>, tensor<6xf32>) -> (tensor<8x6xbf16>, tensor<8xf32>, tensor<8xf32>)
      graph.return %result : tensor<8x6xbf16>
    }
    ```

    **Fails when:** the precision is neither; a layer has a backward already.
  }];
  let options = [Option<"precision", "precision", "std::string", [{"bf16"}], "fp32 (everything stays as it is) or bf16">];
  let statistics = [Statistic<"numNarrowed", "num-narrowed", "Tensors that became bf16">,
                    Statistic<"numWideParameters", "num-wide-parameters", "Parameters that stayed f32">];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
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
    value are added in one `graph.sum`. Gradients of parameters are f32, straight from the op that
    sums them up, also where parameters are bf16. Statistics that a backward needs (of cross-entropy) stand in
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
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
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
      %log = math.log %sum : tensor<8xf32>  %lse = arith.addf %log, %max : tensor<8xf32>
      %ignored = arith.constant dense<-100> : tensor<8xi64>  %counts = arith.cmpi ne, %labels, %ignored : tensor<8xi64>
      %zero = arith.constant dense<0.0> : tensor<8xf32>
      %masked = arith.select %counts, %lse, %zero : tensor<8xi1>, tensor<8xf32>
      %target = graph.target_logit %logits, %labels {ignore_index = -100 : i64} : (tensor<8x16xf32>, tensor<8xi64>) -> tensor<8xf32>
      %rows = arith.subf %masked, %target : tensor<8xf32>  %total = graph.reduce sum %rows dims [0] : tensor<8xf32> -> tensor<f32>
      %share = arith.constant dense<0.125> : tensor<f32>  %loss = arith.mulf %total, %share : tensor<f32>
      return %loss : tensor<f32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numExpanded", "num-expanded", "Cross-entropies that were rewritten">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def AssignKernelTypesPass : Pass<"galvatron-assign-kernel-types"> {
  let summary = "Converts what a model cast to float64, float16 or a small integer where a function of the runtime reads it";
  let description = [{
    Functions of the runtime and collectives read f32, bf16 and i64. An operand of another type is converted before
    such an op, its result back behind it: float16 is computed in float32 and rounded, float64 in float32 alone.
    Elementwise ops compute in the model's own type, and what moves elements keeps it.

    **Before:** any program; `differentiate` has run if there are gradients, which are of their values' types.
    **After:** ops that a function of the runtime computes have operands and results of f32, bf16, i64 and i1.
    **Example:**

    ```mlir
    func.func @example(%x: tensor<8xf64>) -> tensor<f64> {
      %0 = graph.reduce sum %x dims [0] : tensor<8xf64> -> tensor<f64>
      return %0 : tensor<f64>
    }
    ```

    ```mlir
    func.func @example(%x: tensor<8xf64>) -> tensor<f64> {
      %0 = arith.truncf %x : tensor<8xf64> to tensor<8xf32>
      %1 = graph.reduce sum %0 dims [0] : tensor<8xf32> -> tensor<f32>
      %2 = arith.extf %1 : tensor<f32> to tensor<f64>
      return %2 : tensor<f64>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numConverted", "num-converted", "Operands and results that are converted">];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def VerifyDifferentiatePass : Pass<"galvatron-verify-differentiate", "mlir::ModuleOp"> {
  let summary = "Checks what phase differentiate promises: each layer has its backward, each op its loops and cost";
  let description = [{
    The contract of docs/IR.md after phase `differentiate`. Later phases ask ops for their loops and cost;
    an op that has neither would be replicated and free, silently.

    **Before:** any module.
    **After:** the same module.
    **Example:**

    ```mlir
    graph.layer @example(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.activation silu %x : tensor<4xf32> -> tensor<4xf32>
      graph.backward(%dy: tensor<4xf32>) {
        %dx = graph.activation_backward silu %dy, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
        graph.return %dx : tensor<4xf32>
      }
      graph.return %0 : tensor<4xf32>
    }
    ```

    ```mlir
    graph.layer @example(%x: tensor<4xf32>) -> tensor<4xf32> {
      %0 = graph.activation silu %x : tensor<4xf32> -> tensor<4xf32>
      graph.backward(%dy: tensor<4xf32>) {
        %dx = graph.activation_backward silu %dy, %x : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
        graph.return %dx : tensor<4xf32>
      }
      graph.return %0 : tensor<4xf32>
    }
    ```

    **Fails when:** a layer has float arguments but no backward, a `graph.cross_entropy` is left, or an
    op of a layer declares no loops or no cost.
  }];
  let statistics = [Statistic<"numLayers", "num-layers", "Layers that were looked at">];
}


//===----------------------------------------------------------------------===//
// Phase plan
//===----------------------------------------------------------------------===//

def AnnotatePlanPass : Pass<"galvatron-annotate-plan", "mlir::ModuleOp"> {
  let summary = "Writes a plan that the user gives on the model's layers";
  let description = [{
    The plan is a file, in this project's format or in Hetu-Galvatron's, or, without `plan`, one
    strategy for all units, made from the degrees given as options; then stages get equal numbers of
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
  let statistics = [Statistic<"numUnits", "num-units", "Units that were given a strategy">];
  let dependentDialects = ["::galvatron::plan::PlanDialect"];
}

def SearchPlanPass : Pass<"galvatron-search-plan", "mlir::ModuleOp"> {
  let summary = "Searches the fastest plan that fits the memory of every device";
  let description = [{
    Costs of each layer type under each strategy come from the program: operations and bytes of its ops,
    the axes that tensor parallelism may cut, all-reduces where partial sums are read, values that
    backward keeps. The search is exact for these costs; memory is an estimate until the plan is lowered,
    so the driver measures and, with `reserve`, searches again. A step in which some op needs the whole
    batch is offered one micro-batch only.

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
    Option<"deviceKind", "device-kind", "std::string", /*default=*/"\"cpu\"", "Kind of the devices where no cluster file says it">,
    Option<"ranks", "ranks", "int64_t", /*default=*/"0", "Devices of this host; 0: as many as it has cores">,
    Option<"memory", "memory", "std::string", /*default=*/"", "Budget of one device, such as 2GiB; empty: the cluster's, or a share of this host's">,
    Option<"reserve", "reserve", "int64_t", /*default=*/"0", "Bytes of the budget to leave free">,
    Option<"microBatches", "micro-batches", "int64_t", /*default=*/"0", "Exactly so many; 0: all counts that divide the batch and that the step can be cut into">,
  ];
  let statistics = [Statistic<"numCandidates", "num-candidates", "Pipelines and micro-batch counts in the space">,
                    Statistic<"numOpened", "num-opened", "Of these, searched to the end">];
  let dependentDialects = ["::galvatron::dist::DistDialect", "::galvatron::plan::PlanDialect"];
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
  let statistics = [Statistic<"numUnits", "num-units", "Units that were verified">];
}

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

    **Fails when:** a constant of unequal elements lies along the batch, or `graph.batch_held_by` names a
    place in the module that computed with the batch in Python.
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
      func.func @step(%x: tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>) -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>> {
        %y = graph.call @double.dp2(%x) parameters [] path "double" {plan.stage = 0 : i64, plan.strategy = #plan.strategy<dp = 2>} : (tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>) -> tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
        return %y : tensor<8x16xf32, #dist.placement<[2@g0 * 4, 16]>>
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


def PlanRecomputationPass : Pass<"galvatron-plan-recomputation", "mlir::ModuleOp"> {
  let summary = "Decides which forward values backward keeps and which it computes again";
  let description = [{
    Under a strategy without recomputation, what backward reads is kept, except what can be had again
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
    Where parameters multiply the same value in the same way (q, k, v; gate, up), they are laid out behind one
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
    module attributes {dist.units = [], plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
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
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 2, schedule = "1f1b">} {
      dist.stage @stage0 index 0 order ["F0", "B0", "F1", "B1"] {
      }
    }
    ```

    **Fails when:** the module has no `plan.pipeline`.
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
    module attributes {plan.pipeline = #plan.pipeline<stages = 1, devices = 1, micro_batches = 1, schedule = "gpipe">} {
      dist.stage @stage0 index 0 order ["F0", "B0"] attributes {dist.arena_bytes = 0 : i64} {
      }
    }
    ```

    **Fails when:** a stage has no order; a call names a layer or body that is not there; a tied parameter has two placements; a send has no receive; stages wait for one another.
  }];
  let statistics = [Statistic<"numSlots", "num-slots", "Slots that were placed">];
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

#endif // GALVATRON_TRANSFORMS_PASSES_TD
