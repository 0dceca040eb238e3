// Attention written out as products and a softmax becomes `graph.attention`.
//
// The products' subscripts say which dimension is what, so the layout of heads does not matter:
//
//     scores = einsum q, k : [batch.., group.., s, t]      subscripts of both; of q only; s of q; t of k
//     y      = einsum softmax(scores), v : batch.., group.., s, e in any order
#include "Raise.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

namespace galvatron {
#define GEN_PASS_DEF_RAISEATTENTIONPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

namespace {

/// What stands between the product of queries and keys and the softmax.
struct Scores {
  EinsumOp product;
  double scale = 1, softcap = 0;
  /// Tensors to be added after scaling, each times a factor.
  SmallVector<std::pair<Value, double>, 2> added;
};

} // namespace

//===----------------------------------------------------------------------===//
// Scores
//===----------------------------------------------------------------------===//

/// Whether `factor` is one wherever the masks added so far let through: GPT's scores · m - 1e4 · (1 - m).
static bool zeroesOnlyBlocked(Value factor, TableReader &reader, const Scores &scores) {
  if (!reader.isTable(factor) || scores.added.empty())
    return false;
  if (auto broadcast = factor.getDefiningOp<BroadcastOp>())
    factor = broadcast.getX();
  auto select = factor.getDefiningOp<arith::SelectOp>();
  Value isOne;
  if (select && splatOf(select.getTrueValue()) == 1.0 && splatOf(select.getFalseValue()) == 0.0) {
    isOne = select.getCondition();
  } else {
    OpBuilder builder(factor.getContext());
    builder.setInsertionPointAfterValue(factor);
    Value one = splat(builder, factor.getLoc(), typeOf(factor), 1);
    isOne = arith::CmpFOp::create(builder, factor.getLoc(), arith::CmpFPredicate::OEQ, factor, one);
  }
  std::optional<Mask> mask = recognizeMask(isOne, reader);
  return mask &&
         llvm::any_of(scores.added, [&](const auto &term) { return recognizeMask(term.first, reader) == mask; });
}

static bool readScores(Value value, double multiplier, TableReader &reader, Scores &scores);

/// Of a sum or a difference: one operand has the scores, the other is added to them.
static bool readSum(Operation *op, double multiplier, TableReader &reader, Scores &scores) {
  for (unsigned i : {1, 0}) {
    if (isa<arith::SubFOp>(op) && i == 0)
      return false;
    Scores attempt = scores;
    attempt.added.push_back({op->getOperand(i), isa<arith::SubFOp>(op) ? -multiplier : multiplier});
    if (readScores(op->getOperand(1 - i), multiplier, reader, attempt)) {
      scores = attempt;
      return true;
    }
  }
  return false;
}

/// Of scores where a mask lets through, and a large negative number elsewhere.
static bool readSelect(arith::SelectOp select, double multiplier, TableReader &reader, Scores &scores) {
  for (bool pass : {true, false}) {
    Value kept = pass ? select.getTrueValue() : select.getFalseValue();
    Value blocked = pass ? select.getFalseValue() : select.getTrueValue();
    std::optional<double> constant = splatOf(blocked);
    if (!constant || *constant * multiplier > -1e4 || !reader.isTable(select.getCondition()))
      continue;
    scores.added.push_back({additiveMask(select.getCondition(), pass, blocked), 1.0});
    return readScores(kept, multiplier, reader, scores);
  }
  return false;
}

/// Reads scores from the softmax inwards. `multiplier` is what was multiplied outside of `value`.
static bool readScores(Value value, double multiplier, TableReader &reader, Scores &scores) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  if (auto product = dyn_cast<EinsumOp>(op)) {
    scores.product = product;
    // c · tanh(m · qk) is c · tanh(scale · qk / c) with scale = m · c.
    scores.scale = scores.softcap ? multiplier * scores.softcap : multiplier;
    return !isParameter(product.getLhs()) && !isParameter(product.getRhs());
  }
  if (isa<arith::MulFOp, arith::DivFOp>(op)) {
    bool divides = isa<arith::DivFOp>(op);
    for (unsigned i : {1, 0})
      if (std::optional<double> factor = splatOf(op->getOperand(i)); factor && (i || !divides))
        return readScores(op->getOperand(1 - i), divides ? multiplier / *factor : multiplier * *factor, reader, scores);
    for (unsigned i : {1, 0})
      if (!divides && zeroesOnlyBlocked(op->getOperand(i), reader, scores))
        return readScores(op->getOperand(1 - i), multiplier, reader, scores);
    return false;
  }
  auto activation = dyn_cast<ActivationOp>(op);
  if (isa<math::TanhOp>(op) || (activation && activation.getKind() == ActivationKind::Tanh)) {
    if (scores.softcap || multiplier <= 0)
      return false;
    scores.softcap = multiplier;
    return readScores(op->getOperand(0), 1, reader, scores);
  }
  // Under the tanh there is nothing but a scale.
  if (scores.softcap)
    return false;
  if (isa<arith::AddFOp, arith::SubFOp>(op))
    return readSum(op, multiplier, reader, scores);
  if (auto select = dyn_cast<arith::SelectOp>(op))
    return readSelect(select, multiplier, reader, scores);
  if (isa<arith::MaximumFOp, arith::MaxNumFOp>(op)) // A clamp against -inf.
    for (unsigned i : {1, 0})
      if (std::optional<double> low = splatOf(op->getOperand(i)); low && *low <= -1e30)
        return readScores(op->getOperand(1 - i), multiplier, reader, scores);
  return false;
}

