// Recognizes rotary position embedding by what it does to each element.
//
// However it is written (halves negated and swapped, pairs stacked and flattened, two products and a
// concat), the embedding is linear in one tensor x with coefficients that depend on the position:
//
//     y[.., p, j] = Σ coefficient(p, j, i) · x[.., p, i]
//
// The tree from y down to x is evaluated as such a linear form at a few positions. Which i occur gives
// the style and how many elements rotate, position 0 the scaling, and angles at positions 1, 2, 4, ..
// the inverse frequencies, each doubling the precision; other positions must then agree, and along all
// other dimensions coefficients must not differ. Where x has another shape than y, it is read as if it
// had y's: the reshape to pairs may be one with the reshape to heads.
#include "Raise.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cmath>

namespace galvatron {
#define GEN_PASS_DEF_RAISEROPEPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// Ops between y and x; interleaved pairs by stacking have about 15.
static constexpr unsigned kMaximumSpelling = 40;

/// Positions that are compared with the formula: all of a short sequence, else that many spread over it.
static constexpr int64_t kComparedPositions = 64;

namespace {

/// One element's sources: last index of x, coefficient.
using Terms = SmallVector<std::pair<int64_t, double>, 2>;

/// The index in `to` of the element that has `index` in `from`, in row-major order of both.
static SmallVector<int64_t> reindexed(ArrayRef<int64_t> index, ArrayRef<int64_t> from, ArrayRef<int64_t> to) {
  int64_t linear = 0;
  for (auto [i, extent] : llvm::zip_equal(index, from))
    linear = linear * extent + i;
  SmallVector<int64_t> result(to.size());
  for (size_t d = to.size(); d-- > 0; linear /= to[d])
    result[d] = linear % to[d];
  return result;
}

/// y as a linear form of x, which is read as if it had `shape`.
class LinearForm {
public:
  LinearForm(Value x, ArrayRef<int64_t> shape, TableReader &reader) : x(x), shape(shape), reader(reader) {}

  /// Adds `scale` · value[index] to `terms`; all of them must lie in x's row `index` but for the
  /// last index. False if the tree is not linear in x.
  bool add(Value value, ArrayRef<int64_t> index, double scale, ArrayRef<int64_t> row, Terms &terms) {
    if (value == x)
      return addSource(reindexed(index, shapeOf(x), shape), scale, row, terms);
    Operation *op = value.getDefiningOp();
    if (!op)
      return false;
    auto next = [&](Value operand, ArrayRef<int64_t> at, double factor) {
      return add(operand, at, scale * factor, row, terms);
    };
    SmallVector<int64_t> at(index);
    if (isa<arith::AddFOp, arith::SubFOp>(op))
      return next(op->getOperand(0), index, 1) && next(op->getOperand(1), index, isa<arith::AddFOp>(op) ? 1 : -1);
    if (isa<arith::NegFOp>(op))
      return next(op->getOperand(0), index, -1);
    if (isa<arith::MulFOp>(op)) {
      for (unsigned i : {0, 1})
        if (reader.isTable(op->getOperand(i)))
          return next(op->getOperand(1 - i), index, reader.read(op->getOperand(i), index));
      return false;
    }
    if (auto slice = dyn_cast<SliceOp>(op)) {
      for (auto [i, offset] : llvm::zip_equal(at, slice.getOffsets()))
        i += offset;
      return next(slice.getX(), at, 1);
    }
    if (auto concat = dyn_cast<ConcatOp>(op)) {
      int64_t &i = at[concat.getDim()];
      for (Value input : concat.getInputs()) {
        if (int64_t extent = shapeOf(input)[concat.getDim()]; i >= extent)
          i -= extent;
        else
          return next(input, at, 1);
      }
      return false;
    }
    if (auto transpose = dyn_cast<TransposeOp>(op)) {
      for (auto [i, dim] : llvm::enumerate(transpose.getPermutation()))
        at[dim] = index[i];
      return next(transpose.getX(), at, 1);
    }
    if (auto reshape = dyn_cast<ReshapeOp>(op))
      return next(reshape.getX(), reindexed(index, shapeOf(value), shapeOf(reshape.getX())), 1);
    return false;
  }

private:
  bool addSource(ArrayRef<int64_t> index, double scale, ArrayRef<int64_t> row, Terms &terms) {
    if (index.drop_back() != row)
      return false;
    for (auto &[i, coefficient] : terms)
      if (i == index.back())
        return coefficient += scale, true;
    terms.push_back({index.back(), scale});
    return true;
  }

  Value x;
  ArrayRef<int64_t> shape;
  TableReader &reader;
};

struct Rope {
  Value x;
  int64_t seqDim;
  RopeStyle style;
  SmallVector<double> frequencies;
  double scaling;
};

/// Checks whether `y` is a rotation of `x`, which every path from y ends in.
class Recognizer {
public:
  Recognizer(Value y, Value x, TableReader &reader) : y(y), x(x), form(x, shapeOf(y), reader), shape(shapeOf(y)) {}

