// What products, attention, norms and nonlinearities mean. Formulas are in dialects/Graph/Graph*.td.
#include "OpTable.h"
#include "runtime/api/BlockedRows.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// Strides of each subscript in an operand, 0 for subscripts that it lacks.
static Shape subscriptStrides(StringRef subscripts, StringRef operand, const Tensor &tensor) {
  Shape strides, own = stridesOf(tensor.shape);
  for (char subscript : subscripts) {
    size_t dim = operand.find(subscript);
    strides.push_back(dim == StringRef::npos ? 0 : own[dim]);
  }
  return strides;
}

static int64_t dot(ArrayRef<int64_t> a, ArrayRef<int64_t> b) {
  int64_t sum = 0;
  for (auto [x, y] : llvm::zip(a, b))
    sum += x * y;
  return sum;
}

static void einsum(graph::EinsumOp op, OpCall &call) {
  auto [lhs, rhs, out] = op.getSubscripts();
  // Subscripts of the result outside, contracted ones inside.
  std::string outer = out.str(), inner;
  for (char subscript : lhs.str() + rhs.str())
    if (!StringRef(outer + inner).contains(subscript))
      inner += subscript;
  const Tensor &a = call.operand(0), &b = call.operand(1);
  Tensor &c = call.results[0];
  auto extents = [&](StringRef subscripts) {
    Shape shape;
    for (char subscript : subscripts) {
      size_t dim = lhs.find(subscript);
      shape.push_back(dim != StringRef::npos ? a.shape[dim] : b.shape[rhs.find(subscript)]);
    }
    return shape;
  };
  Shape innerShape = extents(inner);
  Shape aOuter = subscriptStrides(outer, lhs, a), aInner = subscriptStrides(inner, lhs, a);
  Shape bOuter = subscriptStrides(outer, rhs, b), bInner = subscriptStrides(inner, rhs, b);
  // The offsets of the contracted loops are the same for every element of the result.
  std::vector<std::pair<int64_t, int64_t>> offsets;
  forEachIndex(innerShape,
               [&](ArrayRef<int64_t> index, int64_t) { offsets.push_back({dot(index, aInner), dot(index, bInner)}); });
  forEachIndex(c.shape, [&](ArrayRef<int64_t> index, int64_t position) {
    int64_t aStart = dot(index, aOuter), bStart = dot(index, bOuter);
    double sum = 0;
    for (auto [aOffset, bOffset] : offsets)
      sum += a[aStart + aOffset] * b[bStart + bOffset];
    c[position] = sum;
  });
}

//===----------------------------------------------------------------------===//
// Attention
//===----------------------------------------------------------------------===//