//===----------------------------------------------------------------------===//
// From subscripts to [B, N, S, D]
//===----------------------------------------------------------------------===//

namespace {

/// Subscripts of one attention, all in the first product's names.
struct Subscripts {
  std::string batch, group;
  char query, key, depth, valueDepth;
  std::string q, k, v, result;
  bool swapped; // The first product's rhs is q.
};

} // namespace

static bool contains(StringRef subscripts, char subscript) { return subscripts.contains(subscript); }

/// `probabilitiesAreLhs`: which operand of the second product they are.
static std::optional<Subscripts> readSubscripts(EinsumOp first, EinsumOp second, bool probabilitiesAreLhs) {
  Equation inner = Equation::parse(first.getEquation()), outer = Equation::parse(second.getEquation());
  std::string probabilities = probabilitiesAreLhs ? outer.lhs : outer.rhs;
  size_t rank = inner.result.size();
  if (rank < 2 || probabilities.size() != rank)
    return std::nullopt;

  Subscripts subscripts;
  subscripts.query = inner.result[rank - 2], subscripts.key = inner.result[rank - 1];
  subscripts.swapped = contains(inner.rhs, subscripts.query);
  subscripts.q = subscripts.swapped ? inner.rhs : inner.lhs, subscripts.k = subscripts.swapped ? inner.lhs : inner.rhs;
  if (!contains(subscripts.q, subscripts.query) || contains(subscripts.q, subscripts.key) ||
      !contains(subscripts.k, subscripts.key) || contains(subscripts.k, subscripts.query))
    return std::nullopt;
  for (char subscript : StringRef(inner.result).drop_back(2)) {
    if (!contains(subscripts.q, subscript))
      return std::nullopt;
    bool shared = contains(subscripts.k, subscript);
    if (shared && !subscripts.group.empty())
      return std::nullopt; // Groups vary fastest.
    (shared ? subscripts.batch : subscripts.group) += subscript;
  }
  if (subscripts.q.size() != subscripts.batch.size() + subscripts.group.size() + 2 ||
      subscripts.k.size() != subscripts.batch.size() + 2)
    return std::nullopt;
  for (char subscript : subscripts.q)
    if (!contains(inner.result, subscript))
      subscripts.depth = subscript;

  // The second product in the first one's subscripts; its own new subscript is the values' depth.
  subscripts.valueDepth = Equation{inner.lhs, inner.rhs, inner.result}.fresh(1)[0];
  auto renamed = [&](std::string text) {
    for (char &subscript : text) {
      size_t at = probabilities.find(subscript);
      subscript = at == std::string::npos ? subscripts.valueDepth : inner.result[at];
    }
    return text;
  };
  subscripts.v = renamed(probabilitiesAreLhs ? outer.rhs : outer.lhs);
  subscripts.result = renamed(outer.result);
  auto sorted = [](std::string text) {
    llvm::sort(text);
    return text;
  };
  if (sorted(subscripts.v) != sorted(subscripts.batch + subscripts.key + subscripts.valueDepth) ||
      sorted(subscripts.result) !=
          sorted(subscripts.batch + subscripts.group + subscripts.query + subscripts.valueDepth))
    return std::nullopt;
  return subscripts;
}

static SmallVector<int64_t> permutationTo(StringRef from, StringRef to) {
  return llvm::map_to_vector(to, [&](char subscript) { return int64_t(from.find(subscript)); });
}

