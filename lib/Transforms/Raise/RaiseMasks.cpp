// Recognizes causal and sliding-window masks.
//
// First by proof: positions are affine in the index, comparisons of them half-spaces
// `Σ factor · index + constant ≥ 0`, and half-spaces that hold everywhere in the tensor's box drop
// out. What is left of a causal mask is `q - k + (Sk - Sq) ≥ 0`. Where arithmetic is not affine
// (packed sequences by cumulative sums, stored masks), by reading elements.
#include "Raise.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cmath>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using raise::Mask;
using raise::shapeOf;
using raise::TableReader;

/// Added to a score, this lets nothing through: exp of it is 0 beside any real score.
static constexpr double kBlocked = -1e4;

namespace {

/// constant + Σ factors[d] · index[d] over a tensor's own dimensions.
struct Affine {
  SmallVector<int64_t, 4> factors;
  int64_t constant = 0;

  bool isConstant() const {
    return llvm::all_of(factors, [](int64_t factor) { return factor == 0; });
  }
};

/// The conjunction of `half ≥ 0` over `halves`; `never` where they exclude each other.
struct Predicate {
  SmallVector<Affine, 2> halves;
  bool never = false;

  bool always() const { return !never && halves.empty(); }
};

/// Where dimension d of an operand ends up in the result, and what must be added to its index
/// (operand index = result index + shift); -1: its only index is 0.
struct IndexMap {
  SmallVector<int64_t, 4> dims, shifts;
};

} // namespace

/// How a shape op addresses its operand, if affinely.
static std::optional<IndexMap> indexMapOf(Operation *op) {
  IndexMap map;
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    map.dims.assign(broadcast.getDims().begin(), broadcast.getDims().end());
  } else if (auto transpose = dyn_cast<TransposeOp>(op)) {
    map.dims.resize(transpose.getPermutation().size());
    for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
      map.dims[dim] = i;
  } else if (auto slice = dyn_cast<SliceOp>(op)) {
    map.dims = llvm::to_vector<4>(llvm::seq<int64_t>(0, slice.getOffsets().size()));
    map.shifts.assign(slice.getOffsets().begin(), slice.getOffsets().end());
  } else if (auto reshape = dyn_cast<ReshapeOp>(op)) {
    SmallVector<raise::DimensionGroup> groups;
    if (!raise::groupDimensions(shapeOf(reshape.getX()), shapeOf(reshape.getResult()), groups))
      return std::nullopt;
    int64_t next = 0;
    for (const raise::DimensionGroup &group : groups) {
      auto isUnit = [](int64_t extent) { return extent == 1; };
      if (group.from.size() - llvm::count_if(group.from, isUnit) > 1 ||
          group.to.size() - llvm::count_if(group.to, isUnit) > 1)
        return std::nullopt;
      int64_t target = next + (llvm::find_if_not(group.to, isUnit) - group.to.begin());
      for (int64_t extent : group.from)
        map.dims.push_back(extent == 1 ? -1 : target);
      next += group.to.size();
    }
  } else {
    return std::nullopt;
  }
  map.shifts.resize(map.dims.size(), 0);
  return map;
}

static Affine mapped(const Affine &affine, const IndexMap &map, int64_t rank) {
  Affine result{SmallVector<int64_t, 4>(rank, 0), affine.constant};
  for (auto [factor, dim, shift] : llvm::zip_equal(affine.factors, map.dims, map.shifts)) {
    result.constant += factor * shift;
    if (dim >= 0)
      result.factors[dim] += factor;
  }
  return result;
}

static Affine combined(const Affine &a, int64_t scaleA, const Affine &b, int64_t scaleB) {
  Affine result{SmallVector<int64_t, 4>(a.factors.size(), 0), a.constant * scaleA + b.constant * scaleB};
  for (size_t d = 0; d < a.factors.size(); ++d)
    result.factors[d] = a.factors[d] * scaleA + b.factors[d] * scaleB;
  return result;
}

