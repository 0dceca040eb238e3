// Registration of the dist dialect, and helpers on types.
#include "dialects/Dist/Dist.h"

#include "mlir/IR/DialectImplementation.h"

#include "dialects/Dist/DistDialect.cpp.inc"

using namespace mlir;
using namespace galvatron::dist;

void DistDialect::initialize() {
  registerAttributes();
  addOperations<
#define GET_OP_LIST
#include "dialects/Dist/DistOps.cpp.inc"
      >();
}

PlacementAttr galvatron::dist::getPlacement(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? dyn_cast_or_null<PlacementAttr>(tensor.getEncoding()) : PlacementAttr();
}

RankedTensorType galvatron::dist::withPlacement(Type type, PlacementAttr placement) {
  auto tensor = cast<RankedTensorType>(type);
  return RankedTensorType::get(tensor.getShape(), tensor.getElementType(), placement);
}

RankedTensorType galvatron::dist::getLocalType(Type type) {
  auto tensor = cast<RankedTensorType>(type);
  PlacementAttr placement = getPlacement(type);
  if (!placement)
    return tensor;
  return RankedTensorType::get(placement.getLocalShape(), tensor.getElementType());
}

int64_t galvatron::dist::getLocalBytes(Type type) {
  RankedTensorType local = getLocalType(type);
  return llvm::divideCeil(local.getNumElements() * local.getElementTypeBitWidth(), 8);
}
