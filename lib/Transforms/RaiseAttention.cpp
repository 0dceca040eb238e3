// Attention written out becomes `graph.attention`; then what is known of its operands moves into it:
//
//     scale     constants multiplied to q or k
//     heads     keys and values repeated for groups of queries are read as they were
//     mask      position arithmetic becomes `causal` and `window`; masks that let all through go
//
// The products' letters say which dimension is what, so the layout of heads does not matter:
//
//     scores = einsum q, k : [batch.., group.., s, t]      letters of both; of q only; s of q; t of k
//     y      = einsum softmax(scores), v : batch.., group.., s, e in any order
#include "RaiseOps.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

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

/// Zero where `condition` is `pass`, `blocked` elsewhere.
static Value additiveMask(Value condition, bool pass, Value blocked) {
  OpBuilder builder(condition.getContext());
  builder.setInsertionPointAfterValue(condition);
  Location loc = condition.getLoc();
  auto type = reshaped(blocked, shapeOf(condition));
  Value zero = splat(builder, loc, type, 0), minimum = splat(builder, loc, type, *splatOf(blocked));
  return arith::SelectOp::create(builder, loc, condition, pass ? zero : minimum, pass ? minimum : zero);
}

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
// Bias
//===----------------------------------------------------------------------===//

/// Whether a gradient would be lost: attention has none for its bias.
static bool dependsOnParameter(Value value, llvm::SmallPtrSetImpl<Operation *> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return false;
  if (!seen.insert(op).second)
    return false;
  return isa<ParameterOp>(op) ||
         llvm::any_of(op->getOperands(), [&](Value operand) { return dependsOnParameter(operand, seen); });
}

/// `value`, broadcastable to `rank` dimensions from the right, with extents of one where it repeats.
static Value shrunk(OpBuilder &builder, Value value, size_t rank) {
  SmallVector<int64_t> shape(shapeOf(value));
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  if (broadcast) {
    for (int64_t dim = 0; dim < int64_t(shape.size()); ++dim)
      if (!llvm::is_contained(broadcast.getDims(), dim))
        shape[dim] = 1;
    value = broadcast.getX();
  }
  while (shape.size() < rank)
    shape.insert(shape.begin(), 1);
  return reshapeTo(builder, value.getLoc(), value, shape);
}

/// Takes masks out of `value`, one term of a bias; what is left goes to `rest`.
static void takeMasks(Value value, double factor, TableReader &reader, SmallVectorImpl<Mask> &masks,
                      SmallVectorImpl<std::pair<Value, double>> &rest) {
  if (reader.isTable(value))
    if (std::optional<Mask> mask = recognizeMask(value, reader))
      return masks.push_back(*mask);
  Operation *op = value.getDefiningOp();
  if (isa_and_nonnull<arith::AddFOp>(op)) {
    takeMasks(op->getOperand(0), factor, reader, masks, rest);
    return takeMasks(op->getOperand(1), factor, reader, masks, rest);
  }
  if (auto select = dyn_cast_or_null<arith::SelectOp>(op))
    for (bool pass : {true, false}) {
      std::optional<double> blocked = splatOf(pass ? select.getFalseValue() : select.getTrueValue());
      if (!blocked || *blocked > -1e4 || !reader.isTable(select.getCondition()))
        continue;
      Value condition =
          additiveMask(select.getCondition(), pass, pass ? select.getFalseValue() : select.getTrueValue());
      if (std::optional<Mask> mask = recognizeMask(condition, reader)) {
        masks.push_back(*mask);
        return takeMasks(pass ? select.getTrueValue() : select.getFalseValue(), factor, reader, masks, rest);
      }
    }
  rest.push_back({value, factor});
}

/// Both masks at once, if attention can say so.
static Mask intersection(Mask a, Mask b) {
  a.causal |= b.causal;
  a.window = a.window && b.window ? std::min(a.window, b.window) : std::max(a.window, b.window);
  return a;
}

