// Registration of the graph dialect, its attributes and interfaces.
#include "dialects/Graph/GraphElementwise.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace galvatron::graph;

#include "dialects/Graph/GraphDialect.cpp.inc"
#include "dialects/Graph/GraphElementwiseEnums.cpp.inc"
#include "dialects/Graph/GraphEnums.cpp.inc"
#include "dialects/Graph/GraphInterfaces.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Graph/GraphAttributes.cpp.inc"

void GraphDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/Graph/GraphAttributes.cpp.inc"
      >();
  addStructureOps();
  addProductsOps();
  addAttentionOps();
  addNormsOps();
  addReductionsOps();
  addElementwiseOps();
  addIndexingOps();
  addLossOps();
  addShapesOps();
  attachArithmeticInterfaces();
}

Operation *GraphDialect::materializeConstant(OpBuilder &builder, Attribute value, Type type, Location loc) {
  return arith::ConstantOp::materialize(builder, value, type, loc);
}

bool galvatron::graph::isSameTensor(Type a, Type b) {
  auto left = dyn_cast<RankedTensorType>(a), right = dyn_cast<RankedTensorType>(b);
  if (!left || !right)
    return a == b;
  return left.getShape() == right.getShape() && left.getElementType() == right.getElementType();
}

bool galvatron::graph::isFloatTensor(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa<FloatType>(tensor.getElementType());
}

Type galvatron::graph::withElementType(Type type, Type element) {
  auto tensor = cast<RankedTensorType>(type);
  return RankedTensorType::get(tensor.getShape(), element, tensor.getEncoding());
}

Type galvatron::graph::getWidened(Type type) {
  bool isNarrow = isFloatTensor(type) && getElementTypeOrSelf(type).getIntOrFloatBitWidth() < 32;
  return isNarrow ? withElementType(type, Float32Type::get(type.getContext())) : type;
}

Value galvatron::graph::createSplat(OpBuilder &builder, Location loc, Type type, double value) {
  auto tensor = cast<RankedTensorType>(type);
  Attribute element;
  if (isa<FloatType>(tensor.getElementType()))
    element = builder.getFloatAttr(tensor.getElementType(), value);
  else
    element = builder.getIntegerAttr(tensor.getElementType(), static_cast<int64_t>(value));
  return arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(tensor, element));
}
