//===- GraphShapes.td - views, pieces and repetitions --------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_SHAPES
#define GALVATRON_DIALECTS_GRAPH_SHAPES

include "GraphOpBase.td"

def Graph_BroadcastOp : Graph_ForwardOp<"broadcast", [SameOperandsAndResultElementType], Linear> {
  let summary = "repeats a tensor along new dimensions";
  let description = [{
    `dims[i]` is the dimension of the result that dimension i of x becomes, increasing; the extents are
    equal there (a dimension of extent 1 to be stretched is reshaped away first).
    Example: a bias [H] to [B,S,H] has `dims [2]`; a scalar has `dims []`.
  }];
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$dims);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x `dims` $dims attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_ReshapeOp : Graph_ForwardOp<"reshape", [SameOperandsAndResultElementType], Linear> {
  let summary = "same elements in row-major order, other shape";
  let arguments = (ins AnyGraphTensor:$x);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_TransposeOp : Graph_ForwardOp<"transpose", [SameOperandsAndResultElementType], Linear> {
  let summary = "result dimension i is operand dimension permutation[i]";
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$permutation);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x $permutation attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_SliceOp : Graph_ForwardOp<"slice", [SameOperandsAndResultElementType], Linear> {
  let summary = "a rectangular piece: offsets, with the result's shape, stride 1";
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$offsets);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x `offsets` $offsets attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_PadOp : Graph_ForwardOp<"pad", [SameOperandsAndResultElementType], Linear> {
  let summary = "a piece placed at `offsets` in zeros: the transpose of slice";
  let arguments = (ins AnyGraphTensor:$x, DenseI64ArrayAttr:$offsets);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$x `offsets` $offsets attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

def Graph_ConcatOp : Graph_ForwardOp<"concat", [SameOperandsAndResultElementType], JointlyLinear> {
  let summary = "tensors joined along a dimension";
  let arguments = (ins Variadic<AnyGraphTensor>:$inputs, I64Attr:$dim);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "$inputs attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let hasFolder = 1;
}

#endif
