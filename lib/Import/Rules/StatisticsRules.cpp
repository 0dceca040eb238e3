// Log-sum-exp, norms, variances, products and running sums over data, from sums and maxima.
#include "Formula.h"

#include "dialects/Graph/GraphLoss.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

/// A reduction's operand, and the dimensions that it sums over; none given are all.
struct Reduction {
  Call &call;
  Tensor x;
  Formula f;
  SmallVector<int64_t> dims;
  bool keep;

  explicit Reduction(Call &call)
      : call(call), x(call.tensor("self")), f{call, call.elementType("dtype", floatOf(x.type))},
        dims(reducedDims(call, x)), keep(call.flag("keepdim", false)) {
    x = call.importer.convert(x, f.type);
  }

  double count() const {
    double result = 1;
    for (int64_t dim : dims)
      result *= double(x.shape[dim]);
    return result;
  }
  Tensor mean() const { return f.multiply(f.sum(x, dims), 1 / count()); }
  /// The dimensions of extent 1 go unless they are kept.
  Value result(const Tensor &reduced) const {
    if (keep)
      return Value(reduced);
    Shape shape;
    for (int64_t dim = 0; dim < x.rank(); ++dim)
      if (!llvm::is_contained(dims, dim))
        shape.push_back(x.shape[dim]);
    return Value(call.importer.reshape(reduced, shape));
  }
};

/// Over the last dimension an op of its own. Else max + log Σ exp(x - max); the maximum is there for its range alone,
/// so no gradient flows through it.
Results logSumExp(Call &call) {
  Reduction r(call);
  if (r.dims.size() == 1 && r.dims[0] == r.x.rank() - 1 && !r.x.lazy) {
    Shape kept = r.x.shape;
    kept.back() = 1;
    mlir::Type type = call.emitter.type(r.f.type, ShapeRef(kept).drop_back());
    mlir::Value y = galvatron::graph::LogSumExpOp::create(call.emitter.builder, call.emitter.location, type,
                                                          call.importer.force(call.importer.convert(r.x, r.f.type)));
    return {r.result(call.importer.reshape(Tensor::of(y, r.f.type), kept))};
  }
  Tensor max = r.f.maximum(r.x, r.dims);
  if (!max.lazy)
    max = Tensor::of(call.emitter.detach(max.data), max.type);
  Tensor sum = r.f.sum(r.f.exponential(r.f.subtract(r.x, max)), r.dims);
  return {r.result(r.f.add(r.f.logarithm(sum), max))};
}

/// (Σ |x|^p)^(1/p), for p = ∞ and -∞ the largest and smallest |x|, for p = 0 the number of elements that are not 0.
Tensor norm(const Reduction &r, double order) {
  const Formula &f = r.f;
  Tensor size = f.absolute(r.x);
  if (order == 2)
    return f.rootOfSquares(f.sum(f.multiply(r.x, r.x), r.dims));
  if (order == 1)
    return f.sum(size, r.dims);
  if (std::isinf(order))
    return order > 0 ? f.maximum(size, r.dims) : f.negate(f.maximum(f.negate(size), r.dims));
  if (order == 0)
    return f.sum(f.choose(f.equal(r.x, f.number(0)), f.number(0), f.number(1)), r.dims);
  if (order < 1)
    throw ImportError("expects a norm of order 0, 1 or more, but got " + std::to_string(order));
  Tensor sum = f.sum(f(Operator::Power, {size, f.number(order)}), r.dims);
  Tensor none = f.equal(sum, f.number(0));
  return f.choose(none, f.number(0), f(Operator::Power, {f.choose(none, f.number(1), sum), f.number(1 / order)}));
}

Results vectorNorm(Call &call) {
  Reduction r(call);
  const Value *order = call.find(call.op == "aten::linalg_vector_norm" || call.op == "aten::linalg_norm" ? "ord" : "p");
  // Frobenius' norm of two dimensions is the vector's of both.
  if (order && order->isString() && order->string() != "fro")
    throw ImportError("expects the norm of a vector, or 'fro', but got '" + order->string() + "'");
  if (call.op == "aten::linalg_norm" && order && order->isNumber() && r.dims.size() > 1)
    throw ImportError("expects the norm of a vector; the norms of matrices are unsupported but for 'fro'");
  return {r.result(norm(r, order && order->isNumber() ? order->number() : 2))};
}

