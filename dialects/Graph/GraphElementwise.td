//===- GraphElementwise.td - nonlinearities, dropout, sums ---------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_ELEMENTWISE
#define GALVATRON_DIALECTS_GRAPH_ELEMENTWISE

include "GraphOpBase.td"
include "GraphElementwiseAttributes.td"

// `Elementwise` says that lowering computes the op in loops that it generates (lib/Conversion/DistToExec/LowerElementwise.cpp writes
// its scalars); without it the op is a call of the runtime, and no kernel takes it along.

def Graph_ActivationOp : Graph_ForwardOp<"activation", [SameOperandsAndResultElementType, SameOperandsAndResultShape, Elementwise]> {
  let summary = "a pointwise nonlinearity";
  let arguments = (ins FloatTensor:$x, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$kind $x attr-dict `:` type($x) `->` type($result)";
}

def Graph_ActivationBackwardOp : Graph_MathOp<"activation_backward", [SameOperandsAndResultElementType, SameOperandsAndResultShape, Elementwise], Linear> {
  let summary = "dx = dy·f'(x)";
  let arguments = (ins FloatTensor:$dy, FloatTensor:$x, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$dx);
  let assemblyFormat = "$kind operands attr-dict `:` functional-type(operands, results)";
}

def Graph_GatedActivationOp : Graph_ForwardOp<"gated_activation", [SameOperandsAndResultElementType, SameOperandsAndResultShape, Elementwise]> {
  let summary = "f(gate)·up, the middle of a gated MLP (SwiGLU, GeGLU)";
  let arguments = (ins FloatTensor:$gate, FloatTensor:$up, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$kind $gate `,` $up attr-dict `:` functional-type(operands, results)";
}

def Graph_GatedActivationBackwardOp : Graph_MathOp<"gated_activation_backward", [SameOperandsAndResultElementType, SameOperandsAndResultShape, Elementwise]> {
  let summary = "dgate = dy·up·f'(gate), dup = dy·f(gate)";
  let arguments = (ins FloatTensor:$dy, FloatTensor:$gate, FloatTensor:$up, Graph_ActivationKindAttr:$kind);
  let results = (outs FloatTensor:$dgate, FloatTensor:$dup);
  let assemblyFormat = "$kind operands attr-dict `:` functional-type(operands, results)";
}

def Graph_DropoutOp : Graph_ForwardOp<"dropout", [SameOperandsAndResultElementType, SameOperandsAndResultShape], LinearPositioned> {
  let summary = "zeroes elements with probability p and scales the rest by 1/(1-p)";
  let description = [{
    Bits by counter: element e of op `id` in layer l at step t is kept iff
    hash(seed, t, l, id, e) ≥ p·2³², e being the row-major index in the *global* tensor, so that every
    plan and every recomputation draws the same. The gradient is the same op, same id, on dy.
  }];
  let arguments = (ins FloatTensor:$x, F64Attr:$p, I64Attr:$id);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_SumOp : Graph_ForwardOp<"sum", [SameOperandsAndResultElementType, SameOperandsAndResultShape, Elementwise], JointlyLinear> {
  let summary = "elementwise sum of n tensors of one type; partial sums wait in it";
  let arguments = (ins Variadic<FloatTensor>:$inputs);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$inputs attr-dict `:` functional-type(operands, results)";
  let hasFolder = 1;
}

def Graph_DetachOp : Graph_MathOp<"detach", [SameOperandsAndResultType], Linear> {
  let summary = "its operand, through which no gradient flows";
  let description = [{
    torch's `detach`: stopped gradients and straight-through estimators. `differentiate` reads it and
    drops it: after that phase a value and its detached copy are one.

    Example: `round` with the gradient of the identity.
    ```mlir
    %r = math.roundeven %x : tensor<8x16x64xf32>
    %d = arith.subf %r, %x : tensor<8x16x64xf32>
    %s = graph.detach %d : tensor<8x16x64xf32>
    %y = arith.addf %x, %s : tensor<8x16x64xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$x);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x)";
}

#endif
