// A loss to which several layers add: deep supervision, auxiliary losses, penalties on activations. Each term is a sum
// over the batch that no micro-batch ever sees complete, so it must not travel through other layers. But a sum of sums
// may be added up anywhere: `@step` returns the terms, each layer keeps its own.
#include "FormLayers.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

#include <map>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::layers;

namespace {

/// factor · value
struct Term {
  Value value;
  double factor;
};

} // namespace

static std::optional<double> numberOf(Value value) {
  SplatElementsAttr splat;
  if (!matchPattern(value, m_Constant(&splat)) || !isFloatTensor(value.getType()))
    return std::nullopt;
  return splat.getSplatValue<APFloat>().convertToDouble();
}

/// What a scalar adds up: through sums, differences, and products with numbers.
static SmallVector<Term> termsOf(Value loss) {
  SmallVector<Term> open{{loss, 1}}, terms;
  while (!open.empty()) {
    auto [value, factor] = open.pop_back_val();
    Operation *op = value.getDefiningOp();
    if (isa_and_nonnull<arith::AddFOp, SumOp>(op)) {
      for (Value operand : llvm::reverse(op->getOperands()))
        open.push_back({operand, factor});
      continue;
    }
    if (auto difference = dyn_cast_or_null<arith::SubFOp>(op)) {
      open.push_back({difference.getRhs(), -factor});
      open.push_back({difference.getLhs(), factor});
      continue;
    }
    if (auto negated = dyn_cast_or_null<arith::NegFOp>(op)) {
      open.push_back({negated.getOperand(), -factor});
      continue;
    }
    bool isScaled = false;
    if (isa_and_nonnull<arith::MulFOp, arith::DivFOp>(op))
      for (unsigned i : {0, 1}) {
        std::optional<double> number = numberOf(op->getOperand(1 - i));
        if (!number || isScaled || (isa<arith::DivFOp>(op) && i == 1))
          continue;
        open.push_back({op->getOperand(i), isa<arith::DivFOp>(op) ? factor / *number : factor * *number});
        isScaled = true;
      }
    if (!isScaled)
      terms.push_back({value, factor});
  }
  return terms;
}

bool layers::spreadLoss(func::FuncOp step, const FreeOps &freeOps, ArrayRef<Segment> segments) {
  Operation *terminator = step.getBody().front().getTerminator();
  if (terminator->getNumOperands() != 1)
    return false;
  Value loss = terminator->getOperand(0);
  auto type = dyn_cast<RankedTensorType>(loss.getType());
  if (!type || type.getRank() != 0)
    return false;
  llvm::DenseMap<Operation *, size_t> segmentOf;
  for (auto [index, segment] : llvm::enumerate(segments))
    for (Operation *op : segment.ops)
      segmentOf[op] = index;
  std::map<size_t, SmallVector<Term>> bySegment;
  SmallVector<Term> free;
  for (Term term : termsOf(loss)) {
    Operation *op = term.value.getDefiningOp();
    auto segment = op && !freeOps.isFree(op) ? segmentOf.find(op) : segmentOf.end();
    if (segment == segmentOf.end())
      free.push_back(term);
    else
      bySegment[segment->second].push_back(term);
  }
  if (bySegment.size() < 2)
    return false;
  llvm::append_range(bySegment.rbegin()->second, free);
  OpBuilder builder(terminator);
  SmallVector<Value> results;
  for (auto &[segment, terms] : bySegment) {
    // By the place of its first term, the sum belongs to the term's segment.
    Location loc = terms.front().value.getLoc();
    Value sum;
    for (Term term : terms) {
      Value value = term.value;
      if (term.factor != 1)
        value = arith::MulFOp::create(builder, loc, value, createSplat(builder, loc, type, term.factor));
      sum = sum ? Value(arith::AddFOp::create(builder, loc, sum, value)) : value;
    }
    results.push_back(sum);
  }
  terminator->setOperands(results);
  step.setFunctionType(builder.getFunctionType(step.getArgumentTypes(), ValueRange(results).getTypes()));
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(step.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
  return true;
}