namespace {

/// One (batch, head, query) row of attention; forward and backward share it.
template <typename Op> struct AttentionRow {
  mutable Op op; // ODS accessors are not const
  OpCall &call;
  const Tensor &q, &k, &v;
  const Tensor *bias;
  int64_t heads, kvHeads, queries, keys, size, valueSize;
  random::Stream stream;
  double dropout;
  /// Where the scores [B,N,Sq,Sk] lie: as q does, with all keys or those of a ring's step.
  Position scores;

  AttentionRow(Op op, OpCall &call, const Tensor &q, const Tensor &k, const Tensor &v, const Tensor *bias)
      : op(op), call(call), q(q), k(k), v(v), bias(bias), heads(q.shape[1]), kvHeads(k.shape[1]), queries(q.shape[2]),
        keys(k.shape[2]), size(q.shape[3]), valueSize(v.shape[3]), stream(call.dropoutStream(op.getId())),
        dropout(op.getDropout().convertToDouble()), scores(call.position) {
    scores.dims.resize(4);
    scores.dims[3].clear();
    if (!call.keyPosition.dims.empty())
      scores.dims[3] = call.keyPosition.dims[2];
  }

  int64_t qStart(int64_t b, int64_t n, int64_t i) const { return ((b * heads + n) * queries + i) * size; }
  int64_t kStart(int64_t b, int64_t n, int64_t j) const {
    return ((b * kvHeads + n / (heads / kvHeads)) * keys + j) * size;
  }
  int64_t vStart(int64_t b, int64_t n, int64_t j) const {
    return ((b * kvHeads + n / (heads / kvHeads)) * keys + j) * valueSize;
  }
  int64_t yStart(int64_t b, int64_t n, int64_t i) const { return ((b * heads + n) * queries + i) * valueSize; }

  /// Whether query i may look at key j.
  bool sees(int64_t i, int64_t j) const {
    int64_t query = scores.globalIndex(2, i) + scores.globalExtent(3, keys) - scores.globalExtent(2, queries);
    int64_t window = op.getWindow(), key = scores.globalIndex(3, j);
    return (!op.getCausal() || key <= query) && (window == 0 || query - key < window);
  }

  double biasAt(int64_t b, int64_t n, int64_t i, int64_t j) const {
    if (!bias)
      return 0;
    int64_t index[4] = {b, n, i, j}, offset = 0;
    Shape strides = stridesOf(bias->shape);
    for (int64_t dim = 0; dim < bias->rank(); ++dim)
      if (bias->shape[dim] != 1)
        offset += strides[dim] * index[4 - bias->rank() + dim];
    return (*bias)[offset];
  }

  /// The score before masking; `capped` is tanh(s / c), for its derivative.
  double score(int64_t b, int64_t n, int64_t i, int64_t j, double &capped) const {
    double s = 0;
    for (int64_t d = 0; d < size; ++d)
      s += q[qStart(b, n, i) + d] * k[kStart(b, n, j) + d];
    s *= op.getScale().convertToDouble();
    double cap = op.getSoftcap().convertToDouble();
    capped = cap > 0 ? std::tanh(s / cap) : 0;
    return (cap > 0 ? cap * capped : s) + biasAt(b, n, i, j);
  }

  /// What dropout multiplies probability (b, n, i, j) by.
  double keep(int64_t b, int64_t n, int64_t i, int64_t j) const {
    if (dropout == 0)
      return 1;
    uint64_t element = scores.globalElement({b, n, i, j}, {q.shape[0], heads, queries, keys});
    return random::keeps(stream, element, dropout) ? 1 / (1 - dropout) : 0;
  }

  void forEachRow(function_ref<void(int64_t b, int64_t n, int64_t i)> body) const {
    for (int64_t b = 0; b < q.shape[0]; ++b)
      for (int64_t n = 0; n < heads; ++n)
        for (int64_t i = 0; i < queries; ++i)
          body(b, n, i);
  }
};

} // namespace

static void attention(graph::AttentionOp op, OpCall &call) {
  AttentionRow<graph::AttentionOp> row(op, call, call.operand(0), call.operand(1), call.operand(2),
                                       op.getBias() ? &call.operand(3) : nullptr);
  Tensor &y = call.results[0], &lse = call.results[1];
  row.forEachRow([&](int64_t b, int64_t n, int64_t i) {
    std::vector<double> scores(row.keys, -INFINITY);
    double capped, max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < row.keys; ++j) {
      if (!row.sees(i, j))
        continue;
      scores[j] = row.score(b, n, i, j, capped);
      max = scores[j] > max || std::isnan(scores[j]) ? scores[j] : max; // std::max would lose a NaN
    }
    for (int64_t j = 0; j < row.keys; ++j)
      if (row.sees(i, j))
        sum += std::exp(scores[j] - max);
    double logSum = max == -INFINITY ? -INFINITY : max + std::log(sum); // where the row sees no key
    lse[(b * row.heads + n) * row.queries + i] = max == -INFINITY ? logSum : keptLogSum(max, sum, logSum);
    for (int64_t j = 0; j < row.keys && max != -INFINITY; ++j) {
      if (!row.sees(i, j))
        continue;
      double p = std::exp(scores[j] - max) / sum * row.keep(b, n, i, j);
      for (int64_t d = 0; d < row.valueSize; ++d)
        y[row.yStart(b, n, i) + d] += p * row.v[row.vStart(b, n, j) + d];
    }
  });
}