/// The sum of what is left of a bias; null if nothing is.
static Value sumOf(OpBuilder &builder, Location loc, ArrayRef<std::pair<Value, double>> terms, size_t rank) {
  Value total;
  if (terms.size() == 1)
    total = terms[0].first;
  for (auto [value, factor] : terms) {
    if (terms.size() == 1 && factor == 1)
      return shrunk(builder, value, rank);
    Value term = shrunk(builder, value, rank);
    if (factor != 1)
      term = arith::MulFOp::create(builder, loc, term, splat(builder, loc, typeOf(term), factor));
    if (terms.size() == 1)
      return term;
    // Terms of different shapes are added where all their dimensions are.
    SmallVector<int64_t> full(value ? shapeOf(value) : ArrayRef<int64_t>());
    SmallVector<int64_t> all = llvm::to_vector(llvm::seq<int64_t>(0, full.size()));
    if (factor != 1)
      value = arith::MulFOp::create(builder, loc, value, splat(builder, loc, typeOf(value), factor));
    total = total ? Value(arith::AddFOp::create(builder, loc, total, value)) : value;
  }
  return total ? shrunk(builder, total, rank) : Value();
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
    llvm::SmallPtrSet<Operation *, 32> seen;
    if (!letters || llvm::any_of(scores.added, [&](auto &term) { return dependsOnParameter(term.first, seen); }))
      return false;
    // A term added to scores [batch.., group.., s, t] is a bias [B, N, S, T] only if that is the layout.
    bool isPlain = letters->batch.size() + letters->group.size() == 2;
    SmallVector<Mask> masks;
    SmallVector<std::pair<Value, double>> rest;
    for (auto [term, factor] : scores.added)
      takeMasks(term, factor, reader, masks, rest);
    if (!rest.empty() && !isPlain)
      return false;

    OpBuilder builder(second);
    Location loc = softmax.getLoc();
    EinsumOp first = scores.product;
    Value q = toHeads(builder, loc, letters->swapped ? first.getRhs() : first.getLhs(), letters->q, *letters,
                      letters->group, letters->query, letters->depth);
    Value k = toHeads(builder, loc, letters->swapped ? first.getLhs() : first.getRhs(), letters->k, *letters, "",
                      letters->key, letters->depth);
    Value v = toHeads(builder, loc, values, letters->v, *letters, "", letters->key, letters->valueDepth);
    // One batch letter and groups: the heads are the group, all on one key/value head.
    Mask mask;
    for (Mask other : masks)
      mask = intersection(mask, other);
    Value bias = sumOf(builder, loc, rest, 4);
    SmallVector<int64_t> shape(shapeOf(q));
    shape.back() = shapeOf(v).back();
    auto attention =
        AttentionOp::create(builder, loc, reshaped(q, shape), reshaped(q, ArrayRef(shape).drop_back()), q, k, v, bias,
                            APFloat(scores.scale), mask.causal, mask.window, APFloat(scores.softcap),
                            dropout ? dropout.getP() : APFloat(0.0), dropout ? dropout.getId() : 0);

    std::string order = letters->batch + letters->group + letters->query + letters->valueDepth;
    SmallVector<int64_t> unfolded;
    for (char letter : order)
      unfolded.push_back(shapeOf(second.getResult())[letters->result.find(letter)]);
    Value result = reshapeTo(builder, loc, attention.getResult(), unfolded);
    result = transposeBy(builder, loc, result, permutationTo(order, letters->result));
    second.getResult().replaceAllUsesWith(result);
    return true;
  }
  return false;
}

/// `value` without the constant it was multiplied by, which goes into `factor`. Looks through ops
/// that move or rotate elements, if nothing else reads them.
static Value withoutScale(OpBuilder &builder, Value value, double &factor) {
  Operation *op = value.getDefiningOp();
  if (!op || !value.hasOneUse())
    return value;
  if (isa<arith::MulFOp, arith::DivFOp>(op)) {
    bool divides = isa<arith::DivFOp>(op);
    for (unsigned i : {1, 0})
      if (std::optional<double> constant = splatOf(op->getOperand(i)); constant && (i || !divides)) {
        factor *= divides ? 1 / *constant : *constant;
        return withoutScale(builder, op->getOperand(1 - i), factor);
      }
    return value;
  }
  if (!isa<ReshapeOp, TransposeOp, RopeOp>(op))
    return value;
  Value inner = withoutScale(builder, op->getOperand(0), factor);
  if (inner == op->getOperand(0))
    return value;
  builder.setInsertionPointAfter(op);
  Operation *moved = builder.clone(*op);
  moved->setOperand(0, inner);
  return moved->getResult(0);
}