  std::optional<Rope> recognize() {
    if (!readRow(SmallVector<int64_t>(shape.size() - 1, 0), start))
      return std::nullopt;
    std::optional<int64_t> dim = findSeqDim();
    if (!dim || !isAlikeBeside(*dim) || !findStyle() || !findAngles(*dim))
      return std::nullopt;
    return Rope{x, *dim, style, frequencies, scaling};
  }

private:
  bool readRow(ArrayRef<int64_t> row, SmallVectorImpl<Terms> &terms) {
    terms.assign(shape.back(), {});
    SmallVector<int64_t> index(row);
    index.push_back(0);
    for (int64_t j = 0; j < shape.back(); ++j) {
      index.back() = j;
      if (!form.add(y, index, 1, row, terms[j]))
        return false;
    }
    return true;
  }

  /// The only dimension along which coefficients differ.
  std::optional<int64_t> findSeqDim() {
    std::optional<int64_t> found;
    for (int64_t d = 0; d + 1 < int64_t(shape.size()); ++d) {
      if (shape[d] == 1)
        continue;
      // Position 1 tells a sequence; the last element that other dimensions are really alike.
      for (int64_t i : {int64_t(1), shape[d] - 1}) {
        SmallVector<int64_t> row(shape.size() - 1, 0);
        row[d] = i;
        SmallVector<Terms> terms;
        if (!readRow(row, terms))
          return std::nullopt;
        if (terms == start || found == d)
          continue;
        if (found)
          return std::nullopt;
        found = d;
      }
    }
    return found;
  }

  /// Whether coefficients differ along `seqDim` alone, also where position 0 hides it: there, all angles are 0.
  bool isAlikeBeside(int64_t seqDim) {
    for (int64_t position : {int64_t(1), shape[seqDim] - 1}) {
      SmallVector<int64_t> row(shape.size() - 1, 0);
      row[seqDim] = position;
      SmallVector<Terms> first, other;
      if (!readRow(row, first))
        return false;
      for (int64_t d = 0; d + 1 < int64_t(shape.size()); ++d)
        for (int64_t i : {int64_t(1), shape[d] - 1}) {
          if (d == seqDim || shape[d] == 1)
            continue;
          row[d] = i;
          if (!readRow(row, other) || other != first)
            return false;
          row[d] = 0;
        }
    }
    return true;
  }

  int64_t partner(int64_t j) const {
    return style == RopeStyle::Interleaved ? j ^ 1 : j < rotated / 2 ? j + rotated / 2 : j - rotated / 2;
  }

  /// How many elements rotate, and with which other.
  bool findStyle() {
    rotated = 0;
    for (auto [j, terms] : llvm::enumerate(start))
      if (terms.size() == 2)
        rotated = j + 1;
    if (rotated < 2 || rotated % 2)
      return false;
    auto other = [&](int64_t j) { return start[j][0].first == j ? start[j][1].first : start[j][0].first; };
    if (start[0].size() != 2)
      return false;
    // With two elements both styles are the same.
    style = other(0) == 1 && rotated > 2 ? RopeStyle::Interleaved : RopeStyle::Half;
    for (int64_t j = 0; j < shape.back(); ++j) {
      if (j >= rotated ? start[j] != Terms{{j, 1.0}} : start[j].size() != 2 || other(j) != partner(j))
        return false;
    }
    return true;
  }

  /// The element that leads pair `i`.
  int64_t first(int64_t i) const { return style == RopeStyle::Interleaved ? 2 * i : i; }

  static double coefficient(const Terms &terms, int64_t source) {
    return terms[0].first == source ? terms[0].second : terms[1].second;
  }

  bool findAngles(int64_t dim) {
    int64_t length = shape[dim];
    SmallVector<int64_t> row(shape.size() - 1, 0);
    SmallVector<Terms> terms;
    auto readPosition = [&](int64_t position) {
      row[dim] = position;
      return readRow(row, terms);
    };
    scaling = coefficient(start[0], 0);
    if (scaling == 0 || !readPosition(1))
      return false;
    auto angle = [&](int64_t i) {
      int64_t a = first(i), b = partner(a);
      return std::atan2(coefficient(terms[b], a) / scaling, coefficient(terms[a], a) / scaling);
    };
    for (int64_t i = 0; i < rotated / 2; ++i)
      frequencies.push_back(angle(i));
    for (int64_t position = 2; position < length; position *= 2) {
      if (!readPosition(position))
        return false;
      for (auto [i, frequency] : llvm::enumerate(frequencies)) {
        double turns = std::round((position * frequency - angle(i)) / (2 * M_PI));
        frequency = (angle(i) + 2 * M_PI * turns) / position;
      }
    }
    // What was stored as f32 and computed in f64 is an f32 again.
    for (double &frequency : frequencies)
      if (std::abs(double(float(frequency)) - frequency) <= 1e-12 * std::abs(frequency))
        frequency = float(frequency);
    int64_t step = std::max<int64_t>(length / kComparedPositions, 1);
    for (int64_t position = 0; position < length; position += position < kComparedPositions / 2 ? 1 : step)
      if (!readPosition(position) || !agrees(position, terms))
        return false;
    if (!readPosition(length - 1) || !agrees(length - 1, terms))
      return false;
    return true;
  }

