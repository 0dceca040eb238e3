// Passes of the phase import that give decomposed arithmetic its name; each is lib/Transforms/Raise/<Name>.cpp.
//
// Eager code spells operators out; sharding, kernels and recomputation need them named. What is recognized becomes one op
// by its meaning rather than its spelling; what is not stays arithmetic. All of these passes keep every function's results
// and leave no dead code.
#ifndef GALVATRON_TRANSFORMS_RAISE
#define GALVATRON_TRANSFORMS_RAISE

include "mlir/Pass/PassBase.td"

/// Of passes that apply patterns until none applies. Two sweeps are usual: one that changes something, one that does not.
defvar maxSweeps = Option<"maxSweeps", "max-sweeps", "int64_t", /*default=*/"10",
                          "Sweeps over a function in which the patterns have to come to an end">;

def RaiseNormsPass : Pass<"galvatron-raise-norms", "mlir::ModuleOp"> {
  let summary = "Recognizes norms and softmax in arithmetic";
  let description = [{
    The core x · 1/sqrt(mean(x²) + epsilon) becomes `norm rms`, of a centered x `norm layer`; products and sums with repeated
    vectors go in as weight and bias, so the order in which a model writes them does not matter. Shape ops come to their
    normal form on the way, as in `raise-shapes`: each uncovers the other.

    **Before:** functions as the importer writes them.
    **After:** norms are `graph.norm`, softmax is `graph.softmax`; shape ops are in normal form.
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
      %result, %mean, %rstd = graph.norm rms %x {epsilon = 5.000000e-01 : f64} : (tensor<2x4x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4xf32>, tensor<2x4xf32>)
      return %result : tensor<2x4x8xf32>
    }
    ```

    **Fails when:** `max-sweeps` sweeps over a function do not bring its patterns to an end.
  }];
  let options = [maxSweeps];
  let statistics = [Statistic<"numNorms", "num-norms", "Norms recognized">,
                    Statistic<"numSoftmaxes", "num-softmaxes", "Softmaxes recognized">];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

def RaiseLossPass : Pass<"galvatron-raise-loss", "mlir::ModuleOp"> {
  let summary = "Turns a loss over cut logits into one over all, against shifted labels";
  let description = [{
    The sequence then stays one axis: labels that a model pads and cuts are one `graph.shift`, whose fill the loss ignores.
    In a module with `graph.next_labels` (galvatron-import --labels next) or `graph.packed`, where nothing else reads the
    labels, that shift is left to who reads them, who may know a next token for the last position, too: then there is
    `graph.ignored_label`, the label of positions that have none, and each label is what its position is to predict.

    **Before:** shape ops in normal form: models flatten logits and labels after cutting them.
    **After:** labels are shifted instead of logits cut, where the loss allows it.
    **Example:**

    ```mlir
    func.func @step(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
      %0 = graph.slice %logits offsets [0, 0, 0] : tensor<2x4x16xf32> -> tensor<2x3x16xf32>
      %1 = graph.slice %labels offsets [0, 1] : tensor<2x4xi64> -> tensor<2x3xi64>
      %2 = graph.cross_entropy %0, %1 : (tensor<2x3x16xf32>, tensor<2x3xi64>) -> tensor<f32>
      return %2 : tensor<f32>
    }
    ```

    ```mlir
    func.func @step(%logits: tensor<2x4x16xf32>, %labels: tensor<2x4xi64>) -> tensor<f32> {
      %0 = graph.shift %labels {dim = 1 : i64, fill = -100 : i64, offset = 1 : i64} : tensor<2x4xi64> -> tensor<2x4xi64>
      %1 = graph.cross_entropy %logits, %0 : (tensor<2x4x16xf32>, tensor<2x4xi64>) -> tensor<f32>
      return %1 : tensor<f32>
    }
    ```

    **Fails when:** `max-sweeps` sweeps over a function do not bring its patterns to an end.
  }];
  let options = [maxSweeps];
  let statistics = [Statistic<"numShifts", "num-shifts", "Labels that became shifts">];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

def RaisePositionsPass : Pass<"galvatron-raise-positions", "mlir::ModuleOp"> {
  let summary = "Reads a table at consecutive positions by a slice";
  let description = [{
    Learned positions are looked up at `start + 0, 1, 2, …`, which depends on no data: rows of the table, repeated.

    **Before:** functions as the importer writes them.
    **After:** no `graph.embedding` looks up consecutive positions.
    **Example:**

    ```mlir
    func.func @step() -> tensor<4x8xf32> {
      %table = graph.parameter ["wpe"] : tensor<16x8xf32>
      %two = arith.constant dense<2> : tensor<4xi64>
      %0 = graph.iota {dim = 0 : i64} : tensor<4xi64>
      %1 = arith.addi %0, %two : tensor<4xi64>
      %2 = graph.embedding %table, %1 : (tensor<16x8xf32>, tensor<4xi64>) -> tensor<4x8xf32>
      return %2 : tensor<4x8xf32>
    }
    ```

    ```mlir
    func.func @step() -> tensor<4x8xf32> {
      %0 = graph.parameter ["wpe"] : tensor<16x8xf32>
      %1 = graph.slice %0 offsets [2, 0] : tensor<16x8xf32> -> tensor<4x8xf32>
      return %1 : tensor<4x8xf32>
    }
    ```

    **Fails when:** never; other lookups stay.
  }];
  let statistics = [Statistic<"numPositions", "num-positions", "Lookups of positions that became slices">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def RaiseActivationsPass : Pass<"galvatron-raise-activations", "mlir::ModuleOp"> {
  let summary = "Recognizes nonlinearities by the numbers that they compute";
  let description = [{
    A tree of elementwise arithmetic on one tensor and constants is a function of one number. It is evaluated at a few points
    and compared with every known nonlinearity, so that spellings need no pattern each.

    **Before:** functions as the importer writes them.
    **After:** nonlinearities that have a name are `graph.activation`.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
      %one = arith.constant dense<1.0> : tensor<8xf32>
      %0 = arith.negf %x : tensor<8xf32>
      %1 = math.exp %0 : tensor<8xf32>
      %2 = arith.addf %1, %one : tensor<8xf32>
      %3 = arith.divf %x, %2 : tensor<8xf32>
      return %3 : tensor<8xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<8xf32>) -> tensor<8xf32> {
      %0 = graph.activation silu %x : tensor<8xf32> -> tensor<8xf32>
      return %0 : tensor<8xf32>
    }
    ```

    **Fails when:** never; what is not recognized stays arithmetic.
  }];
  let statistics = [Statistic<"numActivations", "num-activations", "Nonlinearities recognized">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def RaiseRopePass : Pass<"galvatron-raise-rope", "mlir::ModuleOp"> {
  let summary = "Recognizes rotary embedding by its coefficients";
  let description = [{
    A tree of linear ops on one tensor and tables of cosines and sines is a rotation of pairs of elements, or is not; its
    coefficients say which pairs turn, and how fast, however a model pairs, splits and joins them.

    **Before:** shape ops in normal form.
    **After:** rotations by position are `graph.rope`.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %cos = arith.constant dense<[[1.0, 1.0], [0.0, 0.0]]> : tensor<2x2xf32>
      %sin = arith.constant dense<[[0.0, 0.0], [1.0, 1.0]]> : tensor<2x2xf32>
      %0 = graph.slice %x offsets [0, 0] : tensor<2x2xf32> -> tensor<2x1xf32>
      %1 = graph.slice %x offsets [0, 1] : tensor<2x2xf32> -> tensor<2x1xf32>
      %2 = arith.negf %1 : tensor<2x1xf32>
      %3 = graph.concat %2, %0 {dim = 1 : i64} : (tensor<2x1xf32>, tensor<2x1xf32>) -> tensor<2x2xf32>
      %4 = arith.mulf %x, %cos : tensor<2x2xf32>
      %5 = arith.mulf %3, %sin : tensor<2x2xf32>
      %6 = arith.addf %4, %5 : tensor<2x2xf32>
      return %6 : tensor<2x2xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %0 = graph.rope %x half {inverse_frequencies = array<f64: 1.5707963267948966>, seq_dim = 0 : i64} : tensor<2x2xf32> -> tensor<2x2xf32>
      return %0 : tensor<2x2xf32>
    }
    ```

    **Fails when:** never; what is not recognized stays arithmetic.
  }];
  let statistics = [Statistic<"numRopes", "num-ropes", "Rotary embeddings recognized">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def RaiseAttentionPass : Pass<"galvatron-raise-attention", "mlir::ModuleOp"> {
  let summary = "Recognizes attention in products and softmax, and what its operands say";
  let description = [{
    The products' subscripts say which dimension is what, so the layout of heads does not matter. Constants multiplied to the
    scores become the scale, repeated keys and values are read as they were, and masks that follow from position arithmetic
    become `causal` and `window`; what else is added is the bias. A learned bias is written out instead: the op gives it no
    gradient.

    **Before:** softmax and rotary embedding are ops, shape ops in normal form.
    **After:** attention is `graph.attention`, with the fewest operands that say it.
    **Example:**

    ```mlir
    func.func @step(%q: tensor<2x4x6x8xf32>, %k: tensor<2x4x6x8xf32>, %v: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
      %half = arith.constant dense<0.5> : tensor<2x4x6x6xf32>
      %0 = graph.einsum %q, %k "bnsd,bntd->bnst" : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x6xf32>
      %1 = arith.mulf %0, %half : tensor<2x4x6x6xf32>
      %2 = graph.softmax %1 : tensor<2x4x6x6xf32> -> tensor<2x4x6x6xf32>
      %3 = graph.einsum %2, %v "bnst,bntd->bnsd" : (tensor<2x4x6x6xf32>, tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32>
      return %3 : tensor<2x4x6x8xf32>
    }
    ```

    ```mlir
    func.func @step(%q: tensor<2x4x6x8xf32>, %k: tensor<2x4x6x8xf32>, %v: tensor<2x4x6x8xf32>) -> tensor<2x4x6x8xf32> {
      %result, %lse = graph.attention %q, %k, %v {scale = 5.000000e-01 : f64} : (tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>, tensor<2x4x6x8xf32>) -> (tensor<2x4x6x8xf32>, tensor<2x4x6xf32>)
      return %result : tensor<2x4x6x8xf32>
    }
    ```

    **Fails when:** never; what is not recognized stays arithmetic.
  }];
  let statistics = [Statistic<"numAttentions", "num-attentions", "Attentions recognized">];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

def RaiseShapesPass : Pass<"galvatron-raise-shapes", "mlir::ModuleOp"> {
  let summary = "Brings shape ops into normal form";
  let description = [{
    Merged batch and sequence dimensions are kept apart: a reshape that merges them sinks through the ops that treat rows
    alike until it meets the one that splits them again. Transposes become subscripts of products, repetitions and unit dimensions
    sink through arithmetic, and what does nothing goes.

    **Before:** functions as the importer writes them, or after other passes of this file.
    **After:** no pattern of shape ops applies.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
      %0 = graph.reshape %x : tensor<2x4x8xf32> -> tensor<8x8xf32>
      %1 = graph.einsum %0, %w "bi,oi->bo" : (tensor<8x8xf32>, tensor<16x8xf32>) -> tensor<8x16xf32>
      %2 = graph.reshape %1 : tensor<8x16xf32> -> tensor<2x4x16xf32>
      return %2 : tensor<2x4x16xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
      %0 = graph.einsum %x, %w "aci,oi->aco" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32>
      return %0 : tensor<2x4x16xf32>
    }
    ```

    **Fails when:** `max-sweeps` sweeps over a function do not bring its patterns to an end.
  }];
  let options = [maxSweeps];
  let statistics = [Statistic<"numApplied", "num-applied", "Patterns that applied">];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

def SplitProjectionsPass : Pass<"galvatron-split-projections", "mlir::ModuleOp"> {
  let summary = "Splits fused projections along the slices of their results";
  let description = [{
    A product with a parameter that is only read through slices of the output dimension becomes one product a slice, with a
    slice of the parameter. Fused q|k|v of unequal widths is a concatenation, along which no axis can be cut; the pieces can.

    **Before:** shape ops in normal form.
    **After:** no product with a parameter is read through slices of its outputs alone.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4x4xf32>) {
      %w = graph.parameter ["w"] : tensor<12x8xf32>
      %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<12x8xf32>) -> tensor<2x4x12xf32>
      %1 = graph.slice %0 offsets [0, 0, 0] : tensor<2x4x12xf32> -> tensor<2x4x8xf32>
      %2 = graph.slice %0 offsets [0, 0, 8] : tensor<2x4x12xf32> -> tensor<2x4x4xf32>
      return %1, %2 : tensor<2x4x8xf32>, tensor<2x4x4xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>) -> (tensor<2x4x8xf32>, tensor<2x4x4xf32>) {
      %0 = graph.parameter ["w"] : tensor<12x8xf32>
      %1 = graph.slice %0 offsets [0, 0] : tensor<12x8xf32> -> tensor<8x8xf32>
      %2 = graph.einsum %x, %1 "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<8x8xf32>) -> tensor<2x4x8xf32>
      %3 = graph.slice %0 offsets [8, 0] : tensor<12x8xf32> -> tensor<4x8xf32>
      %4 = graph.einsum %x, %3 "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<4x8xf32>) -> tensor<2x4x4xf32>
      return %2, %4 : tensor<2x4x8xf32>, tensor<2x4x4xf32>
    }
    ```

    **Fails when:** never; a product that is also read whole stays.
  }];
  let statistics = [Statistic<"numProjections", "num-projections", "Fused projections split">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def RaiseGatedActivationsPass : Pass<"galvatron-raise-gated-activations", "mlir::ModuleOp"> {
  let summary = "Joins a nonlinearity with the product that reads it";
  let description = [{
    A gate, silu(x) · y, is one op, which keeps neither factor's result for backward. A factor that is a constant or a repeated
    vector is a scale, no gate.

    **Before:** nonlinearities are ops, fused projections are split.
    **After:** such products are `graph.gated_activation`.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<2x8xf32>, %y: tensor<2x8xf32>) -> tensor<2x8xf32> {
      %0 = graph.activation silu %x : tensor<2x8xf32> -> tensor<2x8xf32>
      %1 = arith.mulf %0, %y : tensor<2x8xf32>
      return %1 : tensor<2x8xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<2x8xf32>, %y: tensor<2x8xf32>) -> tensor<2x8xf32> {
      %0 = graph.gated_activation silu %x, %y : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
      return %0 : tensor<2x8xf32>
    }
    ```

    **Fails when:** never; what is not recognized stays arithmetic.
  }];
  let statistics = [Statistic<"numGates", "num-gates", "Gates recognized">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def NormalizeEquationsPass : Pass<"galvatron-normalize-equations", "mlir::ModuleOp"> {
  let summary = "Names the dimensions of products in the order in which they occur";
  let description = [{
    Layers are compared by their attributes: equal products then have equal equations, whatever other passes have made of them.

    **Before:** any functions.
    **After:** the subscripts of every `graph.einsum` are a, b, c, … in the order of its operands' dimensions.
    **Example:**

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
      %0 = graph.einsum %x, %w "bsi,oi->bso" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32>
      return %0 : tensor<2x4x16xf32>
    }
    ```

    ```mlir
    func.func @step(%x: tensor<2x4x8xf32>, %w: tensor<16x8xf32>) -> tensor<2x4x16xf32> {
      %0 = graph.einsum %x, %w "abc,dc->abd" : (tensor<2x4x8xf32>, tensor<16x8xf32>) -> tensor<2x4x16xf32>
      return %0 : tensor<2x4x16xf32>
    }
    ```

    **Fails when:** never.
  }];
  let statistics = [Statistic<"numChanged", "num-changed", "Equations that had other subscripts">];
  let dependentDialects = ["::galvatron::graph::GraphDialect"];
}

def InsertDocumentsPass : Pass<"galvatron-insert-documents", "mlir::ModuleOp"> {
  let summary = "Puts the inputs positions and documents in place of a model's own positions";
  let description = [{
    For rows that hold several documents and a model that knows of none: tables are read and rotations made at `positions`,
    which restart with each document, and attention is kept within `documents`. All other ops must keep the positions of a
    row apart, which is followed from the inputs on through their loops.

    Runs in `galvatron-import --documents`, after the raising passes.

    **Before:** norms, attention, rotary positions and losses are named; the step has the two inputs and reads neither.
    **After:** what a document gets depends on its own tokens, counted from its first.
    **Example:**

    ```mlir
    func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x8xf32> {
      %tokens = graph.parameter ["wte"] : tensor<16x8xf32>
      %places = graph.parameter ["wpe"] : tensor<32x8xf32>
      %0 = graph.embedding %tokens, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
      %1 = graph.slice %places offsets [0, 0] : tensor<32x8xf32> -> tensor<4x8xf32>
      %2 = graph.broadcast %1 dims [1, 2] : tensor<4x8xf32> -> tensor<2x4x8xf32>
      %3 = arith.addf %0, %2 : tensor<2x4x8xf32>
      return %3 : tensor<2x4x8xf32>
    }
    ```

    ```mlir
    func.func @step(%ids: tensor<2x4xi64>, %labels: tensor<2x4xi64>, %positions: tensor<2x4xi64>, %documents: tensor<2x4xi64>) -> tensor<2x4x8xf32> {
      %0 = graph.parameter ["wte"] : tensor<16x8xf32>
      %1 = graph.parameter ["wpe"] : tensor<32x8xf32>
      %2 = graph.embedding %0, %ids : (tensor<16x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
      %3 = graph.embedding %1, %positions : (tensor<32x8xf32>, tensor<2x4xi64>) -> tensor<2x4x8xf32>
      %4 = arith.addf %2, %3 : tensor<2x4x8xf32>
      return %4 : tensor<2x4x8xf32>
    }
    ```

    **Fails when:** an op mixes the positions of a row otherwise than by attention, or reads positions of its own in a way
    that is not known: a bias of attention that is no function of the distance, a product with a table of positions.
  }];
  let statistics = [Statistic<"numTables", "num-tables", "Tables that are read at the inputs' positions">,
                    Statistic<"numRopes", "num-ropes", "Rotations by the inputs' positions">,
                    Statistic<"numAttentions", "num-attentions", "Attention kept within documents">];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::mlir::arith::ArithDialect"];
}

#endif // GALVATRON_TRANSFORMS_RAISE