/// Σ (x - mean)² / (n - correction), and the mean.
std::pair<Tensor, Tensor> variance(const Reduction &r) {
  Call &call = r.call;
  double correction = call.has("correction") ? call.number("correction") : call.flag("unbiased", true) ? 1 : 0;
  Tensor mean = r.mean(), centered = r.f.subtract(r.x, mean);
  double divisor = std::max(0.0, r.count() - correction);
  return {r.f.multiply(r.f.sum(r.f.multiply(centered, centered), r.dims), 1 / divisor), mean};
}

/// With the root where a deviation is asked for, and the mean where it is, too.
template <bool root, bool withMean> Results spread(Call &call) {
  Reduction r(call);
  auto [result, mean] = variance(r);
  Results results{r.result(root ? r.f.rootOfSquares(result) : result)};
  if (withMean)
    results.push_back(r.result(mean));
  return results;
}

/// Halves are multiplied until one element is left, so that a zero does no harm to the gradient.
Results product(Call &call) {
  Importer &importer = call.importer;
  Reduction r(call);
  Tensor x = r.x;
  if (!call.has("dim")) {
    x = importer.reshape(x, {numElements(x.shape)});
    r.dims = {0};
  }
  if (r.dims.size() != 1)
    throw ImportError("expects one dimension of " + describe(x.shape));
  int64_t dim = r.dims[0];
  while (x.shape[dim] > 1) {
    Shape offsets(x.rank(), 0), half = x.shape, rest = x.shape;
    half[dim] = x.shape[dim] / 2;
    rest[dim] = x.shape[dim] % 2;
    Tensor first = importer.slice(x, offsets, half);
    offsets[dim] = half[dim];
    Tensor pairs = r.f.multiply(first, importer.slice(x, offsets, half));
    offsets[dim] = 2 * half[dim];
    x = rest[dim] ? importer.concat({pairs, importer.slice(x, offsets, rest)}, dim) : pairs;
  }
  if (!call.has("dim"))
    return {Value(importer.reshape(x, {}))};
  return {r.result(x)};
}

/// Over the last dimension.
Tensor dot(const Formula &f, const Tensor &a, const Tensor &b, int64_t dim) { return f.sum(f.multiply(a, b), {dim}); }

/// a · b / (max(|a|, ε) max(|b|, ε))
Results cosineSimilarity(Call &call) {
  Importer &importer = call.importer;
  Tensor a = call.tensor("x1"), b = call.tensor("x2");
  Formula f{call, floatOf(a.type)};
  Shape shape = commonShape({ShapeRef(a.shape), ShapeRef(b.shape)});
  int64_t dim = call.dim("dim", shape.size());
  a = importer.expand(a, shape), b = importer.expand(b, shape);
  Tensor epsilon = f.number(call.number("eps", 1e-8));
  auto length = [&](const Tensor &x) {
    Tensor root = f.rootOfSquares(dot(f, x, x, dim));
    return f.choose(f.less(root, epsilon), epsilon, root);
  };
  Tensor cosine = dot(f, f.divide(a, length(a)), f.divide(b, length(b)), dim);
  Shape dropped = cosine.shape;
  dropped.erase(dropped.begin() + dim);
  return {Value(importer.reshape(cosine, dropped))};
}

} // namespace

void galvatron::importer::addStatisticsRules(RuleTable &table) {
  table.add("aten::logsumexp", logSumExp);
  for (const char *name : {"aten::linalg_vector_norm", "aten::linalg_norm", "aten::norm", "aten::frobenius_norm"})
    table.add(name, vectorNorm);
  table.add("aten::var", spread<false, false>);
  table.add("aten::std", spread<true, false>);
  table.add("aten::var_mean", spread<false, true>);
  table.add("aten::std_mean", spread<true, true>);
  table.add("aten::prod", product);
  table.add("aten::cosine_similarity", cosineSimilarity);
}