/// `value` before its heads (dimension `dim`) were repeated for groups of queries; null if they were
/// not. Head n must read head n / group of the result.
static Value withoutRepetition(OpBuilder &builder, Value value, int64_t dim) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return nullptr;
  Location loc = op->getLoc();
  builder.setInsertionPointAfter(op);
  if (auto rope = dyn_cast<RopeOp>(op)) {
    Value inner = int64_t(rope.getSeqDim()) != dim ? withoutRepetition(builder, rope.getX(), dim) : Value();
    builder.setInsertionPointAfter(op);
    if (!inner)
      return nullptr;
    Operation *rotated = builder.clone(*op);
    rotated->setOperand(0, inner);
    rotated->getResult(0).setType(inner.getType());
    return rotated->getResult(0);
  }
  if (auto transpose = dyn_cast<TransposeOp>(op)) {
    Value inner = withoutRepetition(builder, transpose.getX(), transpose.getPermutation()[dim]);
    builder.setInsertionPointAfter(op);
    return inner ? transposeBy(builder, loc, inner, transpose.getPermutation()) : Value();
  }
  SmallVector<int64_t> shape(shapeOf(value));
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) { // One head for all.
    if (llvm::is_contained(broadcast.getDims(), dim) || shape[dim] == 1)
      return nullptr;
    shape[dim] = 1;
    SmallVector<int64_t> dims(broadcast.getDims());
    Value x = broadcast.getX();
    if (shapeOf(x).size() + 1 == shape.size())
      return reshapeTo(builder, loc, x, shape);
    return BroadcastOp::create(builder, loc, reshaped(value, shape), x, dims);
  }
  // reshape [.., K, G, ..] → [.., K·G, ..] of a broadcast along G.
  auto reshape = dyn_cast<ReshapeOp>(op);
  auto broadcast = reshape ? reshape.getX().getDefiningOp<BroadcastOp>() : BroadcastOp();
  SmallVector<DimensionGroup> groups;
  if (!broadcast || !groupDimensions(shapeOf(reshape.getX()), shape, groups))
    return nullptr;
  int64_t from = 0, to = 0;
  for (const DimensionGroup &group : groups) {
    int64_t count = group.from.size();
    if (to == dim) {
      // The last dimension that is none of size one is the repeated one.
      int64_t last = from + count - 1;
      while (last > from && group.from[last - from] == 1)
        --last;
      if (llvm::count_if(group.to, [](int64_t extent) { return extent != 1; }) > 1 ||
          llvm::is_contained(broadcast.getDims(), last))
        return nullptr;
      SmallVector<int64_t> wide(shapeOf(reshape.getX())), dims;
      shape[dim] /= wide[last];
      wide.erase(wide.begin() + last);
      for (int64_t d : broadcast.getDims())
        dims.push_back(d - (d > last));
      Value x = broadcast.getX();
      if (shapeOf(x) != ArrayRef(wide))
        x = BroadcastOp::create(builder, loc, reshaped(x, wide), x, dims);
      return reshapeTo(builder, loc, x, shape);
    }
    from += count, to += group.to.size();
  }
  return nullptr;
}

/// Scale, heads and mask into an attention op's own terms.
static void absorbOperands(AttentionOp op, TableReader &reader) {
  OpBuilder builder(op);
  double scale = op.getScale().convertToDouble();
  for (OpOperand *operand : {&op.getQMutable(), &op.getKMutable()})
    operand->set(withoutScale(builder, operand->get(), scale));
  op.setScale(APFloat(scale));

  Value k = withoutRepetition(builder, op.getK(), 1), v = withoutRepetition(builder, op.getV(), 1);
  if (k && v && shapeOf(k)[1] == shapeOf(v)[1]) {
    op.getKMutable().assign(k);
    op.getVMutable().assign(v);
  }

  if (!op.getBias())
    return;
  SmallVector<Mask> masks;
  SmallVector<std::pair<Value, double>> rest;
  takeMasks(op.getBias(), 1, reader, masks, rest);
  if (masks.empty())
    return;
  Mask mask{op.getCausal(), int64_t(op.getWindow())};
  for (Mask other : masks)
    mask = intersection(mask, other);
  builder.setInsertionPoint(op);
  op.setCausal(mask.causal);
  op.setWindow(mask.window);
  if (Value bias = sumOf(builder, op.getLoc(), rest, 4))
    op.getBiasMutable().assign(bias);
  else
    op.getBiasMutable().clear();
}

unsigned raise::raiseAttention(func::FuncOp function, TableReader &reader) {
  unsigned numRaised = 0;
  for (auto einsum : llvm::to_vector(function.getBody().front().getOps<EinsumOp>()))
    numRaised += raiseEager(einsum, reader);
  return numRaised;
}

void raise::absorbIntoAttention(func::FuncOp function, TableReader &reader) {
  for (auto attention : llvm::to_vector(function.getBody().front().getOps<AttentionOp>()))
    absorbOperands(attention, reader);
}
