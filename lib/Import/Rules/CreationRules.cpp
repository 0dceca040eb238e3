// Tensors made from nothing; all of them are expressions.
#include "lib/Import/Program/Importer.h"

#include <cmath>

using namespace galvatron::importer;
using Results = llvm::SmallVector<Value, 1>;

namespace {

Results arange(Call &call) {
  const Value *start = call.find("start"), *step = call.find("step");
  const Value &end = call.value("end");
  bool integral = true, fromShape = false;
  auto number = [&](const Value *value, double fallback) {
    if (!value)
      return fallback;
    Tensor x = call.tensorOrNumber(*value);
    if (!x.lazy || !x.lazy->isSplat())
      throw ImportError("expects numbers that do not depend on data");
    integral &= !isFloat(x.type);
    fromShape |= x.lazy->fromShape;
    return x.lazy->constant;
  };
  double first = number(start, 0), by = number(step, 1), last = number(&end, 0);
  double length = std::ceil((last - first) / by);
  if (!(std::abs(length) < 0x1p53) || !(std::abs(first) < 0x1p53) || by == 0)
    throw ImportError("expects a range of numbers below 2^53 with a step, but got " + std::to_string(first) + " to " +
                      std::to_string(last) + " by " + std::to_string(by));
  int64_t count = std::max<int64_t>(0, int64_t(length));
  ElementType type = call.elementType("dtype", integral ? ElementType::Int64 : ElementType::Float32);
  if (count == 0)
    throw ImportError("makes an empty tensor, which is unsupported");
  return {Value(Tensor::of(call.expressions.arange(type, first, by, count, fromShape)))};
}

Results filled(Call &call, double value, ElementType type) {
  return {Value(Tensor::of(call.expressions.splat(call.elementType("dtype", type), call.integers("size"), value)))};
}

template <int value> Results constant(Call &call) { return filled(call, value, ElementType::Float32); }

Results full(Call &call) {
  Tensor value = call.tensorOrNumber(call.value("fill_value"));
  if (!value.lazy || !value.lazy->isSplat())
    throw ImportError("expects a number that does not depend on data; multiply ones by it");
  return filled(call, value.lazy->constant, value.type == ElementType::Float64 ? ElementType::Float32 : value.type);
}

template <int value> Results like(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(Tensor::of(call.expressions.splat(call.elementType("dtype", x.type), x.shape, value)))};
}

Results fullLike(Call &call) {
  Tensor x = call.tensor("self");
  return {
      Value(Tensor::of(call.expressions.splat(call.elementType("dtype", x.type), x.shape, call.number("fill_value"))))};
}

template <int value> Results makeNew(Call &call) { return filled(call, value, call.tensor("self").type); }

Results newFull(Call &call) { return filled(call, call.number("fill_value"), call.tensor("self").type); }

/// fill_, zero_ and copy_ under their in-place names less the underscore.
Results fill(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(Tensor::of(call.expressions.splat(x.type, x.shape, call.number("value", 0))))};
}

Results copy(Call &call) { return {Value(call.tensor("src"))}; }

Results linspace(Call &call) {
  double start = call.number("start"), end = call.number("end");
  int64_t steps = call.integer("steps");
  ElementType type = call.elementType("dtype", ElementType::Float32);
  if (steps < 0 || steps > kMostNumbers)
    throw ImportError("expects 0 to " + std::to_string(kMostNumbers) + " steps, but got " + std::to_string(steps));
  std::vector<double> values;
  for (int64_t i = 0; i < steps; ++i)
    values.push_back(roundTo(type, steps == 1 ? start : start + (end - start) * double(i) / double(steps - 1)));
  return {Value(Tensor::of(call.expressions.dense(type, {steps}, std::move(values))))};
}

/// 1 where column - row ≤ (tril) or ≥ (triu) the diagonal, times x.
template <bool lower> Results triangle(Call &call) {
  Tensor x = call.tensor("self");
  Importer &importer = call.importer;
  if (x.rank() < 2)
    throw ImportError("expects a matrix or a batch of them, but got " + describe(x.shape));
  Shape square(x.shape.end() - 2, x.shape.end());
  auto linear = [&](Linear value) {
    value.positional = true;
    return Tensor::of(call.expressions.linear(ElementType::Int64, square, value));
  };
  Tensor row = linear({0, {1, 0}}), shifted = linear({-double(call.integer("diagonal", 0)), {0, 1}});
  Tensor kept = importer.elementwise(Operator::LessEqual, {lower ? shifted : row, lower ? row : shifted},
                                     ElementType::Int64, ElementType::Bool);
  Tensor zero = Tensor::of(call.expressions.splat(x.type, {}, 0));
  return {Value(importer.elementwise(Operator::Select, {kept, x, zero}, x.type, x.type))};
}

Results eye(Call &call) {
  Importer &importer = call.importer;
  int64_t rows = call.integer("n");
  Shape shape{rows, call.integer("m", rows)};
  Tensor row = Tensor::of(call.expressions.linear(ElementType::Int64, shape, {0, {1, 0}, true}));
  Tensor column = Tensor::of(call.expressions.linear(ElementType::Int64, shape, {0, {0, 1}, true}));
  Tensor equal = importer.elementwise(Operator::Equal, {column, row}, ElementType::Int64, ElementType::Bool);
  return {Value(importer.convert(equal, call.elementType("dtype", ElementType::Float32)))};
}

Results oneHot(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  int64_t classes = call.integer("num_classes", -1);
  if (classes <= 0)
    throw ImportError("expects num_classes, as the shape must not depend on data");
  Shape shape = x.shape;
  shape.push_back(1);
  Tensor column = Tensor::of(call.expressions.arange(ElementType::Int64, 0, 1, classes, false));
  Tensor equal = importer.elementwise(Operator::Equal, {importer.reshape(x, shape), column}, ElementType::Int64,
                                      ElementType::Bool);
  return {Value(importer.convert(equal, ElementType::Int64))};
}

} // namespace

void galvatron::importer::addCreationRules(RuleTable &table) {
  table.add("aten::arange", arange);
  table.add("aten::linspace", linspace);
  table.add("aten::zeros", constant<0>);
  table.add("aten::ones", constant<1>);
  table.add("aten::empty", constant<0>);
  table.add("aten::full", full);
  table.add("aten::zeros_like", like<0>);
  table.add("aten::ones_like", like<1>);
  table.add("aten::empty_like", like<0>);
  table.add("aten::full_like", fullLike);
  table.add("aten::new_zeros", makeNew<0>);
  table.add("aten::new_ones", makeNew<1>);
  table.add("aten::new_empty", makeNew<0>);
  table.add("aten::new_full", newFull);
  table.add("aten::fill", fill);
  table.add("aten::zero", fill);
  table.add("aten::copy", copy);
  table.add("aten::tril", triangle<true>);
  table.add("aten::triu", triangle<false>);
  table.add("aten::eye", eye);
  table.add("aten::one_hot", oneHot);
}
