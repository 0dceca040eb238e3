// Passes of the phase import that form layers; each is lib/Transforms/Form/<Name>.cpp.
#ifndef GALVATRON_TRANSFORMS_FORM
#define GALVATRON_TRANSFORMS_FORM

include "mlir/Pass/PassBase.td"

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
    Segments are the members of module lists, what comes before, between and after them; without module
    paths, the periods of a repeating structure. Segments of equal ops, shapes, distributions and relative
    parameter names share one body, found by hash. What is computed from constants, parameters or the
    step's integers alone is cloned into each layer that reads it. What has no gradient in a layer is
    `graph.frozen` there: equal segments of which one is frozen, or has nothing to train before it, are of two
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

def FormSublayersPass : Pass<"galvatron-form-sublayers", "mlir::ModuleOp"> {
  let summary = "Cuts the layers of which a plan names attention and feed-forward into these two";
  let description = [{
    A name below a layer's path asks for a strategy of its own. What leads to attention is attention's, with its norm
    and its residual; the feed-forward has what follows. Halves of equal layers share a body.

    **Before:** layers are formed, without backward.
    **After:** the layers that `units` names by two submodules are two calls each, with the attribute `graph.block`.
    **Example:**

    ```mlir
    module attributes {graph.batch = 1 : i64} {
      graph.layer @layer(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "a.w"}, %b: tensor<4x4xf32> {graph.parameter = "b.w"}) -> tensor<4x4xf32> {
        %0 = graph.einsum %x, %a "si,io->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
        %1 = graph.softmax %0 : tensor<4x4xf32> -> tensor<4x4xf32>
        %2 = graph.einsum %1, %b "si,io->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
        graph.return %2 : tensor<4x4xf32>
      }
      func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
        %0 = graph.call @layer(%x) parameters ["h.0.a.w", "h.0.b.w"] path "h.0" : (tensor<4x4xf32>) -> tensor<4x4xf32>
        return %0 : tensor<4x4xf32>
      } }
    ```

    ```mlir
    module attributes {graph.batch = 1 : i64} {
      graph.layer @layer.a(%x: tensor<4x4xf32>, %a: tensor<4x4xf32> {graph.parameter = "a.w"}) -> tensor<4x4xf32> {
        %0 = graph.einsum %x, %a "si,io->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
        %1 = graph.softmax %0 : tensor<4x4xf32> -> tensor<4x4xf32>
        graph.return %1 : tensor<4x4xf32> }
      graph.layer @layer.b(%x: tensor<4x4xf32>, %b: tensor<4x4xf32> {graph.parameter = "b.w"}) -> tensor<4x4xf32> {
        %0 = graph.einsum %x, %b "si,io->so" : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
        graph.return %0 : tensor<4x4xf32> }
      func.func @step(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {
        %0 = graph.call @layer.a(%x) parameters ["h.0.a.w"] path "h.0.a" {graph.block = "h.0"} : (tensor<4x4xf32>) -> tensor<4x4xf32>
        %1 = graph.call @layer.b(%0) parameters ["h.0.b.w"] path "h.0.b" {graph.block = "h.0"} : (tensor<4x4xf32>) -> tensor<4x4xf32>
        return %1 : tensor<4x4xf32> } }
    ```

    **Fails when:** only one submodule is named, or more than two, or the layer too; there is no such submodule;
    attention reads what the feed-forward computes, or a product is in neither.
  }];
  let options = [ListOption<"units", "units", "std::string", "Names of a plan's layers; those that name no half change nothing">];
  let statistics = [
    Statistic<"numCut", "num-cut", "Layers cut in two">,
    Statistic<"numTypes", "num-types", "Layer types formed of halves">
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

#endif // GALVATRON_TRANSFORMS_FORM
