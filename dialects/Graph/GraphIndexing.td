//===- GraphIndexing.td - what is read by index: tables, moved labels, positions ---===//
#ifndef GALVATRON_DIALECTS_GRAPH_INDEXING
#define GALVATRON_DIALECTS_GRAPH_INDEXING

include "GraphOpBase.td"

def Graph_EmbeddingOp : Graph_ForwardOp<"embedding", [], LinearPositioned> {
  let summary = "rows of a table by index";
  let description = [{
    table [V,H], ids [...] integer, result [...,H]. The V loop is routed: cut, each device adds the
    rows it has and the result is a partial sum. The row `padding_index`, where not negative, is read
    like any other but gets no gradient (torch's `padding_idx`).
  }];
  let arguments = (ins FloatTensor:$table, IntTensor:$ids, DefaultValuedAttr<I64Attr, "-1">:$padding_index);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$table `,` $ids attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_EmbeddingBackwardOp : Graph_MathOp<"embedding_backward", [], LinearPositioned> {
  let summary = "gradient of an embedding's table: rows of dy summed by index";
  let arguments = (ins FloatTensor:$dy, IntTensor:$ids);
  let results = (outs FloatTensor:$dtable);
  let assemblyFormat = "operands attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
}

def Graph_ShiftOp : Graph_MathOp<"shift", [SameOperandsAndResultElementType, SameOperandsAndResultShape], Positioned> {
  let summary = "moves integers along a dimension, filling with `fill`";
  let description = [{
    result[..., i, ...] = x[..., i + offset, ...] where that exists, else `fill`. Turns a shifted loss
    (`logits[:, :-1]` against `labels[:, 1:]`) into one over all positions with the last ignored.
  }];
  let arguments = (ins IntTensor:$x, I64Attr:$dim, I64Attr:$offset, I64Attr:$fill);
  let results = (outs IntTensor:$result);
  let assemblyFormat = "$x attr-dict `:` type($x) `->` type($result)";
  let hasVerifier = 1;
}

def Graph_IotaOp : Graph_MathOp<"iota", [], Positioned> {
  let summary = "the index along a dimension, by global position";
  let arguments = (ins I64Attr:$dim);
  let results = (outs AnyGraphTensor:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
  let hasVerifier = 1;
}

#endif