static void attentionBackward(graph::AttentionBackwardOp op, OpCall &call) {
  AttentionRow<graph::AttentionBackwardOp> row(op, call, call.operand(1), call.operand(2), call.operand(3),
                                               op.getBias() ? &call.operand(6) : nullptr);
  const Tensor &dy = call.operand(0), &y = call.operand(4), &lse = call.operand(5);
  Tensor &dq = call.results[0], &dk = call.results[1], &dv = call.results[2];
  double scale = op.getScale().convertToDouble();
  row.forEachRow([&](int64_t b, int64_t n, int64_t i) {
    int64_t yRow = row.yStart(b, n, i), qRow = row.qStart(b, n, i);
    double rowDot = 0, logSum = lse[(b * row.heads + n) * row.queries + i];
    for (int64_t d = 0; d < row.valueSize; ++d)
      rowDot += dy[yRow + d] * y[yRow + d];
    for (int64_t j = 0; j < row.keys && logSum != -INFINITY; ++j) {
      if (!row.sees(i, j))
        continue;
      double capped, score = row.score(b, n, i, j, capped);
      double p = !isBlockedRow(logSum) ? std::exp(score - logSum) : score == -INFINITY ? 0 : blockedShare(logSum);
      double keep = row.keep(b, n, i, j), dp = 0;
      int64_t kRow = row.kStart(b, n, j), vRow = row.vStart(b, n, j);
      for (int64_t d = 0; d < row.valueSize; ++d) {
        dp += keep * dy[yRow + d] * row.v[vRow + d];
        dv[vRow + d] += p * keep * dy[yRow + d];
      }
      double ds = p * (dp - rowDot);
      if (op.getSoftcap().convertToDouble() > 0)
        ds *= 1 - capped * capped;
      for (int64_t d = 0; d < row.size; ++d) {
        dq[qRow + d] += scale * ds * row.k[kRow + d];
        dk[kRow + d] += scale * ds * row.q[qRow + d];
      }
    }
  });
}

static void rope(graph::RopeOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  Tensor &y = call.results[0];
  y = x;
  ArrayRef<double> frequencies = op.getInverseFrequencies();
  int64_t half = frequencies.size(), size = x.shape.back();
  double scaling = op.getScaling().convertToDouble();
  bool interleaved = op.getStyle() == graph::RopeStyle::Interleaved;
  forEachIndex(ArrayRef(x.shape).drop_back(), [&](ArrayRef<int64_t> index, int64_t row) {
    int64_t s = index[op.getSeqDim()];
    double position = op.getPositions() ? call.operand(1)[index[op.getRowDim()] * x.shape[op.getSeqDim()] + s]
                                        : call.position.globalIndex(op.getSeqDim(), s);
    for (int64_t i = 0; i < half; ++i) {
      double angle = position * frequencies[i] * (op.getInverse() ? -1 : 1);
      int64_t first = row * size + (interleaved ? 2 * i : i), second = first + (interleaved ? 1 : half);
      y[first] = scaling * (x[first] * std::cos(angle) - x[second] * std::sin(angle));
      y[second] = scaling * (x[second] * std::cos(angle) + x[first] * std::sin(angle));
    }
  });
}

//===----------------------------------------------------------------------===//
// Norms, softmax
//===----------------------------------------------------------------------===//