/// `value` with `subscripts` as [B, heads, row, column]: all batch subscripts but the last are B, the last
/// one and the group's are heads.
static Value toHeads(OpBuilder &builder, Location loc, Value value, StringRef subscripts, const Subscripts &roles,
                     StringRef group, char row, char column) {
  std::string order = roles.batch + group.str() + row + column;
  value = transposeBy(builder, loc, value, permutationTo(subscripts, order));
  ArrayRef<int64_t> shape = shapeOf(value);
  size_t numBatch = roles.batch.size() > 1 ? roles.batch.size() - 1 : roles.batch.size();
  ArrayRef<int64_t> batch = shape.take_front(numBatch), heads = shape.drop_front(numBatch).drop_back(2);
  return reshapeTo(builder, loc, value,
                   {llvm::product_of(batch), llvm::product_of(heads), shape[shape.size() - 2], shape.back()});
}

//===----------------------------------------------------------------------===//
// Raising
//===----------------------------------------------------------------------===//

/// `second` is the product of probabilities and values.
static bool raiseEager(EinsumOp second, TableReader &reader) {
  for (bool probabilitiesAreLhs : {true, false}) {
    Value probabilities = probabilitiesAreLhs ? second.getLhs() : second.getRhs();
    Value values = probabilitiesAreLhs ? second.getRhs() : second.getLhs();
    auto dropout = probabilities.getDefiningOp<DropoutOp>();
    auto softmax = (dropout ? dropout.getX() : probabilities).getDefiningOp<SoftmaxOp>();
    Scores scores;
    if (!softmax || !readScores(softmax.getX(), 1, reader, scores))
      continue;
    std::optional<Subscripts> subscripts = readSubscripts(scores.product, second, probabilitiesAreLhs);
    auto isLearned = [](const auto &term) { return dependsOnParameter(term.first); };
    if (!subscripts || llvm::any_of(scores.added, isLearned))
      return false;
    Bias bias;
    for (auto [term, factor] : scores.added)
      bias.add(term, factor, reader);
    // A term added to scores [batch.., group.., s, t] is a bias [B, N, S, T] only if that is the layout.
    if (!bias.terms.empty() && subscripts->batch.size() + subscripts->group.size() != 2)
      return false;

    return replaceIfLegal(second, [&](OpBuilder &builder) -> Value {
      Location loc = softmax.getLoc();
      EinsumOp first = scores.product;
      Value q = toHeads(builder, loc, subscripts->swapped ? first.getRhs() : first.getLhs(), subscripts->q, *subscripts,
                        subscripts->group, subscripts->query, subscripts->depth);
      Value k = toHeads(builder, loc, subscripts->swapped ? first.getLhs() : first.getRhs(), subscripts->k, *subscripts,
                        "", subscripts->key, subscripts->depth);
      Value v = toHeads(builder, loc, values, subscripts->v, *subscripts, "", subscripts->key, subscripts->valueDepth);
      SmallVector<int64_t> shape(shapeOf(q));
      shape.back() = shapeOf(v).back();
      auto attention = AttentionOp::create(builder, loc, reshaped(q, shape), reshaped(q, ArrayRef(shape).drop_back()),
                                           q, k, v, bias.build(builder, loc), APFloat(scores.scale), bias.mask.causal,
                                           bias.mask.window, APFloat(scores.softcap),
                                           dropout ? dropout.getP() : APFloat(0.0), dropout ? dropout.getId() : 0);

      std::string order = subscripts->batch + subscripts->group + subscripts->query + subscripts->valueDepth;
      SmallVector<int64_t> unfolded;
      for (char subscript : order)
        unfolded.push_back(shapeOf(second.getResult())[subscripts->result.find(subscript)]);
      Value result = reshapeTo(builder, loc, attention.getResult(), unfolded);
      return transposeBy(builder, loc, result, permutationTo(order, subscripts->result));
    });
  }
  return false;
}

namespace {

struct RaiseAttentionPass : galvatron::impl::RaiseAttentionPassBase<RaiseAttentionPass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      raiseAll(function);
      eraseDead(function);
      TableReader reader;
      absorbIntoAttention(function, reader);
      eraseDead(function);
    }
  }

  /// A reader remembers values, so it lives only while none is erased.
  void raiseAll(func::FuncOp function) {
    TableReader reader;
    for (auto einsum : llvm::to_vector(function.getBody().front().getOps<EinsumOp>()))
      numAttentions += raiseEager(einsum, reader);
  }
};

} // namespace
