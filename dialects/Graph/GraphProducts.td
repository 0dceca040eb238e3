//===- GraphProducts.td - matrix products --------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_PRODUCTS
#define GALVATRON_DIALECTS_GRAPH_PRODUCTS

include "GraphOpBase.td"

def Graph_EinsumOp : Graph_ForwardOp<"einsum", [], Linear> {
  let summary = "matrix product of two tensors, by named dimensions";
  let description = [{
    A subscript is a loop. A subscript absent from the result is summed over. No subscript occurs twice in one
    operand; every subscript of the result occurs in an operand; subscripts are a-z, A-Z. Operands are of
    one element type; the result is of the same or a wider one (gradients of parameters are f32).

    Example: a torch Linear and its weight's gradient.
    ```mlir
    %y = graph.einsum %x, %w "bsi,oi->bso" : (tensor<8x16x64xf32>, tensor<32x64xf32>) -> tensor<8x16x32xf32>
    %dw = graph.einsum %dy, %x "bso,bsi->oi" : (tensor<8x16x32xf32>, tensor<8x16x64xf32>) -> tensor<32x64xf32>
    ```
  }];
  let arguments = (ins FloatTensor:$lhs, FloatTensor:$rhs, StrAttr:$equation);
  let results = (outs FloatTensor:$result);
  let assemblyFormat = "$lhs `,` $rhs $equation attr-dict `:` functional-type(operands, results)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Subscripts of the left operand, the right one and the result.
    std::array<llvm::StringRef, 3> getSubscripts();
  }];
}

#endif
