// Passes of the phase differentiate; each is lib/Transforms/Differentiate/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_DIFFERENTIATE
#define GALVATRON_TRANSFORMS_DIFFERENTIATE

include "mlir/Pass/PassBase.td"

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

def SeparateConstantsPass : Pass<"galvatron-separate-constants"> {
  let summary = "Gives each use of a constant of equal elements one of its own";
  let description = [{
    Such a constant has the axes that its reader gives it. Shared, as by the scaling of a head's width and of a hidden size of
    the same extent, it would make the two one axis, which no strategy could cut where only one may be cut.

    **Before:** the program with its backward, equal values joined.
    **After:** no splat constant has two uses.
    **Example:**

    ```mlir
    func.func @example(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
      %two = arith.constant dense<2.0> : tensor<4xf32>
      %0 = arith.mulf %x, %two : tensor<4xf32>
      %1 = arith.mulf %y, %two : tensor<4xf32>
      return %0, %1 : tensor<4xf32>, tensor<4xf32>
    }
    ```

    ```mlir
    func.func @example(%x: tensor<4xf32>, %y: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
      %two = arith.constant dense<2.0> : tensor<4xf32>
      %again = arith.constant dense<2.0> : tensor<4xf32>
      %0 = arith.mulf %x, %again : tensor<4xf32>
      %1 = arith.mulf %y, %two : tensor<4xf32>
      return %0, %1 : tensor<4xf32>, tensor<4xf32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numSeparated", "num-separated", "Constants that a use got of its own">];
  let dependentDialects = ["mlir::arith::ArithDialect"];
}

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
  let summary = "Decides which tensors are bf16 or f16 and which f32";
  let description = [{
    With `bf16`, activations and the parameters that products, embeddings and arithmetic read become
    bf16 (a copy of an f32 master that the optimizer keeps); with `fp16` they become f16. Parameters that only norms read, statistics
    of norms and attention, and all that follows a loss stay f32. Arithmetic is f32: `arith` and `math`
    ops are widened, and what they yield is rounded again.

    **Before:** float tensors are f32; layers have no backward.
    **After:** float tensors that cross layers are of the precision, as `graph.precision` of the module says; scalars are f32.
    **Example:**

    ```mlir
    graph.layer @example(%x: tensor<8x4xf32>, %w: tensor<6x4xf32> {graph.parameter = "weight"}, %g: tensor<6xf32> {graph.parameter = "norm"}) -> tensor<8x6xf32> {
      %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xf32>, tensor<6x4xf32>) -> tensor<8x6xf32>
      %result, %mean, %rstd = graph.norm rms %y weight %g {epsilon = 1.0e-5} : (tensor<8x6xf32>, tensor<6xf32>) -> (tensor<8x6xf32>, tensor<8xf32>, tensor<8xf32>)
      graph.return %result : tensor<8x6xf32>
    }
    ```

    ```mlir
    module attributes {graph.precision = "bf16"} { graph.layer @example(%x: tensor<8x4xbf16>, %w: tensor<6x4xbf16> {graph.parameter = "weight"}, %g: tensor<6xf32> {graph.parameter = "norm"}) -> tensor<8x6xbf16> {
      %y = graph.einsum %x, %w "bi,oi->bo" : (tensor<8x4xbf16>, tensor<6x4xbf16>) -> tensor<8x6xbf16>
      %result, %mean, %rstd = graph.norm rms %y weight %g {epsilon = 1.0e-5} : (tensor<8x6xbf16>, tensor<6xf32>) -> (tensor<8x6xbf16>, tensor<8xf32>, tensor<8xf32>)
      graph.return %result : tensor<8x6xbf16>
    }}
    ```

    **Fails when:** the precision is none of the three; a layer has a backward already.
  }];
  let options = [Option<"precision", "precision", "std::string", [{"bf16"}], "fp32 (everything stays as it is), bf16 or fp16">];
  let statistics = [Statistic<"numNarrowed", "num-narrowed", "Tensors that became bf16 or f16">,
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
    sums them up, also where parameters are bf16 or f16. Statistics that a backward needs (of cross-entropy) stand in
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
    Functions of the runtime and collectives read f32, bf16, i64 and, in a step of fp16, f16. An operand of another type is converted before
    such an op, its result back after it: float16 is computed in float32 and rounded, float64 in float32 alone.
    Elementwise ops compute in the model's own type, and what moves elements keeps it.

    **Before:** any program; `differentiate` has run if there are gradients, which are of their values' types.
    **After:** ops that a function of the runtime computes have operands and results of f32, bf16, i64 and i1, in a step of fp16 also of f16.
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

#endif // GALVATRON_TRANSFORMS_DIFFERENTIATE
