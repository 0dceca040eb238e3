//===- GraphLoss.td - cross-entropy and its statistics -------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_LOSS
#define GALVATRON_DIALECTS_GRAPH_LOSS

include "GraphOpBase.td"

def Graph_CrossEntropyOp : Graph_ForwardOp<"cross_entropy"> {
  let summary = "logsumexp(logits) - logits[label], each or their mean over valid labels";
  let description = [{
    logits [...,V], labels [...] integer; labels equal to `ignore_index` do not count. A result [...] has each
    label's own loss, 0 where it does not count; a scalar is their sum over the number of those that do, 0 if
    there are none. `count`, a scalar, is that number over the whole global batch; without it the number is
    static: all, less those that a `graph.shift` filled with `ignore_index` (`form-totals` gives a count to every other
    mean). The backward is `graph.cross_entropy_backward` on statistics (reduce max, sum_exp) built beside the
    op; then `expand-cross-entropy` rewrites the forward into the same statistics, target_logit and
    arithmetic, and CSE shares them: a sharded vocabulary is no special case.

    Example:
    ```mlir
    %next = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<8x16xi64> -> tensor<8x16xi64>
    %loss = graph.cross_entropy %logits, %next : (tensor<8x16x256xf32>, tensor<8x16xi64>) -> tensor<f32>
    ```
  }];
  let arguments = (ins FloatTensor:$logits, IntTensor:$labels, Optional<FloatTensor>:$count,
                       DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs FloatTensor:$loss);
  let assemblyFormat = [{$logits `,` $labels (`count` $count^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The `ignore_index` of what takes every label for a class, such as a log probability that is gathered.
    static constexpr int64_t kIgnoresNothing = INT64_MIN;
    /// Whether the result is a mean over the labels that count, not each label's loss.
    bool isMean();
    /// Labels of the global batch that count, by their positions alone.
    int64_t getNumValidLabels();
    /// Whether that is all there is to know: what is ignored is ignored by its position, never by its value. The
    /// tokens of a step lie in the vocabulary, so a negative index is none of them; but the last tokens of the documents
    /// of packed rows have no label.
    bool hasStaticCount();
    /// What a mean multiplies the sum of its labels' losses by: 1 / count, 0 where nothing counts.
    ::mlir::Value buildShare(::mlir::OpBuilder &builder);
  }];
}

def Graph_LogSumExpOp : Graph_ForwardOp<"logsumexp"> {
  let summary = "log Σ exp over the last dimension";
  let description = [{
    x [...,V]; result [...]. `expand-cross-entropy` rewrites it into the statistics of a cross entropy, so that a loss
    and what regularizes its logits share them.
  }];
  let arguments = (ins FloatTensor:$x);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_SumExpOp : Graph_MathOp<"sum_exp"> {
  let summary = "Σ over the last dimension of exp(x - max)";
  let description = [{ x [...,V], max [...]; result [...]. V cut: a partial sum. }];
  let arguments = (ins FloatTensor:$x, FloatTensor:$max);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_TargetLogitOp : Graph_MathOp<"target_logit", [], Positioned> {
  let summary = "the logit at each label; 0 where the label is ignored";
  let description = [{ logits [...,V], labels [...]; result [...]. The V loop is routed: partial sum. }];
  let arguments = (ins FloatTensor:$logits, IntTensor:$labels, I64Attr:$ignore_index);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_CrossEntropyBackwardOp : Graph_MathOp<"cross_entropy_backward", [], LinearPositioned> {
  let summary = "dlogits = dy·(exp(logits - max)/sum_exp - onehot(label)), 0 where ignored";
  let description = [{
    logits [...,V]; dy, sum_exp, max and labels [...]: `dy` is the gradient of each row's loss, which
    for a mean is that of the loss divided by the number of valid labels. The V loop is routed.
  }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$logits, FloatTensor:$sum_exp, FloatTensor:$max,
                       IntTensor:$labels, I64Attr:$ignore_index);
  let results = (outs FloatTensor:$dlogits);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
