//===- GraphAttention.td - attention and rotary positions ----------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_ATTENTION
#define GALVATRON_DIALECTS_GRAPH_ATTENTION

include "GraphOpBase.td"

def Graph_AttentionOp : Graph_ForwardOp<"attention", [], Positioned> {
  let summary = "softmax(scale · q kᵀ + mask) v, with grouped key/value heads";
  let description = [{
    q [B,N,Sq,D], k [B,K,Sk,D], v [B,K,Sk,Dv], N = K·G (head n reads key/value head n / G); result
    [B,N,Sq,Dv] and `lse` [B,N,Sq], the log of each row's sum of exponentials (for backward).
    Query i sits at position i + Sk - Sq. `causal`: keys at or before the query; `window` w > 0: and
    fewer than w positions back. `softcap` c > 0: scaled scores become
    c·tanh(scores / c). `bias`, optional, broadcastable to [B,N,Sq,Sk], is then added. `dropout` p on
    probabilities, bits by counter from (seed, step, layer, `id`, row-major global index in
    [B,N,Sq,Sk]); kept ones are scaled by 1/(1-p). `given_documents`: where the bias is -inf for two positions of
    different documents, these are the step's input `documents`: a run that keeps none apart need not look.
    Dao et al., FlashAttention (2022): probabilities are recomputed in backward, never stored.
  }];
  let arguments = (ins FloatTensor:$q, FloatTensor:$k, FloatTensor:$v, Optional<FloatTensor>:$bias,
                       F64Attr:$scale, UnitAttr:$causal, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, DefaultValuedAttr<I64Attr, "0">:$id,
                       UnitAttr:$given_documents);
  let results = (outs FloatTensor:$result, FloatTensor:$lse);
  let assemblyFormat = [{$q `,` $k `,` $v (`bias` $bias^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_AttentionBackwardOp : Graph_MathOp<"attention_backward", [], Positioned> {
  let summary = "gradients of attention's q, k and v";
  let description = [{
    Operands as `graph.attention` plus its results and the result's gradient `dy` [B,N,Sq,Dv].
    With P the probabilities and M what dropout multiplies them by: dP = M ∘ dy vᵀ;
    dS = P ∘ (dP - rowsum(dy ∘ y)), times 1 - tanh² of the capped scores; dq = scale·dS k;
    dk = scale·dSᵀ q; dv = (M ∘ P)ᵀ dy.
  }];
  let arguments = (ins FloatTensor:$dy, FloatTensor:$q, FloatTensor:$k, FloatTensor:$v,
                       FloatTensor:$y, FloatTensor:$lse, Optional<FloatTensor>:$bias,
                       F64Attr:$scale, UnitAttr:$causal, DefaultValuedAttr<I64Attr, "0">:$window,
                       DefaultValuedAttr<F64Attr, "0.0">:$softcap,
                       DefaultValuedAttr<F64Attr, "0.0">:$dropout, DefaultValuedAttr<I64Attr, "0">:$id,
                       UnitAttr:$given_documents);
  let results = (outs FloatTensor:$dq, FloatTensor:$dk, FloatTensor:$dv);
  let assemblyFormat = [{$dy `,` $q `,` $k `,` $v `,` $y `,` $lse (`bias` $bias^)? attr-dict
                         `:` functional-type(operands, results)}];
  let hasVerifier = 1;
}

def Graph_RopeOp : Graph_ForwardOp<"rope", [AllTypesMatch<["x", "result"]>], LinearPositioned> {
  let summary = "rotary position embedding over the last dimension";
  let description = [{
    x [..., S, D] with positions along dimension `seq_dim` (default: the one before last) at global
    index p. The first 2·len(inverse_frequencies) elements of the last dimension rotate, the rest
    pass. Angle = p·inverse_frequency[i]; `half`: pairs (i, i + r/2) of the r rotated elements,
    `interleaved`: pairs (2i, 2i+1); (a, b) → scaling·(a cos - b sin, b cos + a sin). `inverse`
    rotates by -angle (the transpose, hence the gradient). Su et al., RoFormer (2021).

    With `positions`, an i64 tensor [extent of x's `row_dim`, S], p is what it says of row and index: rows of several
    documents. No gradient goes there.
  }];
  let arguments = (ins FloatTensor:$x, Optional<IntTensor>:$positions, DenseF64ArrayAttr:$inverse_frequencies, I64Attr:$seq_dim,
                       Graph_RopeStyleAttr:$style, DefaultValuedAttr<F64Attr, "1.0">:$scaling,
                       UnitAttr:$inverse, DefaultValuedAttr<I64Attr, "0">:$row_dim);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x $style (`positions` $positions^ `:` type($positions))? attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

#endif
