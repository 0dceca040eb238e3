//===- GraphReductions.td - sums, maxima and softmax along dimensions ----===//
#ifndef GALVATRON_DIALECTS_GRAPH_REDUCTIONS
#define GALVATRON_DIALECTS_GRAPH_REDUCTIONS

include "GraphOpBase.td"

def Graph_ReduceOp : Graph_ForwardOp<"reduce", [], Linear> {
  let summary = "sum or maximum over dimensions, which disappear";
  let description = [{
    `dims` is increasing. The result is of x's element type or wider. The gradient of a maximum is
    shared equally among the elements that reach it.

    Example:
    ```mlir
    %max = graph.reduce max %logits dims [2] : tensor<8x16x256xf32> -> tensor<8x16xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$x, Graph_ReduceKindAttr:$kind, DenseI64ArrayAttr:$dims);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$kind $x `dims` $dims attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_SoftmaxOp : Graph_ForwardOp<"softmax", [SameOperandsAndResultElementType, SameOperandsAndResultShape]> {
  let summary = "softmax over the last dimension, for attention that could not be raised";
  let arguments = (ins FloatTensor:$x);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
}

def Graph_SoftmaxBackwardOp : Graph_MathOp<"softmax_backward", [SameOperandsAndResultElementType, SameOperandsAndResultShape], Linear> {
  let summary = "dx = y·(dy - Σ dy·y) over the last dimension";
  let arguments = (ins FloatTensor:$dy, FloatTensor:$y);
  let results = (outs FloatTensor:$dx);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
}

#endif