static void norm(graph::NormOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  const Tensor *weight = op.getWeight() ? &call.operand(1) : nullptr;
  const Tensor *bias = op.getBias() ? &call.operand(weight ? 2 : 1) : nullptr;
  int64_t columns = x.shape.back();
  bool layer = op.getKind() == graph::NormKind::Layer;
  for (int64_t row = 0; row < call.results[1].size(); ++row) {
    const double *values = &x.data[row * columns];
    double mean = 0, square = 0;
    for (int64_t h = 0; layer && h < columns; ++h)
      mean += values[h] / columns;
    for (int64_t h = 0; h < columns; ++h)
      square += (values[h] - mean) * (values[h] - mean) / columns;
    double rstd = 1 / std::sqrt(square + op.getEpsilon().convertToDouble());
    for (int64_t h = 0; h < columns; ++h)
      call.results[0][row * columns + h] =
          (values[h] - mean) * rstd * (weight ? op.getOffset().convertToDouble() + (*weight)[h] : 1) +
          (bias ? (*bias)[h] : 0);
    call.results[1][row] = mean;
    call.results[2][row] = rstd;
  }
}

static void normBackward(graph::NormBackwardOp op, OpCall &call) {
  const Tensor &dy = call.operand(0), &x = call.operand(1);
  const Tensor *weight = op.getWeight() ? &call.operand(2) : nullptr;
  const Tensor &mean = call.operand(weight ? 3 : 2), &rstd = call.operand(weight ? 4 : 3);
  int64_t columns = x.shape.back();
  for (int64_t row = 0; row < mean.size(); ++row) {
    // An RMS norm has none: a body may leave the argument out.
    double center = op.getKind() == graph::NormKind::Rms ? 0 : mean[row];
    auto normalized = [&](int64_t h) { return (x[row * columns + h] - center) * rstd[row]; };
    auto gradient = [&](int64_t h) {
      return dy[row * columns + h] * (weight ? op.getOffset().convertToDouble() + (*weight)[h] : 1);
    };
    double meanGradient = 0, meanProduct = 0;
    for (int64_t h = 0; h < columns; ++h) {
      meanGradient += gradient(h) / columns;
      meanProduct += gradient(h) * normalized(h) / columns;
    }
    if (op.getKind() == graph::NormKind::Rms)
      meanGradient = 0;
    for (int64_t h = 0; h < columns; ++h)
      call.results[0][row * columns + h] = rstd[row] * (gradient(h) - meanGradient - normalized(h) * meanProduct);
  }
}

static void normWeightBackward(graph::NormWeightBackwardOp op, OpCall &call) {
  const Tensor &dy = call.operand(0), &x = call.operand(1), &mean = call.operand(2), &rstd = call.operand(3);
  int64_t columns = x.shape.back();
  for (int64_t row = 0; row < mean.size(); ++row)
    for (int64_t h = 0; h < columns; ++h)
      call.results[0][h] += dy[row * columns + h] * (x[row * columns + h] - mean[row]) * rstd[row];
}

static void softmax(graph::SoftmaxOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  int64_t columns = x.shape.back();
  for (int64_t start = 0; start < x.size(); start += columns) {
    double max = *std::max_element(&x.data[start], &x.data[start] + columns), sum = 0;
    for (int64_t i = start; i < start + columns; ++i)
      sum += call.results[0][i] = std::exp(x[i] - max);
    for (int64_t i = start; i < start + columns; ++i)
      call.results[0][i] /= sum;
  }
}

static void softmaxBackward(graph::SoftmaxBackwardOp op, OpCall &call) {
  const Tensor &dy = call.operand(0), &y = call.operand(1);
  int64_t columns = y.shape.back();
  for (int64_t start = 0; start < y.size(); start += columns) {
    double sum = 0;
    for (int64_t i = start; i < start + columns; ++i)
      sum += dy[i] * y[i];
    for (int64_t i = start; i < start + columns; ++i)
      call.results[0][i] = y[i] * (dy[i] - sum);
  }
}

//===----------------------------------------------------------------------===//
// Nonlinearities, dropout, sums
//===----------------------------------------------------------------------===//

