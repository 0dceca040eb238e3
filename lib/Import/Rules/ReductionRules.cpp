// Sums, means, extrema, and running sums of expressions.
#include "Indexing.h"

#include "lib/Import/Program/Documents.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

SmallVector<int64_t> galvatron::importer::reducedDims(Call &call, const Tensor &x) {
  SmallVector<int64_t> dims;
  if (call.has("dim") && x.rank() > 0)
    dims = call.dims("dim", x.rank());
  if (dims.empty())
    dims = llvm::to_vector(llvm::seq<int64_t>(0, x.rank()));
  llvm::sort(dims);
  return dims;
}

namespace {

/// Numbers that a reduction of an expression may visit.
constexpr int64_t kVisitLimit = 1 << 22;

enum class Kind { Sum, Mean, Maximum, Minimum };

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
  Tensor x = call.tensor("self");
  bool adds = kind == Kind::Sum || kind == Kind::Mean;
  ElementType type = call.elementType("dtype", adds && !isFloat(x.type) ? ElementType::Int64 : x.type);
  ElementType asked = type;
  x = importer.convert(x, type);
  // Rounded once, as PyTorch does: neither sum nor quotient is of 16 bits.
  if (kind == Kind::Mean && (type == ElementType::BFloat16 || type == ElementType::Float16)) {
    type = ElementType::Float32;
    x = importer.convert(x, type);
  }
  SmallVector<int64_t> dims = reducedDims(call, x);
  Shape shape, full = x.shape;
  double count = 1;
  for (int64_t d : dims) {
    count *= double(full[d]);
    full[d] = 1;
  }
  for (int64_t d = 0; d < x.rank(); ++d)
    if (!llvm::is_contained(dims, d))
      shape.push_back(x.shape[d]);
  Tensor result;
  ExpressionRef lazy = x.lazy ? reduceExpression(call.expressions, x.lazy, kind, dims, type) : nullptr;
  if (lazy) {
    result = Tensor::of(lazy);
  } else if (!isFloat(type)) {
    x = exactAsFloat(call, x, kind == Kind::Sum);
    Formula f{call, x.type};
    Tensor sign = f.number(kind == Kind::Minimum ? -1 : 1);
    Tensor reduced = f.multiply(sign, f.reduce(f.multiply(x, sign), kind != Kind::Sum, dims));
    result = importer.convert(importer.reshape(reduced, shape), type);
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
  result = importer.convert(result, asked);
  return {Value(call.flag("keepdim", false) ? importer.reshape(result, full) : result)};
}

/// The first position of the largest (smallest) element along a dimension, which stays with extent 1: the smallest of
/// the positions where it is reached. In floating point, exact up to 2^24.
Tensor positionOfExtremum(Call &call, const Tensor &x, int64_t dim, bool maximum) {
  Formula f{call, floatOf(x.type)};
  int64_t extent = x.shape[dim];
  Tensor ordered = maximum ? call.importer.convert(x, f.type) : f.negate(x);
  Tensor peak = f.equal(ordered, f.maximum(ordered, {dim}));
  Shape along(x.rank(), 1);
  along[dim] = extent;
  Tensor position = call.importer.reshape(ramp(call, extent, 0, 1), along);
  Formula positions{call, ElementType::Float32};
  Tensor candidates = positions.choose(peak, positions.negate(position), positions.number(double(-extent)));
  return positions.negate(positions.maximum(candidates, {dim}));
}

Tensor dropUnlessKept(Call &call, const Tensor &x, int64_t dim) {
  if (call.flag("keepdim", false))
    return x;
  Shape shape = x.shape;
  shape.erase(shape.begin() + dim);
  return call.importer.reshape(x, shape);
}

template <bool maximum> Results argumentOfExtremum(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  if (!call.has("dim")) {
    Tensor flat = importer.reshape(x, {numElements(x.shape)});
    Tensor position = importer.convert(positionOfExtremum(call, flat, 0, maximum), ElementType::Int64);
    return {Value(importer.reshape(position, call.flag("keepdim", false) ? Shape(x.rank(), 1) : Shape()))};
  }
  int64_t dim = call.dim("dim", x.rank());
  Tensor position = importer.convert(positionOfExtremum(call, x, dim, maximum), ElementType::Int64);
  return {Value(dropUnlessKept(call, position, dim))};
}

/// max and min: of everything, of two tensors, or along a dimension. There the gradient is that of the element
/// whose index is returned, while amax and amin share it among all that are equal.
template <Kind kind> Results extremum(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  if (const Value *other = call.find("other")) {
    ElementType type = promote({call.value("self"), *other}, importer);
    Operator op = kind == Kind::Maximum ? Operator::Maximum : Operator::Minimum;
    return {Value(importer.elementwise(op, {x, call.tensor("other")}, type, type))};
  }
  if (!call.has("dim") || x.lazy || !isFloat(x.type))
    return reduce<kind>(call);
  int64_t dim = call.dim("dim", x.rank());
  Formula f{call, x.type};
  Shape along(x.rank(), 1);
  along[dim] = x.shape[dim];
  Tensor position = positionOfExtremum(call, x, dim, kind == Kind::Maximum);
  Tensor isIt =
      Formula{call, ElementType::Float32}.equal(importer.reshape(ramp(call, x.shape[dim], 0, 1), along), position);
  Tensor value = f.sum(f.choose(isIt, x, f.number(0)), {dim});
  return {Value(dropUnlessKept(call, value, dim)),
          Value(dropUnlessKept(call, importer.convert(position, ElementType::Int64), dim))};
}

Results bothExtrema(Call &call) { return {reduce<Kind::Minimum>(call)[0], reduce<Kind::Maximum>(call)[0]}; }

Results countNonzero(Call &call) {
  Tensor x = call.tensor("self");
  Tensor counted = call.importer.convert(call.importer.convert(x, ElementType::Bool), ElementType::Float32);
  Formula f{call, ElementType::Float32};
  SmallVector<int64_t> dims = reducedDims(call, x);
  Shape shape;
  for (int64_t d = 0; d < x.rank(); ++d)
    if (!llvm::is_contained(dims, d))
      shape.push_back(x.shape[d]);
  return {Value(call.importer.convert(call.importer.reshape(f.sum(counted, dims), shape), ElementType::Int64))};
}

template <bool every> Results allOrAny(Call &call) {
  Importer &importer = call.importer;
  Tensor x = importer.convert(call.tensor("self"), ElementType::Bool);
  SmallVector<int64_t> dims = reducedDims(call, x);
  Shape dropped, kept = x.shape;
  for (int64_t d = 0; d < x.rank(); ++d)
    if (llvm::is_contained(dims, d))
      kept[d] = 1;
    else
      dropped.push_back(x.shape[d]);
  ExpressionRef lazy = x.lazy ? reduceExpression(call.expressions, x.lazy, every ? Kind::Minimum : Kind::Maximum, dims,
                                                 ElementType::Bool)
                              : nullptr;
  Tensor result;
  if (lazy) {
    result = Tensor::of(lazy);
  } else {
    Formula f{call, ElementType::Float32};
    Tensor sign = f.number(every ? -1 : 1);
    result = importer.convert(f.multiply(f.maximum(f.multiply(x, sign), dims), sign), ElementType::Bool);
  }
  return {Value(importer.reshape(result, call.flag("keepdim", false) ? kept : dropped))};
}

/// Of data: a product with a triangle of ones.
Tensor cumulativeSumOfData(Call &call, const Tensor &x, int64_t dim) {
  Importer &importer = call.importer;
  Tensor numbers = exactAsFloat(call, x, /*sum=*/true);
  ElementType type = numbers.type;
  int64_t extent = x.shape[dim];
  auto linear = [&](int64_t d) {
    Shape factors{d == 0, d == 1};
    return Tensor::of(call.expressions.linear(ElementType::Int64, {extent, extent}, {0, factors, true}));
  };
  Tensor earlier =
      importer.elementwise(Operator::LessEqual, {linear(1), linear(0)}, ElementType::Int64, ElementType::Bool);
  std::string operand, result;
  for (int64_t d = 0; d < x.rank(); ++d) {
    operand += char('a' + d);
    result += d == dim ? 'z' : char('a' + d);
  }
  std::string equation = operand + ",z" + char('a' + dim) + "->" + result;
  mlir::Value sums = call.emitter.einsum(importer.force(numbers), importer.force(importer.convert(earlier, type)),
                                         equation, x.shape, type);
  return importer.convert(Tensor::of(sums, type), x.type);
}

Results cumulativeSum(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  ElementType type = call.elementType("dtype", isFloat(x.type) ? x.type : ElementType::Int64);
  int64_t dim = call.dim("dim", x.rank()), extent = x.shape[dim];
  // As `documents`, what only depends on it is known to be the same for all positions of one.
  if (importer.isPacked && !x.lazy && dim == 1 && x.rank() == 2 && type == ElementType::Int64 &&
      countsDocuments(x.data, importer.input(Importer::kPositions).cell()->tensor.data))
    return {importer.input(Importer::kDocuments)};
  x = importer.convert(x, type);
  if (!x.lazy)
    return {Value(cumulativeSumOfData(call, x, dim))};
  ExpressionRef lazy = x.lazy;
  if (lazy->isSplat()) {
    Linear ramp{lazy->constant, Shape(x.rank(), 0), true};
    ramp.factors[dim] = int64_t(lazy->constant);
    if (double(ramp.factors[dim]) == lazy->constant)
      return {Value(Tensor::of(call.expressions.linear(type, x.shape, ramp)))};
  }
  if (lazy->numDifferent() * (lazy->dependsOn(dim) ? 1 : extent) > kVisitLimit)
    throw ImportError("running sum over more than 4 M different numbers is unsupported; make it a "
                      "parameter, or compute it from positions");
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
    throw ImportError("expects n = 1; take differences of differences");
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
  table.add("aten::max", extremum<Kind::Maximum>);
  table.add("aten::amax", reduce<Kind::Maximum>);
  table.add("aten::min", extremum<Kind::Minimum>);
  table.add("aten::amin", reduce<Kind::Minimum>);
  table.add("aten::aminmax", bothExtrema);
  table.add("aten::argmax", argumentOfExtremum<true>);
  table.add("aten::argmin", argumentOfExtremum<false>);
  table.add("aten::count_nonzero", countNonzero);
  table.add("aten::all", allOrAny<true>);
  table.add("aten::any", allOrAny<false>);
  table.add("aten::cumsum", cumulativeSum);
  table.add("aten::diff", difference);
}
