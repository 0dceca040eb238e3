// Attention written out as products and a softmax becomes `graph.attention`.
//
// The products' letters say which dimension is what, so the layout of heads does not matter:
//
//     scores = einsum q, k : [batch.., group.., s, t]      letters of both; of q only; s of q; t of k
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
  if (isa<arith::AddFOp, arith::SubFOp>(op)) {
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
  if (auto select = dyn_cast<arith::SelectOp>(op)) {
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
  if (isa<arith::MaximumFOp, arith::MaxNumFOp>(op)) // A clamp against -inf.
    for (unsigned i : {1, 0})
      if (std::optional<double> low = splatOf(op->getOperand(i)); low && *low <= -1e30)
        return readScores(op->getOperand(1 - i), multiplier, reader, scores);
  return false;
}

//===----------------------------------------------------------------------===//
// From letters to [B, N, S, D]
//===----------------------------------------------------------------------===//

namespace {

/// Letters of one attention, all in the first product's names.
struct Letters {
  std::string batch, group;
  char query, key, depth, valueDepth;
  std::string q, k, v, result;
  bool swapped; // The first product's rhs is q.
};

} // namespace

static bool contains(StringRef letters, char letter) { return letters.contains(letter); }

/// `probabilitiesAreLhs`: which operand of the second product they are.
static std::optional<Letters> readLetters(EinsumOp first, EinsumOp second, bool probabilitiesAreLhs) {
  Equation inner = Equation::parse(first.getEquation()), outer = Equation::parse(second.getEquation());
  std::string probabilities = probabilitiesAreLhs ? outer.lhs : outer.rhs;
  size_t rank = inner.result.size();
  if (rank < 2 || probabilities.size() != rank)
    return std::nullopt;

  Letters letters;
  letters.query = inner.result[rank - 2], letters.key = inner.result[rank - 1];
  letters.swapped = contains(inner.rhs, letters.query);
  letters.q = letters.swapped ? inner.rhs : inner.lhs, letters.k = letters.swapped ? inner.lhs : inner.rhs;
  if (!contains(letters.q, letters.query) || contains(letters.q, letters.key) || !contains(letters.k, letters.key) ||
      contains(letters.k, letters.query))
    return std::nullopt;
  for (char letter : StringRef(inner.result).drop_back(2)) {
    if (!contains(letters.q, letter))
      return std::nullopt;
    bool shared = contains(letters.k, letter);
    if (shared && !letters.group.empty())
      return std::nullopt; // Groups vary fastest.
    (shared ? letters.batch : letters.group) += letter;
  }
  if (letters.q.size() != letters.batch.size() + letters.group.size() + 2 ||
      letters.k.size() != letters.batch.size() + 2)
    return std::nullopt;
  for (char letter : letters.q)
    if (!contains(inner.result, letter))
      letters.depth = letter;

  // The second product in the first one's letters; its own new letter is the values' depth.
  letters.valueDepth = Equation{inner.lhs, inner.rhs, inner.result}.fresh(1)[0];
  auto renamed = [&](std::string text) {
    for (char &letter : text) {
      size_t at = probabilities.find(letter);
      letter = at == std::string::npos ? letters.valueDepth : inner.result[at];
    }
    return text;
  };
  letters.v = renamed(probabilitiesAreLhs ? outer.rhs : outer.lhs);
  letters.result = renamed(outer.result);
  auto sorted = [](std::string text) {
    llvm::sort(text);
    return text;
  };
  if (sorted(letters.v) != sorted(letters.batch + letters.key + letters.valueDepth) ||
      sorted(letters.result) != sorted(letters.batch + letters.group + letters.query + letters.valueDepth))
    return std::nullopt;
  return letters;
}

static SmallVector<int64_t> permutationTo(StringRef from, StringRef to) {
  return llvm::map_to_vector(to, [&](char letter) { return int64_t(from.find(letter)); });
}

/// `value` with `letters` as [B, heads, row, column]: all batch letters but the last are B, the last
/// one and the group's are heads.
static Value toHeads(OpBuilder &builder, Location loc, Value value, StringRef letters, const Letters &roles,
                     StringRef group, char row, char column) {
  std::string order = roles.batch + group.str() + row + column;
  value = transposeBy(builder, loc, value, permutationTo(letters, order));
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
    std::optional<Letters> letters = readLetters(scores.product, second, probabilitiesAreLhs);
    auto isLearned = [](const auto &term) { return dependsOnParameter(term.first); };
    if (!letters || llvm::any_of(scores.added, isLearned))
      return false;
    Bias bias;
    for (auto [term, factor] : scores.added)
      bias.add(term, factor, reader);
    // A term added to scores [batch.., group.., s, t] is a bias [B, N, S, T] only if that is the layout.
    if (!bias.terms.empty() && letters->batch.size() + letters->group.size() != 2)
      return false;

    return replaceIfLegal(second, [&](OpBuilder &builder) -> Value {
      Location loc = softmax.getLoc();
      EinsumOp first = scores.product;
      Value q = toHeads(builder, loc, letters->swapped ? first.getRhs() : first.getLhs(), letters->q, *letters,
                        letters->group, letters->query, letters->depth);
      Value k = toHeads(builder, loc, letters->swapped ? first.getLhs() : first.getRhs(), letters->k, *letters, "",
                        letters->key, letters->depth);
      Value v = toHeads(builder, loc, values, letters->v, *letters, "", letters->key, letters->valueDepth);
      SmallVector<int64_t> shape(shapeOf(q));
      shape.back() = shapeOf(v).back();
      auto attention = AttentionOp::create(builder, loc, reshaped(q, shape), reshaped(q, ArrayRef(shape).drop_back()),
                                           q, k, v, bias.build(builder, loc), APFloat(scores.scale), bias.mask.causal,
                                           bias.mask.window, APFloat(scores.softcap),
                                           dropout ? dropout.getP() : APFloat(0.0), dropout ? dropout.getId() : 0);

      std::string order = letters->batch + letters->group + letters->query + letters->valueDepth;
      SmallVector<int64_t> unfolded;
      for (char letter : order)
        unfolded.push_back(shapeOf(second.getResult())[letters->result.find(letter)]);
      Value result = reshapeTo(builder, loc, attention.getResult(), unfolded);
      return transposeBy(builder, loc, result, permutationTo(order, letters->result));
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
