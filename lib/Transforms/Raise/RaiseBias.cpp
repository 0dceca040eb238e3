// What is added to attention's scores: masks, which attention has words for, and the rest.
#include "Raise.h"

#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// Times less than this, what blocks might no longer block.
static constexpr double kLeastFactor = 1.0 / 64;

Value raise::additiveMask(Value condition, bool pass, Value blocked) {
  OpBuilder builder(condition.getContext());
  builder.setInsertionPointAfterValue(condition);
  Location loc = condition.getLoc();
  auto type = reshaped(blocked, shapeOf(condition));
  Value zero = splat(builder, loc, type, 0), minimum = splat(builder, loc, type, *splatOf(blocked));
  return arith::SelectOp::create(builder, loc, condition, pass ? zero : minimum, pass ? minimum : zero);
}

static bool dependsOnParameter(Value value, llvm::SmallPtrSetImpl<Operation *> &seen) {
  Operation *op = value.getDefiningOp();
  if (!op || !seen.insert(op).second)
    return false;
  return isa<ParameterOp>(op) ||
         llvm::any_of(op->getOperands(), [&](Value operand) { return dependsOnParameter(operand, seen); });
}

bool raise::dependsOnParameter(Value value) {
  llvm::SmallPtrSet<Operation *, 32> seen;
  return ::dependsOnParameter(value, seen);
}

/// Both masks at once.
static Mask intersection(Mask a, Mask b) {
  a.causal |= b.causal;
  a.window = a.window && b.window ? std::min(a.window, b.window) : std::max(a.window, b.window);
  return a;
}

/// The conditions that hold together where `condition` does.
static void splitCondition(Value condition, SmallVectorImpl<Value> &parts) {
  if (auto both = condition.getDefiningOp<arith::AndIOp>()) {
    splitCondition(both.getLhs(), parts);
    return splitCondition(both.getRhs(), parts);
  }
  parts.push_back(condition);
}

/// `blocked` where a condition on data does not hold, else 0; computed before it is repeated.
static Value blockedWhereNot(Value condition, Value blocked, double number) {
  OpBuilder builder(blocked.getContext());
  builder.setInsertionPointAfterValue(condition);
  Location loc = condition.getLoc();
  auto choose = [&](Value holds) -> Value {
    auto type = cast<RankedTensorType>(holds.getType()).clone(typeOf(blocked).getElementType());
    Value nothing = splat(builder, loc, type, 0), something = splat(builder, loc, type, number);
    return arith::SelectOp::create(builder, loc, holds, nothing, something);
  };
  if (auto broadcast = condition.getDefiningOp<BroadcastOp>())
    return BroadcastOp::create(builder, loc, typeOf(blocked), choose(broadcast.getX()), broadcast.getDims());
  return choose(condition);
}

bool Bias::addCondition(arith::SelectOp select, TableReader &reader) {
  std::optional<double> kept = splatOf(select.getTrueValue()), blocked = splatOf(select.getFalseValue());
  if (kept != 0 || !blocked || *blocked > -1e4 || !isa<RankedTensorType>(select.getCondition().getType()))
    return false;
  SmallVector<Value> parts, ofData;
  splitCondition(select.getCondition(), parts);
  Mask own = mask;
  for (Value part : parts) {
    std::optional<Mask> found;
    if (reader.isTable(part))
      found = recognizeMask(additiveMask(part, /*pass=*/true, select.getFalseValue()), reader);
    if (found)
      own = intersection(own, *found);
    else
      ofData.push_back(part);
  }
  // A number that is finite gives a row without any key equal shares of all of them, whichever condition blocks each.
  if (parts.size() > 1 && (ofData.size() == parts.size() || !std::isinf(*blocked)))
    return false;
  hasMask |= ofData.size() < parts.size();
  mask = own;
  for (Value part : ofData)
    terms.push_back({blockedWhereNot(part, select.getFalseValue(), *blocked), 1});
  return true;
}

void Bias::add(Value value, double factor, TableReader &reader) {
  if (factor >= kLeastFactor && reader.isTable(value))
    if (std::optional<Mask> found = recognizeMask(value, reader)) {
      mask = intersection(mask, *found);
      hasMask = true;
      return;
    }
  Operation *op = value.getDefiningOp();
  if (isa_and_nonnull<arith::AddFOp>(op)) {
    add(op->getOperand(0), factor, reader);
    return add(op->getOperand(1), factor, reader);
  }
  // A sum that was repeated whole is the sum of its terms, repeated.
  if (auto broadcast = dyn_cast_or_null<BroadcastOp>(op))
    if (auto sum = broadcast.getX().getDefiningOp<arith::AddFOp>()) {
      OpBuilder builder(op);
      for (Value term : sum.getOperands())
        add(BroadcastOp::create(builder, op->getLoc(), op->getResult(0).getType(), term, broadcast.getDims()), factor,
            reader);
      return;
    }
  if (auto select = dyn_cast_or_null<arith::SelectOp>(op))
    for (bool pass : {true, false}) {
      Value kept = pass ? select.getTrueValue() : select.getFalseValue();
      Value blocked = pass ? select.getFalseValue() : select.getTrueValue();
      std::optional<double> constant = splatOf(blocked);
      if (factor < kLeastFactor || !constant || *constant > -1e4 || !reader.isTable(select.getCondition()))
        continue;
      if (std::optional<Mask> found = recognizeMask(additiveMask(select.getCondition(), pass, blocked), reader)) {
        mask = intersection(mask, *found);
        hasMask = true;
        return add(kept, factor, reader);
      }
    }
  if (auto select = dyn_cast_or_null<arith::SelectOp>(op); select && factor == 1 && addCondition(select, reader))
    return;
  terms.push_back({value, factor});
}

/// `value` with four dimensions, and extents of one where it repeats.
static Value shrunk(OpBuilder &builder, Value value) {
  SmallVector<int64_t> shape(shapeOf(value));
  if (auto broadcast = value.getDefiningOp<BroadcastOp>()) {
    for (int64_t dim = 0; dim < int64_t(shape.size()); ++dim)
      if (!llvm::is_contained(broadcast.getDims(), dim))
        shape[dim] = 1;
    value = broadcast.getX();
  }
  while (shape.size() < 4)
    shape.insert(shape.begin(), 1);
  return reshapeTo(builder, value.getLoc(), value, shape);
}

Value Bias::build(OpBuilder &builder, Location loc) const {
  auto scaled = [&](Value value, double factor) {
    return factor == 1 ? value : arith::MulFOp::create(builder, loc, value, splat(builder, loc, typeOf(value), factor));
  };
  if (terms.size() == 1)
    return scaled(shrunk(builder, terms[0].first), terms[0].second);
  // Terms that repeat along different dimensions are added at full size.
  Value total;
  for (auto [value, factor] : terms) {
    Value term = scaled(value, factor);
    total = total ? Value(arith::AddFOp::create(builder, loc, total, term)) : term;
  }
  return total ? shrunk(builder, total) : Value();
}
