// Small members of tensors and values.
#include "Value.h"

#include "mlir/IR/BuiltinTypes.h"

using namespace galvatron::importer;

Tensor Tensor::of(mlir::Value x, ElementType type) {
  ShapeRef shape = llvm::cast<mlir::RankedTensorType>(x.getType()).getShape();
  return {Shape(shape.begin(), shape.end()), type, nullptr, x};
}

Value::Value(Tensor x) {
  auto cell = std::make_shared<Cell>();
  cell->tensor = std::move(x);
  content = std::move(cell);
}

double Value::number() const {
  if (isInteger())
    return exactDouble(integer().value);
  return isDouble() ? std::get<double>(content) : double(std::get<bool>(content));
}

std::string galvatron::importer::describe(ShapeRef shape) {
  std::string text = "[";
  for (int64_t extent : shape)
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

const char *galvatron::importer::describe(ElementType type) {
  switch (type) {
  case ElementType::Bool:
    return "bool";
  case ElementType::UInt8:
    return "uint8";
  case ElementType::Int32:
    return "int32";
  case ElementType::Int64:
    return "int64";
  case ElementType::Float16:
    return "float16";
  case ElementType::BFloat16:
    return "bfloat16";
  case ElementType::Float32:
    return "float32";
  case ElementType::Float64:
    return "float64";
  }
  return "unknown";
}
