// Sums, means, extrema, and running sums of expressions.
#include "Importer.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

/// Numbers that a reduction of an expression may visit.
constexpr int64_t kVisitLimit = 1 << 22;

enum class Kind { Sum, Mean, Maximum, Minimum };

SmallVector<int64_t> reducedDims(Call &call, const Tensor &x) {
  SmallVector<int64_t> dims;
  if (call.has("dim"))
    for (int64_t dim : call.integers("dim"))
      dims.push_back(dim < 0 ? dim + x.rank() : dim);
  if (dims.empty())
    dims = llvm::to_vector(llvm::seq<int64_t>(0, x.rank()));
  llvm::sort(dims);
  return dims;
}

/// The reduction of numbers; null when too many would have to be visited.
ExpressionRef reduceExpression(ExpressionContext &context, ExpressionRef x, Kind kind, llvm::ArrayRef<int64_t> dims,
                               ElementType type) {
  // Only dimensions that matter are visited; sums count the others.
  Shape kept, keptAll;
  SmallVector<bool> reduced(x->shape.size(), false);
  double repeats = 1, count = 1;
  for (int64_t d : dims) {
    reduced[d] = true;
    count *= double(x->shape[d]);
    if (!x->dependsOn(d))
      repeats *= double(x->shape[d]);
  }
  for (size_t d = 0; d < x->shape.size(); ++d)
    if (!reduced[d])
      keptAll.push_back(x->shape[d]);
  if (x->numDifferent() > kVisitLimit)
    return nullptr;
  ExpressionRef compact = context.compact(x);
  std::vector<double> values = context.materialize(compact);
  SmallVector<int64_t, 4> differing = x->dependentDims();
  for (int64_t d : differing)
    if (!reduced[d])
      kept.push_back(x->shape[d]);
  std::vector<double> result(numElements(kept), kind == Kind::Maximum   ? -INFINITY
                                                : kind == Kind::Minimum ? INFINITY
                                                                        : 0);
  Shape index(differing.size(), 0);
  for (double value : values) {
    int64_t position = 0;
    for (auto [i, d] : llvm::enumerate(differing))
      if (!reduced[d])
        position = position * x->shape[d] + index[i];
    double &slot = result[position];
    slot = kind == Kind::Maximum ? std::max(slot, value) : kind == Kind::Minimum ? std::min(slot, value) : slot + value;
    for (size_t i = index.size(); i-- > 0;) {
      if (++index[i] < x->shape[differing[i]])
        break;
      index[i] = 0;
    }
  }
  if (kind == Kind::Sum || kind == Kind::Mean)
    for (double &value : result)
      value = roundTo(type, value * repeats / (kind == Kind::Mean ? count : 1));
  ExpressionRef narrow = context.fit(type, kept, std::move(result), x->positional);
  View wide;
  wide.shape = keptAll;
  unsigned outer = 0;
  for (size_t d = 0; d < x->shape.size(); ++d) {
    if (reduced[d])
      continue;
    if (x->dependsOn(d)) {
      View::Index each;
      each.terms.push_back({outer, 1});
      wide.indices.push_back(each);
    }
    ++outer;
  }
  return context.view(narrow, wide);
}

template <Kind kind> Results reduce(Call &call) {
  Importer &importer = call.importer;
  if (call.has("other")) // max(a, b)
    return {Value(importer.elementwise(kind == Kind::Maximum ? Operator::Maximum : Operator::Minimum,
                                       {call.tensor("self"), call.tensor("other")}, call.tensor("self").type,
                                       call.tensor("self").type))};
  Tensor x = call.tensor("self");
  bool adds = kind == Kind::Sum || kind == Kind::Mean;
  ElementType type = call.elementType("dtype", adds && !isFloat(x.type) ? ElementType::Int64 : x.type);
  x = importer.convert(x, type);
  SmallVector<int64_t> dims = reducedDims(call, x);
  Shape shape, full = x.shape;
  double count = 1;
  for (int64_t d : dims) {
    count *= double(full[d]);
    full[d] = 1;
  }
  Tensor result;
  ExpressionRef lazy = x.lazy ? reduceExpression(call.expressions, x.lazy, kind, dims, type) : nullptr;
  if (lazy) {
    result = Tensor::of(lazy);
  } else if (!isFloat(type)) {
    throw ImportError("reduces integers that depend on data, which is unsupported");
  } else if (kind == Kind::Minimum) {
    Tensor negated = importer.elementwise(Operator::Negate, {x}, type, type);
    Tensor largest = Tensor::of(call.emitter.reduce(importer.force(negated), true, dims), type);
    result = importer.elementwise(Operator::Negate, {largest}, type, type);
  } else {
    result = Tensor::of(call.emitter.reduce(importer.force(x), kind == Kind::Maximum, dims), type);
    if (kind == Kind::Mean)
      result = importer.elementwise(Operator::Divide, {result, Tensor::of(call.expressions.splat(type, {}, count))},
                                    type, type);
  }
  bool keep = call.flag("keepdim", false);
  Results results{Value(keep ? importer.reshape(result, full) : result)};
  if (!adds && call.has("dim") && !call.find("dim")->isList() && call.op != "aten::amax" && call.op != "aten::amin")
    results.push_back(Value()); // indices: None, refused where they are read
  return results;
}

