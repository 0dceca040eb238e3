//===- GraphNorms.td - RMS and layer norms -------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_NORMS
#define GALVATRON_DIALECTS_GRAPH_NORMS

include "GraphOpBase.td"

def Graph_NormOp : Graph_ForwardOp<"norm", [AttrSizedOperandSegments]> {
  let summary = "RMS or layer norm over the last dimension, with scale and bias";
  let description = [{
    x [..., H], weight and bias [H] where present. `rms`: y = x·rstd·(offset + w), rstd =
    1/sqrt(mean(x²) + eps). `layer`: y = (x - mean)·rstd·(offset + w) + b. `offset` is 0 except for
    models whose weight is a deviation from one. `mean` (zeros for rms) and `rstd` have x's shape
    less the last dimension. Zhang & Sennrich (2019); Ba et al. (2016).
  }];
  let arguments = (ins FloatTensor:$x, Optional<FloatTensor>:$weight, Optional<FloatTensor>:$bias,
                       Graph_NormKindAttr:$kind, F64Attr:$epsilon,
                       DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs FloatTensor:$result, FloatTensor:$mean, FloatTensor:$rstd);
  let assemblyFormat = [{$kind $x (`weight` $weight^)? (`bias` $bias^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_NormBackwardOp : Graph_MathOp<"norm_backward"> {
  let summary = "gradient of a norm's input";
  let description = [{
    x̂ = (x - mean)·rstd, g = dy·(offset + w): dx = rstd·(g - [layer: mean(g)] - x̂·mean(g·x̂)).
  }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$x, Optional<FloatTensor>:$weight,
                       FloatTensor:$mean, FloatTensor:$rstd, Graph_NormKindAttr:$kind,
                       DefaultValuedAttr<F64Attr, "0.0">:$offset);
  let results = (outs FloatTensor:$dx);
  let assemblyFormat = [{$kind $dy `,` $x `,` $mean `,` $rstd (`weight` $weight^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_NormWeightBackwardOp : Graph_MathOp<"norm_weight_backward", [], Linear> {
  let summary = "gradient of a norm's weight: Σ over rows of dy·x̂";
  let description = [{ (The bias' gradient is a `graph.reduce sum` of dy.) Result [H]. }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$x, FloatTensor:$mean, FloatTensor:$rstd);
  let results = (outs FloatTensor:$dw);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

#endif
