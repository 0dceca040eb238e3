//===- GraphLoss.td - cross-entropy and its statistics -------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_LOSS
#define GALVATRON_DIALECTS_GRAPH_LOSS

include "GraphOpBase.td"

def Graph_CrossEntropyOp : Graph_ForwardOp<"cross_entropy"> {
  let summary = "mean over valid labels of logsumexp(logits) - logits[label]";
  let description = [{
    logits [...,V], labels [...] integer; labels equal to `ignore_index` do not count. The result is a
    scalar. Its backward is `graph.cross_entropy_backward` on statistics (reduce max, sum_exp) built
    beside it; then `expand-cross-entropy` rewrites the forward into the same statistics, target_logit
    and arithmetic, and CSE shares them: a sharded vocabulary is no special case. The number of valid
    labels is static: all, less those that a `graph.shift` filled with `ignore_index`.

    Example:
    ```mlir
    %next = graph.shift %labels {dim = 1 : i64, offset = 1 : i64, fill = -100 : i64} : tensor<8x16xi64> -> tensor<8x16xi64>
    %loss = graph.cross_entropy %logits, %next : (tensor<8x16x256xf32>, tensor<8x16xi64>) -> tensor<f32>
    ```
  }];
  let arguments = (ins FloatTensor:$logits, IntTensor:$labels, DefaultValuedAttr<I64Attr, "-100">:$ignore_index);
  let results = (outs FloatTensor:$loss);
  let assemblyFormat = "$logits `,` $labels attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Labels of the global batch that count.
    int64_t getNumValidLabels();
  }];
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
