// Sizes and plain numbers: what a trace computes its shapes with.
#include "lib/Import/Program/Importer.h"

#include <cmath>

using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

Results size(Call &call) {
  Tensor x = call.tensor("self");
  if (call.has("dim"))
    return {Value(Integer{x.shape[call.dim("dim", x.rank())], true})};
  List sizes;
  for (int64_t extent : x.shape)
    sizes.push_back(Integer{extent, true});
  return {Value(sizes)};
}

Results rank(Call &call) { return {Value(Integer{call.tensor(call.arguments[0].name).rank()})}; }

Results count(Call &call) { return {Value(Integer{numElements(call.tensor(call.arguments[0].name).shape), true})}; }

Results length(Call &call) {
  const Value &value = call.arguments[0].value;
  if (value.isTensor()) {
    Tensor x = call.tensorOrNumber(value);
    if (x.rank() == 0)
      throw ImportError("expects a list or a tensor with dimensions, but got a single number");
    return {Value(Integer{x.shape.front(), true})};
  }
  return {Value(Integer{int64_t(value.list().size())})};
}

/// A number as a rank-0 tensor.
Results toTensor(Call &call) {
  Tensor x = call.tensorOrNumber(call.arguments[0].value);
  return {Value(call.importer.convert(x, x.type == ElementType::Float64 ? ElementType::Float32 : x.type))};
}

int64_t toInt64(double number) {
  if (!(std::abs(number) < 0x1p63))
    throw ImportError("makes an integer of " + std::to_string(number) + ", which has 64 bits at most");
  return int64_t(number);
}

/// A rank-0 tensor, or a number, as a number.
Results toNumber(Call &call) {
  const Value &value = call.arguments[0].value;
  if (value.isNumber())
    return {value};
  Tensor x = call.tensorOrNumber(value);
  if (!x.lazy || !x.lazy->isSplat())
    throw ImportError("turns a tensor that depends on data into a number; the program must not depend on it "
                      "(dynamic shapes are unsupported)");
  if (x.type == ElementType::Bool)
    return {Value(x.lazy->constant != 0)};
  if (isFloat(x.type))
    return {Value(x.lazy->constant)};
  return {Value(Integer{toInt64(x.lazy->constant), x.lazy->fromShape})};
}

Results toInteger(Call &call) {
  Value value = toNumber(call)[0];
  return {value.isInteger() ? value : Value(Integer{toInt64(value.number())})};
}

Results toDouble(Call &call) { return {Value(toNumber(call)[0].number())}; }

Results toBool(Call &call) { return {Value(toNumber(call)[0].number() != 0)}; }

Results item(Call &call) {
  const Value &list = call.arguments[0].value;
  int64_t asked = asInteger(call.arguments[1].value, call.importer, "index").value;
  if (!list.isList())
    throw ImportError("expects a list to take an element of, but got a text or a number");
  int64_t length = list.list().size(), index = asked < 0 ? asked + length : asked;
  if (index < 0 || index >= length)
    throw ImportError("expects an index within a list of length " + std::to_string(length) + ", but got " +
                      std::to_string(asked));
  return {list.list()[index]};
}

Results floorDivideNumbers(Call &call) {
  Integer a = asInteger(call.arguments[0].value, call.importer, "a");
  Integer b = asInteger(call.arguments[1].value, call.importer, "b");
  if (b.value == 0)
    throw ImportError("divides " + std::to_string(a.value) + " by zero");
  return {Value(Integer{toInt64(std::floor(double(a.value) / double(b.value))), a.fromShape || b.fromShape})};
}

template <bool equal> Results isSame(Call &call) {
  return {Value((call.arguments[0].value.isNone() == call.arguments[1].value.isNone()) == equal)};
}

/// ScalarType, as its number.
Results dtype(Call &call) {
  switch (call.tensorOrNumber(call.arguments[0].value).type) {
  case ElementType::UInt8:
    return {Value(Integer{0})};
  case ElementType::Int32:
    return {Value(Integer{3})};
  case ElementType::Int64:
    return {Value(Integer{4})};
  case ElementType::Float16:
    return {Value(Integer{5})};
  case ElementType::Float32:
    return {Value(Integer{6})};
  case ElementType::Float64:
    return {Value(Integer{7})};
  case ElementType::Bool:
    return {Value(Integer{11})};
  case ElementType::BFloat16:
    return {Value(Integer{15})};
  }
  return {};
}

Results device(Call &) { return {Value(std::string("cpu"))}; }

} // namespace

void galvatron::importer::addScalarRules(RuleTable &table) {
  table.add("aten::size", size);
  table.add("aten::sym_size", size);
  table.add("aten::dim", rank);
  table.add("aten::numel", count);
  table.add("aten::len", length);
  table.add("prim::NumToTensor", toTensor);
  table.add("aten::scalar_tensor", toTensor);
  table.add("aten::tensor", toTensor);
  table.add("aten::Int", toInteger);
  table.add("aten::IntImplicit", toInteger);
  table.add("aten::Float", toDouble);
  table.add("aten::FloatImplicit", toDouble);
  table.add("aten::Bool", toBool);
  table.add("aten::ScalarImplicit", toNumber);
  table.add("aten::item", toNumber);
  table.add("aten::__getitem__", item);
  table.add("aten::floordiv", floorDivideNumbers);
  table.add("aten::__is__", isSame<true>);
  table.add("aten::__isnot__", isSame<false>);
  table.add("prim::dtype", dtype);
  table.add("prim::device", device);
}