  bool agrees(int64_t position, ArrayRef<Terms> terms) const {
    for (auto [i, frequency] : llvm::enumerate(frequencies)) {
      int64_t a = first(i), b = partner(a);
      double theta = position * frequency, c = scaling * std::cos(theta), s = scaling * std::sin(theta);
      // Tables stored in f32, whose angles were rounded to f32 too.
      double tolerance = std::abs(scaling) * (2e-6 + 2e-7 * std::abs(theta));
      auto near = [&](int64_t to, int64_t from, double expected) {
        return terms[to].size() == 2 && std::abs(coefficient(terms[to], from) - expected) <= tolerance;
      };
      if (!near(a, a, c) || !near(a, b, -s) || !near(b, b, c) || !near(b, a, s))
        return false;
    }
    return llvm::all_of(llvm::seq(rotated, shape.back()), [&](int64_t j) { return terms[j] == start[j]; });
  }

  Value y, x;
  LinearForm form;
  ArrayRef<int64_t> shape;
  SmallVector<Terms> start;
  int64_t rotated = 0;
  RopeStyle style = RopeStyle::Half;
  double scaling = 1;
  SmallVector<double> frequencies;
};

} // namespace

/// Grows a tree of linear ops down from `root` until it has one leaf of which root is a rotation.
static std::optional<Rope> match(Operation *root, TableReader &reader, llvm::SmallSetVector<Operation *, 32> &tree) {
  llvm::SmallSetVector<Value, 8> leaves;
  leaves.insert(root->getResult(0));
  bool hasTable = false;
  while (tree.size() < kMaximumSpelling) {
    Operation *last = nullptr;
    for (Value leaf : leaves)
      if (Operation *op = leaf.getDefiningOp(); op && (!last || last->isBeforeInBlock(op)))
        last = op;
    if (!last ||
        !isa<arith::AddFOp, arith::SubFOp, arith::MulFOp, arith::NegFOp, SliceOp, ConcatOp, ReshapeOp, TransposeOp>(
            last))
      return std::nullopt;
    tree.insert(last);
    leaves.remove(last->getResult(0));
    for (Value operand : last->getOperands()) {
      if (!reader.isTable(operand))
        leaves.insert(operand);
      else if (isa<arith::MulFOp>(last))
        hasTable |= !splatOf(operand);
      else
        return std::nullopt; // A constant term.
    }
    if (leaves.empty() || leaves.size() > 6)
      return std::nullopt;
    if (hasTable && leaves.size() == 1 &&
        typeOf(leaves[0]).getNumElements() == typeOf(root->getResult(0)).getNumElements())
      if (std::optional<Rope> rope = Recognizer(root->getResult(0), leaves[0], reader).recognize())
        return rope;
  }
  return std::nullopt;
}

static unsigned raiseRope(func::FuncOp function, TableReader &reader) {
  unsigned numRaised = 0;
  llvm::DenseSet<Operation *> taken;
  SmallVector<Operation *> candidates;
  for (Operation &op : function.getBody().front())
    if (isa<arith::AddFOp, ConcatOp, ReshapeOp>(op) && typeOf(op.getResult(0)).getRank() >= 2 &&
        isa<FloatType>(typeOf(op.getResult(0)).getElementType()))
      candidates.push_back(&op);
  // Outermost first: a partial rotation contains a whole one.
  for (Operation *op : llvm::reverse(candidates)) {
    llvm::SmallSetVector<Operation *, 32> tree;
    if (taken.contains(op) || reader.isTable(op->getResult(0)))
      continue;
    std::optional<Rope> rope = match(op, reader, tree);
    if (!rope)
      continue;
    bool isRaised = replaceIfLegal(op, [&](OpBuilder &builder) {
      Value x = reshapeTo(builder, op->getLoc(), rope->x, shapeOf(op->getResult(0)));
      return RopeOp::create(builder, op->getLoc(), x.getType(), x, /*positions=*/Value(),
                            builder.getDenseF64ArrayAttr(rope->frequencies),
                            builder.getI64IntegerAttr(rope->seqDim),
                            RopeStyleAttr::get(builder.getContext(), rope->style),
                            builder.getF64FloatAttr(rope->scaling));
    });
    if (!isRaised)
      continue;
    taken.insert(tree.begin(), tree.end());
    ++numRaised;
  }
  return numRaised;
}

namespace {

struct RaiseRopePass : galvatron::impl::RaiseRopePassBase<RaiseRopePass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      TableReader reader; // remembers values, so it lives only while none is erased
      numRopes += raiseRope(function, reader);
      eraseDead(function);
    }
  }
};

} // namespace
