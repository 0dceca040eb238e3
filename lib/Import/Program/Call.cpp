// Reading an operator's arguments by their schema names.
#include "Importer.h"

using namespace galvatron::importer;
using llvm::StringRef;

Call::Call(Importer &importer, StringRef op, llvm::ArrayRef<Argument> arguments, const Source &source)
    : importer(importer), emitter(importer.emitter), expressions(importer.expressions), op(op), arguments(arguments),
      source(source) {}

const Value *Call::find(StringRef name) const {
  for (const Argument &argument : arguments)
    if (argument.name == name)
      return argument.value.isNone() ? nullptr : &argument.value;
  return nullptr;
}

const Value &Call::value(StringRef name) const {
  if (const Value *found = find(name))
    return *found;
  throw ImportError("expects an argument " + name.str() + ", which this form of the operator lacks; use another form");
}

Tensor Call::tensor(StringRef name) const {
  const Value &found = value(name);
  if (!found.isTensor())
    throw ImportError("expects a tensor as argument " + name.str() + ", but got a number or a list; make it a tensor");
  return importer.read(*found.cell());
}

Tensor Call::tensorOrNumber(const Value &value) const {
  if (value.isTensor())
    return importer.read(*value.cell());
  if (!value.isNumber())
    throw ImportError("expects tensors or numbers, but got a list or a text");
  ElementType type = value.isDouble()    ? ElementType::Float64
                     : value.isInteger() ? ElementType::Int64
                                         : ElementType::Bool;
  bool fromShape = value.isInteger() && value.integer().fromShape;
  return Tensor::of(importer.expressions.splat(type, {}, value.number(), fromShape));
}

std::vector<Tensor> Call::tensors(StringRef name) const {
  std::vector<Tensor> result;
  for (const Value &element : value(name).list()) {
    if (!element.isTensor())
      throw ImportError("expects tensors as argument " + name.str() + ", but got something else among them");
    result.push_back(importer.read(*element.cell()));
  }
  if (result.empty())
    throw ImportError("expects at least one tensor as argument " + name.str());
  return result;
}

Integer galvatron::importer::asInteger(const Value &value, const Importer &importer, StringRef name) {
  if (value.isInteger())
    return value.integer();
  if (value.isBool())
    return {int64_t(value.number()), false};
  if (value.isTensor()) {
    const Tensor &tensor = importer.read(*value.cell());
    if (tensor.lazy && tensor.lazy->isSplat() && !isFloat(tensor.type))
      return {int64_t(tensor.lazy->constant), tensor.lazy->fromShape};
    throw ImportError("argument " + name.str() +
                      " is an integer that depends on data; shapes and sizes must not "
                      "(dynamic shapes are unsupported)");
  }
  throw ImportError("expects an integer as argument " + name.str() + "; convert with int()");
}

int64_t Call::integer(StringRef name) const { return asInteger(value(name), importer, name).value; }

int64_t Call::integer(StringRef name, int64_t fallback) const { return has(name) ? integer(name) : fallback; }

double Call::number(StringRef name) const {
  const Value &found = value(name);
  if (!found.isTensor())
    return found.number();
  Tensor tensor = importer.read(*found.cell());
  if (!tensor.lazy || !tensor.lazy->isSplat())
    throw ImportError("argument " + name.str() +
                      " is a number that depends on data, which is unsupported; "
                      "use operators between tensors instead");
  return tensor.lazy->constant;
}

double Call::number(StringRef name, double fallback) const { return has(name) ? number(name) : fallback; }

bool Call::flag(StringRef name, bool fallback) const {
  const Value *found = find(name);
  return found ? found->number() != 0 : fallback;
}

Shape Call::integers(StringRef name) const {
  const Value &found = value(name);
  if (!found.isList())
    return {asInteger(found, importer, name).value};
  Shape result;
  for (const Value &element : found.list())
    result.push_back(asInteger(element, importer, name).value);
  return result;
}

/// The dimension counted from the front.
static int64_t fromFront(int64_t dim, StringRef name, int64_t rank) {
  if (dim < -rank || dim >= rank)
    throw ImportError("expects " + name.str() + " within a tensor of rank " + std::to_string(rank) + ", but got " +
                      std::to_string(dim));
  return dim < 0 ? dim + rank : dim;
}

int64_t Call::dim(StringRef name, int64_t rank) const { return fromFront(integer(name), name, rank); }

Shape Call::dims(StringRef name, int64_t rank) const {
  Shape result = integers(name);
  for (int64_t &dim : result)
    dim = fromFront(dim, name, rank);
  Shape sorted = result;
  llvm::sort(sorted);
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    throw ImportError("expects " + name.str() + " to name each dimension once, but got " + describe(result));
  return result;
}

ElementType Call::elementType(StringRef name, ElementType fallback) const {
  if (!has(name))
    return fallback;
  switch (integer(name)) { // c10::ScalarType, part of TorchScript's serialized form
  case 0:
    return ElementType::UInt8;
  case 3:
    return ElementType::Int32;
  case 4:
    return ElementType::Int64;
  case 5:
    return ElementType::Float16;
  case 6:
    return ElementType::Float32;
  case 7:
    return ElementType::Float64;
  case 11:
    return ElementType::Bool;
  case 15:
    return ElementType::BFloat16;
  }
  throw ImportError("unsupported element type (torch scalar type " + std::to_string(integer(name)) +
                    "); use float32, bfloat16, float16, float64, int64, int32, uint8 or bool");
}

ElementType galvatron::importer::promote(llvm::ArrayRef<Value> operands, const Importer &importer) {
  auto kind = [](ElementType type) { return isFloat(type) ? 2 : type == ElementType::Bool ? 0 : 1; };
  auto join = [](ElementType a, ElementType b) {
    bool halves = (a == ElementType::Float16 && b == ElementType::BFloat16) ||
                  (a == ElementType::BFloat16 && b == ElementType::Float16);
    return halves ? ElementType::Float32 : std::max(a, b);
  };
  // A Python number that meets a tensor is written into a trace as a rank-0 tensor of type float64.
  bool meetsTensor = llvm::any_of(operands, [&](const Value &operand) {
    return operand.isTensor() && (!importer.read(*operand.cell()).lazy || importer.read(*operand.cell()).rank() > 0);
  });
  auto isNumber = [&](const Tensor &x) {
    return meetsTensor && x.rank() == 0 && x.type == ElementType::Float64 && x.lazy && x.lazy->isSplat();
  };
  // Tensors with dimensions, rank-0 tensors, numbers.
  std::optional<ElementType> levels[3];
  for (const Value &operand : operands) {
    int level = 2;
    ElementType type = ElementType::Int64;
    if (operand.isTensor()) {
      const Tensor &tensor = importer.read(*operand.cell());
      level = isNumber(tensor) ? 2 : tensor.rank() == 0;
      type = isNumber(tensor) ? ElementType::Float32 : tensor.type;
    } else if (operand.isDouble()) {
      type = ElementType::Float32;
    } else if (operand.isBool()) {
      type = ElementType::Bool;
    }
    levels[level] = levels[level] ? join(*levels[level], type) : type;
  }
  std::optional<ElementType> result;
  for (auto level : levels)
    if (level && (!result || kind(*level) > kind(*result)))
      result = level;
  return result.value_or(ElementType::Float32);
}
