//===- GraphInterfaces.td - what a pass may ask of an op ------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_INTERFACES
#define GALVATRON_DIALECTS_GRAPH_INTERFACES

include "mlir/IR/OpBase.td"

def AxisOpInterface : OpInterface<"AxisOpInterface"> {
  let cppNamespace = "::galvatron::graph";
  let description = [{
    The loops of an op: which dimension of which operand or result each indexes. Sharding follows
    from this alone. A loop that is absent from a result is contracted there: cutting it leaves that
    result partial, to be combined by the loop's reduction.
  }];
  let methods = [
    InterfaceMethod<[{The loops, and for each dimension of each operand and result the loops that
      index it, major first.}], "::galvatron::graph::OpAxes", "getAxes">,
    InterfaceMethod<[{Whether `result` is linear in `operand` while the other operands are held, without
      a constant part: a partial sum in that operand alone may then pass through to the result.}],
      "bool", "isLinear", (ins "unsigned":$operand, "unsigned":$result), "",
      [{ return false; }]>,
    InterfaceMethod<[{Whether the results are linear in all float operands taken together (a sum, a
      concatenation): they are partial sums if *all* of those operands are. Not so if only one is: the
      others would be counted once a device.}],
      "bool", "isJointlyLinear", (ins), "", [{ return false; }]>,
    InterfaceMethod<[{The operand or result whose global index the op reads (positions, random bits,
      rows of a table), or null: what sharding must tell it the placement of.}],
      "::mlir::Value", "getPositionTensor", (ins), "", [{ return {}; }]>
  ];
}

def DifferentiableOpInterface : OpInterface<"DifferentiableOpInterface"> {
  let cppNamespace = "::galvatron::graph";
  let description = [{
    Reverse-mode differentiation of one op on global shapes.
  }];
  let methods = [
    InterfaceMethod<[{Builds the backward ops at `builder`'s insertion point. `resultGradients[i]` is
      the gradient of result `i`, or null where nothing flows into it. Sets `operandGradients[j]`
      (presized, null) to the gradient of operand `j`, of its type, or leaves it null where the
      operand is not differentiable. May read the op's operands and results.}],
      "::mlir::LogicalResult", "buildBackward",
      (ins "::mlir::OpBuilder &":$builder, "::mlir::ValueRange":$resultGradients,
           "::llvm::MutableArrayRef<::mlir::Value>":$operandGradients)>
  ];
}

def CostOpInterface : OpInterface<"CostOpInterface"> {
  let cppNamespace = "::galvatron::graph";
  let description = [{ What one execution of the op costs on one device, on the op's own shapes. }];
  let methods = [
    InterfaceMethod<"Floating-point operations; a multiply-add counts two.", "int64_t", "getFlops">,
    InterfaceMethod<"Bytes read and written, each operand and result once.", "int64_t", "getBytesMoved",
      (ins), "", [{ return ::galvatron::graph::bytesOfOperandsAndResults($_op); }]>
  ];
}

#endif