static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// f(x), and its derivative.
static std::pair<double, double> activate(graph::ActivationKind kind, double x) {
  constexpr double kSqrtHalf = 0.70710678118654752, kInvSqrt2Pi = 0.39894228040143268;
  constexpr double kSqrt2OverPi = 0.79788456080286536;
  switch (kind) {
  case graph::ActivationKind::Relu:
    return {std::max(x, 0.0), x > 0 ? 1 : 0};
  case graph::ActivationKind::Relu2:
    return {x > 0 ? x * x : 0, x > 0 ? 2 * x : 0};
  case graph::ActivationKind::Gelu: {
    double cdf = 0.5 * (1 + std::erf(x * kSqrtHalf));
    return {x * cdf, cdf + x * kInvSqrt2Pi * std::exp(-0.5 * x * x)};
  }
  case graph::ActivationKind::GeluTanh: {
    double t = std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x));
    double slope = (1 - t * t) * kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
    return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * slope};
  }
  case graph::ActivationKind::Silu: {
    double s = sigmoid(x);
    return {x * s, s * (1 + x * (1 - s))};
  }
  case graph::ActivationKind::Sigmoid: {
    double s = sigmoid(x);
    return {s, s * (1 - s)};
  }
  case graph::ActivationKind::Tanh: {
    double t = std::tanh(x);
    return {t, 1 - t * t};
  }
  }
  llvm_unreachable("a kind without formula");
}

static void activation(graph::ActivationOp op, OpCall &call) {
  for (int64_t i = 0; i < call.results[0].size(); ++i)
    call.results[0][i] = activate(op.getKind(), call.operand(0)[i]).first;
}

static void activationBackward(graph::ActivationBackwardOp op, OpCall &call) {
  for (int64_t i = 0; i < call.results[0].size(); ++i)
    call.results[0][i] = call.operand(0)[i] * activate(op.getKind(), call.operand(1)[i]).second;
}

static void gatedActivation(graph::GatedActivationOp op, OpCall &call) {
  for (int64_t i = 0; i < call.results[0].size(); ++i)
    call.results[0][i] = activate(op.getKind(), call.operand(0)[i]).first * call.operand(1)[i];
}

static void gatedActivationBackward(graph::GatedActivationBackwardOp op, OpCall &call) {
  const Tensor &dy = call.operand(0), &gate = call.operand(1), &up = call.operand(2);
  for (int64_t i = 0; i < dy.size(); ++i) {
    auto [value, slope] = activate(op.getKind(), gate[i]);
    call.results[0][i] = dy[i] * up[i] * slope;
    call.results[1][i] = dy[i] * value;
  }
}

static void dropout(graph::DropoutOp op, OpCall &call) {
  const Tensor &x = call.operand(0);
  double p = op.getP().convertToDouble();
  random::Stream stream = call.dropoutStream(op.getId());
  forEachIndex(x.shape, [&](ArrayRef<int64_t> index, int64_t i) {
    bool keep = random::keeps(stream, call.position.globalElement(index, x.shape), p);
    call.results[0][i] = keep ? x[i] / (1 - p) : 0;
  });
}

static void sum(graph::SumOp op, OpCall &call) {
  for (const Tensor *term : call.operands)
    addTo(call.results[0], *term);
}

static void detach(graph::DetachOp, OpCall &call) { call.results[0].data = call.operand(0).data; }

void galvatron::reference::addGraphOps(OpTable &table) {
  define(table, einsum);
  define(table, attention);
  define(table, attentionBackward);
  define(table, rope);
  define(table, norm);
  define(table, normBackward);
  define(table, normWeightBackward);
  define(table, softmax);
  define(table, softmaxBackward);
  define(table, activation);
  define(table, activationBackward);
  define(table, gatedActivation);
  define(table, gatedActivationBackward);
  define(table, dropout);
  define(table, sum);
  define(table, detach);
}