template <bool every> Results allOrAny(Call &call) {
  Tensor x = call.importer.convert(call.tensor("self"), ElementType::Bool);
  ExpressionRef result = x.lazy ? reduceExpression(call.expressions, x.lazy, every ? Kind::Minimum : Kind::Maximum,
                                                   reducedDims(call, x), ElementType::Bool)
                                : nullptr;
  if (!result)
    throw ImportError("depends on data; only data-independent conditions are supported");
  return {Value(Tensor::of(result))};
}

Results cumulativeSum(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  ElementType type = call.elementType("dtype", isFloat(x.type) ? x.type : ElementType::Int64);
  int64_t dim = call.dim("dim", x.rank()), extent = x.shape[dim];
  x = importer.convert(x, type);
  if (!x.lazy)
    throw ImportError("running sums of tensors that depend on data are unsupported");
  ExpressionRef lazy = x.lazy;
  if (lazy->isSplat()) {
    Linear ramp{lazy->constant, Shape(x.rank(), 0), true};
    ramp.factors[dim] = int64_t(lazy->constant);
    if (double(ramp.factors[dim]) == lazy->constant)
      return {Value(Tensor::of(call.expressions.linear(type, x.shape, ramp)))};
  }
  if (lazy->numDifferent() * (lazy->dependsOn(dim) ? 1 : extent) > kVisitLimit)
    throw ImportError("running sum over more than 4 M different numbers is unsupported");
  // Over the dependent dimensions and `dim`.
  View narrow, wide;
  narrow.indices.resize(x.rank());
  wide.shape = x.shape;
  int64_t inner = 1;
  for (int64_t d = 0; d < x.rank(); ++d)
    if (lazy->dependsOn(d) || d == dim) {
      narrow.indices[d].terms.push_back({unsigned(narrow.shape.size()), 1});
      narrow.shape.push_back(x.shape[d]);
      View::Index index;
      index.terms.push_back({unsigned(d), 1});
      wide.indices.push_back(index);
      inner = d > dim ? inner * x.shape[d] : inner;
    }
  std::vector<double> values = call.expressions.materialize(call.expressions.view(lazy, narrow));
  for (size_t i = 0; i < values.size(); ++i)
    if (int64_t(i) / inner % extent != 0)
      values[i] = roundTo(type, values[i] + values[i - inner]);
  ExpressionRef sums = call.expressions.fit(type, narrow.shape, std::move(values), lazy->positional);
  return {Value(Tensor::of(call.expressions.view(sums, wide)))};
}

Results difference(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  if (call.integer("n", 1) != 1)
    throw ImportError("expects n = 1");
  int64_t dim = call.dim("dim", x.rank());
  SmallVector<Tensor, 3> parts;
  if (call.has("prepend"))
    parts.push_back(importer.convert(call.tensor("prepend"), x.type));
  parts.push_back(x);
  if (call.has("append"))
    parts.push_back(importer.convert(call.tensor("append"), x.type));
  Tensor whole = importer.concat(parts, dim);
  Shape shape = whole.shape, offsets(x.rank(), 0);
  shape[dim] -= 1;
  Tensor lower = importer.slice(whole, offsets, shape);
  offsets[dim] = 1;
  return {
      Value(importer.elementwise(Operator::Subtract, {importer.slice(whole, offsets, shape), lower}, x.type, x.type))};
}

} // namespace

void galvatron::importer::addReductionRules(RuleTable &table) {
  table.add("aten::sum", reduce<Kind::Sum>);
  table.add("aten::mean", reduce<Kind::Mean>);
  table.add("aten::max", reduce<Kind::Maximum>);
  table.add("aten::amax", reduce<Kind::Maximum>);
  table.add("aten::min", reduce<Kind::Minimum>);
  table.add("aten::amin", reduce<Kind::Minimum>);
  table.add("aten::all", allOrAny<true>);
  table.add("aten::any", allOrAny<false>);
  table.add("aten::cumsum", cumulativeSum);
  table.add("aten::diff", difference);
}