static std::optional<Affine> affineOf(Value value) {
  int64_t rank = raise::typeOf(value).getRank();
  if (std::optional<double> constant = raise::splatOf(value)) {
    if (*constant != std::trunc(*constant) || std::abs(*constant) > 1e15)
      return std::nullopt;
    return Affine{SmallVector<int64_t, 4>(rank, 0), int64_t(*constant)};
  }
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  if (auto iota = dyn_cast<IotaOp>(op)) {
    Affine affine{SmallVector<int64_t, 4>(rank, 0), 0};
    affine.factors[iota.getDim()] = 1;
    return affine;
  }
  if (std::optional<IndexMap> map = indexMapOf(op)) {
    std::optional<Affine> x = affineOf(op->getOperand(0));
    return x ? std::optional(mapped(*x, *map, rank)) : std::nullopt;
  }
  if (isa<arith::SIToFPOp, arith::FPToSIOp, arith::ExtSIOp, arith::TruncIOp, arith::ExtFOp, arith::TruncFOp>(op) &&
      !getElementTypeOrSelf(op->getOperand(0).getType()).isInteger(1) &&
      !getElementTypeOrSelf(value.getType()).isInteger(1))
    return affineOf(op->getOperand(0));
  if (!isa<arith::AddIOp, arith::AddFOp, arith::SubIOp, arith::SubFOp, arith::MulIOp, arith::MulFOp>(op))
    return std::nullopt;
  std::optional<Affine> a = affineOf(op->getOperand(0)), b = affineOf(op->getOperand(1));
  if (!a || !b)
    return std::nullopt;
  if (isa<arith::AddIOp, arith::AddFOp>(op))
    return combined(*a, 1, *b, 1);
  if (isa<arith::SubIOp, arith::SubFOp>(op))
    return combined(*a, 1, *b, -1);
  if (b->isConstant())
    return combined(*a, b->constant, *b, 0);
  if (a->isConstant())
    return combined(*b, a->constant, *a, 0);
  return std::nullopt;
}

/// Drops half-spaces that hold in all of `shape`; sees those that hold nowhere.
static Predicate simplified(Predicate predicate, ArrayRef<int64_t> shape) {
  Predicate result{{}, predicate.never};
  for (const Affine &half : predicate.halves) {
    int64_t low = half.constant, high = half.constant;
    for (auto [factor, extent] : llvm::zip_equal(half.factors, shape))
      (factor > 0 ? high : low) += factor * (extent - 1);
    if (high < 0)
      result.never = true;
    if (low < 0)
      result.halves.push_back(half);
  }
  if (result.never)
    result.halves.clear();
  return result;
}

static std::optional<Predicate> negated(std::optional<Predicate> x) {
  if (!x || x->halves.size() > 1)
    return std::nullopt;
  if (x->halves.empty())
    return Predicate{{}, !x->never};
  Affine half = combined(x->halves[0], -1, x->halves[0], 0);
  half.constant -= 1;
  return Predicate{{half}, false};
}

static std::optional<Predicate> conjunction(std::optional<Predicate> a, std::optional<Predicate> b) {
  if ((a && a->never) || (b && b->never))
    return Predicate{{}, true};
  if (!a || !b)
    return std::nullopt;
  a->halves.append(b->halves);
  return a;
}

static std::optional<Predicate> disjunction(std::optional<Predicate> a, std::optional<Predicate> b) {
  if ((a && a->always()) || (b && b->always()))
    return Predicate{};
  if (a && a->never)
    return b;
  if (b && b->never)
    return a;
  return std::nullopt;
}

static std::optional<Predicate> predicateOf(Value value);

static std::optional<Predicate> comparison(Operation *op, arith::CmpIPredicate predicate) {
  std::optional<Affine> a = affineOf(op->getOperand(0)), b = affineOf(op->getOperand(1));
  if (!a || !b)
    return std::nullopt;
  Affine greater = combined(*a, 1, *b, -1), less = combined(*a, -1, *b, 1);
  auto strictly = [](Affine half) { return half.constant -= 1, Predicate{{half}, false}; };
  switch (predicate) {
  case arith::CmpIPredicate::sge:
    return Predicate{{greater}, false};
  case arith::CmpIPredicate::sgt:
    return strictly(greater);
  case arith::CmpIPredicate::sle:
    return Predicate{{less}, false};
  case arith::CmpIPredicate::slt:
    return strictly(less);
  case arith::CmpIPredicate::eq:
    return Predicate{{greater, less}, false};
  case arith::CmpIPredicate::ne: {
    Predicate equal = simplified({{greater, less}, false}, shapeOf(op->getOperand(0)));
    return equal.never || equal.always() ? negated(equal) : std::nullopt;
  }
  default:
    return std::nullopt;
  }
}

static std::optional<arith::CmpIPredicate> integerPredicate(arith::CmpFPredicate predicate) {
  switch (predicate) {
  case arith::CmpFPredicate::OGE:
  case arith::CmpFPredicate::UGE:
    return arith::CmpIPredicate::sge;
  case arith::CmpFPredicate::OGT:
  case arith::CmpFPredicate::UGT:
    return arith::CmpIPredicate::sgt;
  case arith::CmpFPredicate::OLE:
  case arith::CmpFPredicate::ULE:
    return arith::CmpIPredicate::sle;
  case arith::CmpFPredicate::OLT:
  case arith::CmpFPredicate::ULT:
    return arith::CmpIPredicate::slt;
  case arith::CmpFPredicate::OEQ:
  case arith::CmpFPredicate::UEQ:
    return arith::CmpIPredicate::eq;
  case arith::CmpFPredicate::ONE:
  case arith::CmpFPredicate::UNE:
    return arith::CmpIPredicate::ne;
  default:
    return std::nullopt;
  }
}

static std::optional<Predicate> mappedPredicate(std::optional<Predicate> x, Operation *op) {
  std::optional<IndexMap> map = indexMapOf(op);
  if (!x || !map)
    return std::nullopt;
  for (Affine &half : x->halves)
    half = mapped(half, *map, raise::typeOf(op->getResult(0)).getRank());
  return x;
}

/// Where an i1 tensor is true.
static std::optional<Predicate> predicateOf(Value value) {
  if (std::optional<double> constant = raise::splatOf(value))
    return Predicate{{}, *constant == 0};
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  std::optional<Predicate> result;
  if (auto compare = dyn_cast<arith::CmpIOp>(op)) {
    result = comparison(op, compare.getPredicate());
  } else if (auto compare = dyn_cast<arith::CmpFOp>(op)) {
    if (std::optional<arith::CmpIPredicate> predicate = integerPredicate(compare.getPredicate()))
      result = comparison(op, *predicate);
  } else if (isa<arith::AndIOp>(op)) {
    result = conjunction(predicateOf(op->getOperand(0)), predicateOf(op->getOperand(1)));
  } else if (isa<arith::OrIOp>(op)) {
    result = disjunction(predicateOf(op->getOperand(0)), predicateOf(op->getOperand(1)));
  } else if (isa<arith::XOrIOp>(op)) {
    for (unsigned i : {0, 1})
      if (raise::splatOf(op->getOperand(i)) == 1.0)
        result = negated(predicateOf(op->getOperand(1 - i)));
  } else if (isa<arith::SelectOp>(op)) {
    std::optional<Predicate> condition = predicateOf(op->getOperand(0));
    result = disjunction(conjunction(condition, predicateOf(op->getOperand(1))),
                         conjunction(negated(condition), predicateOf(op->getOperand(2))));
  } else if (op->getNumOperands() == 1) {
    result = mappedPredicate(predicateOf(op->getOperand(0)), op);
  }
  if (result)
    result = simplified(*result, shapeOf(value));
  return result;
}

/// The i1 tensor that `value` holds as 0 and 1, or null.
static Value bitsOf(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (getElementTypeOrSelf(value.getType()).isInteger(1))
      return value;
    if (!isa<arith::UIToFPOp, arith::ExtUIOp, arith::SIToFPOp, arith::ExtFOp, arith::TruncFOp>(op))
      return nullptr;
    if (isa<arith::SIToFPOp>(op) && getElementTypeOrSelf(op->getOperand(0).getType()).isInteger(1))
      return nullptr;
    value = op->getOperand(0);
  }
  return nullptr;
}

/// Where a float tensor of zeros and blocking numbers is zero.
static std::optional<Predicate> zerosOf(Value value) {
  if (std::optional<double> constant = raise::splatOf(value)) {
    if (*constant != 0 && *constant > kBlocked)
      return std::nullopt;
    return Predicate{{}, *constant != 0};
  }
  Operation *op = value.getDefiningOp();
  if (!op)
    return std::nullopt;
  std::optional<Predicate> result;
  if (isa<arith::SelectOp>(op)) {
    std::optional<Predicate> condition = predicateOf(op->getOperand(0));
    std::optional<Predicate> a = zerosOf(op->getOperand(1)), b = zerosOf(op->getOperand(2));
    // (c and a) or (not c and b), where at least one side is constant.
    if (a && a->never)
      result = conjunction(negated(condition), b);
    else if (b && b->never)
      result = conjunction(condition, a);
    else if (a && b && a->always() && b->always())
      result = Predicate{};
  } else if (isa<arith::AddFOp>(op)) {
    result = conjunction(zerosOf(op->getOperand(0)), zerosOf(op->getOperand(1)));
  } else if (isa<arith::MulFOp>(op)) {
    // blocked · bits, or blocked · (1 - bits).
    for (unsigned i : {0, 1}) {
      std::optional<double> factor = raise::splatOf(op->getOperand(i));
      Value other = op->getOperand(1 - i);
      if (!factor || *factor > kBlocked)
        continue;
      if (Value bits = bitsOf(other))
        result = negated(predicateOf(bits));
      else if (auto subtract = other.getDefiningOp<arith::SubFOp>())
        if (Value bits = bitsOf(subtract.getRhs()); bits && raise::splatOf(subtract.getLhs()) == 1.0)
          result = predicateOf(bits);
    }
  } else if (op->getNumOperands() == 1) {
    result = mappedPredicate(zerosOf(op->getOperand(0)), op);
  }
  if (result)
    result = simplified(*result, shapeOf(value));
  return result;
}

/// Reads the answer off half-spaces in q and k.
static std::optional<Mask> classify(const Predicate &predicate, ArrayRef<int64_t> shape) {
  int64_t q = shape.size() - 2, k = shape.size() - 1, offset = shape[k] - shape[q];
  Mask mask;
  if (predicate.never)
    return std::nullopt;
  for (const Affine &half : predicate.halves) {
    int64_t factor = half.factors[q];
    if (factor == 0 || half.factors[k] != -factor ||
        llvm::any_of(ArrayRef(half.factors).drop_back(2), [](int64_t f) { return f != 0; }))
      return std::nullopt;
    int64_t constant = std::floor(double(half.constant) / std::abs(factor));
    if (factor > 0) { // q - k + constant ≥ 0
      if (constant != offset)
        return std::nullopt;
      mask.causal = true;
    } else { // k - q + constant ≥ 0
      int64_t window = constant + offset + 1;
      if (window <= 0)
        return std::nullopt;
      mask.window = mask.window ? std::min(mask.window, window) : window;
    }
  }
  // A window without causality has another side, which attention does not have.
  if (mask.window && !mask.causal)
    return std::nullopt;
  return mask;
}

/// Reads elements: all of them up to 2^20, else whole rows spread over the mask.
static std::optional<Mask> readMask(Value value, TableReader &reader) {
  ArrayRef<int64_t> shape = shapeOf(value);
  int64_t queries = shape[shape.size() - 2], keys = shape.back(), offset = keys - queries;
  bool isBits = getElementTypeOrSelf(value.getType()).isInteger(1);
  SmallVector<int64_t> outer(shape.drop_back(2));
  /// 1 lets through, 0 blocks, -1 is neither.
  auto read = [&](int64_t lead, int64_t q, int64_t k) {
    SmallVector<int64_t> index(shape.size());
    for (size_t d = outer.size(); d-- > 0; lead /= outer[d])
      index[d] = lead % outer[d];
    index[shape.size() - 2] = q, index[shape.size() - 1] = k;
    double element = reader.read(value, index);
    if (isBits)
      return int(element != 0);
    return element == 0 ? 1 : element <= kBlocked ? 0 : -1;
  };

  Mask mask;
  mask.causal = keys > 1 && queries > 1 && read(0, 0, keys - 1) == 0;
  if (mask.causal) {
    int64_t first = 0;
    while (first < keys && read(0, queries - 1, first) == 0)
      ++first;
    mask.window = first == 0 ? 0 : keys - first;
  }
  auto agrees = [&](int64_t lead, int64_t q) {
    for (int64_t k = 0; k < keys; ++k) {
      int64_t back = q + offset - k;
      int expected = !mask.causal || (back >= 0 && (!mask.window || back < mask.window));
      if (read(lead, q, k) != expected)
        return false;
    }
    return true;
  };
  int64_t leads = llvm::product_of(outer);
  bool whole = leads * queries * keys <= (1 << 20);
  int64_t leadStep = whole ? 1 : std::max<int64_t>(1, leads / 3);
  for (int64_t lead = 0; lead < leads; lead += leadStep) {
    int64_t step = whole ? 1 : std::max<int64_t>(1, queries / 13);
    for (int64_t q = 0; q < queries; q += q < 4 ? 1 : step)
      if (!agrees(lead, q))
        return std::nullopt;
    if (!agrees(lead, queries - 1))
      return std::nullopt;
  }
  return mask;
}

std::optional<Mask> raise::recognizeMask(Value value, TableReader &reader) {
  if (typeOf(value).getRank() < 2 || !reader.isTable(value))
    return std::nullopt;
  bool isBits = getElementTypeOrSelf(value.getType()).isInteger(1);
  if (std::optional<Predicate> predicate = isBits ? predicateOf(value) : zerosOf(value))
    if (std::optional<Mask> mask = classify(*predicate, shapeOf(value)))
      return mask;
  return readMask(value, reader);
}
