// What a step must know about its whole batch before its first micro-batch: how many labels count, what they
// weigh. Such a number divides the loss, so no micro-batch and no device can find it alone, and a mean of means
// would be another number wherever labels are spread unevenly.
//
// Only the step's data decide it, so it is summed ahead of everything else: the arithmetic that leads to a
// sum over all of them becomes a layer of its own, and a `graph.total` stands for its sum over the batch.
#include "galvatron/Support/FloatTypes.h"
#include "galvatron/Transforms/Passes.h"

#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/OperationSupport.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/SetVector.h"

namespace galvatron {
#define GEN_PASS_DEF_FORMTOTALSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

namespace {

/// What a value is computed from.
enum Source : unsigned { None = 0, Data = 1, Weights = 2, Random = 4 };

class TotalsFormer {
public:
  TotalsFormer(ModuleOp module, func::FuncOp step) : step(step), symbols(module), builder(step.getContext()) {}

  LogicalResult run();
  unsigned numTotals = 0, numCounts = 0;

private:
  void findSources();
  LogicalResult addCount(CrossEntropyOp loss);
  ReduceOp inSinglePrecision(ReduceOp sum);
  void formTotal(ReduceOp sum);
  LayerOp outline(ReduceOp sum, ArrayRef<Operation *> slice, ArrayRef<Value> inputs);
  void keepFromZero(Value total);

  func::FuncOp step;
  SymbolTable symbols;
  OpBuilder builder;
  llvm::DenseMap<Value, unsigned> sources;
  SmallVector<LayerOp> layers;
};

} // namespace

void TotalsFormer::findSources() {
  for (Value argument : step.getArguments())
    sources[argument] = Data;
  for (Operation &op : step.getBody().front().without_terminator()) {
    unsigned mask = isa<ParameterOp>(op) ? Weights : isa<DropoutOp>(op) ? Random : None;
    for (Value operand : op.getOperands())
      mask |= sources.lookup(operand);
    for (Value result : op.getResults())
      sources[result] = mask;
  }
}

/// The number of labels that differ from the ignored index, as arithmetic beside the loss.
LogicalResult TotalsFormer::addCount(CrossEntropyOp loss) {
  if (sources.lookup(loss.getLabels()) & ~Data)
    return loss.emitOpError(
        "divides by the number of its labels, which depends on parameters, so it is not known before "
        "the first micro-batch; use reduction='sum' and divide by a number that labels decide");
  Location loc = loss.getLoc();
  builder.setInsertionPoint(loss);
  auto labels = cast<RankedTensorType>(loss.getLabels().getType());
  auto scalar = cast<RankedTensorType>(loss.getLoss().getType());
  Value ignored = createSplat(builder, loc, labels, static_cast<int64_t>(loss.getIgnoreIndex()));
  Value counts = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ne, loss.getLabels(), ignored);
  Value ones = arith::UIToFPOp::create(builder, loc, labels.clone(scalar.getElementType()), counts);
  auto sum = ReduceOp::create(builder, loc, scalar, ones, ReduceKind::Sum,
                              llvm::to_vector(llvm::seq<int64_t>(0, labels.getRank())));
  loss.getCountMutable().assign(sum.getResult());
  for (Value value : {ignored, counts, ones, Value(sum.getResult())})
    sources[value] = Data;
  ++numCounts;
  return success();
}

LayerOp TotalsFormer::outline(ReduceOp sum, ArrayRef<Operation *> slice, ArrayRef<Value> inputs) {
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPoint(step);
  Location loc = sum.getLoc();
  std::string name = "total" + std::to_string(layers.size());
  auto layer =
      LayerOp::create(builder, loc, name, builder.getFunctionType(ValueRange(inputs).getTypes(), sum.getType()),
                      StringAttr(), ArrayAttr(), ArrayAttr());
  SmallVector<Location> locations(inputs.size(), loc);
  Block *body = builder.createBlock(&layer.getBody(), {}, ValueRange(inputs).getTypes(), locations);
  IRMapping mapping;
  mapping.map(inputs, body->getArguments());
  for (Operation *op : slice)
    builder.clone(*op, mapping);
  ReturnOp::create(builder, loc, mapping.lookup(sum.getResult()));
  for (LayerOp known : layers)
    if (known.getFunctionType() == layer.getFunctionType() &&
        OperationEquivalence::isRegionEquivalentTo(&known.getBody(), &layer.getBody(),
                                                   OperationEquivalence::IgnoreLocations)) {
      layer.erase();
      return known;
    }
  symbols.insert(layer);
  layers.push_back(layer);
  return layer;
}

/// A loss divided by a total is 0 where that is: what it divides is then a sum over no labels.
void TotalsFormer::keepFromZero(Value total) {
  SmallVector<OpOperand *> divisors;
  SmallVector<Value> same{total};
  while (!same.empty())
    for (OpOperand &use : same.pop_back_val().getUses())
      if (isa<BroadcastOp, ReshapeOp, DetachOp, arith::ExtFOp, arith::TruncFOp>(use.getOwner()))
        same.push_back(use.getOwner()->getResult(0));
      else if (isa<arith::DivFOp>(use.getOwner()) && use.getOperandNumber() == 1)
        divisors.push_back(&use);
  for (OpOperand *use : divisors) {
    Location loc = use->getOwner()->getLoc();
    builder.setInsertionPoint(use->getOwner());
    Value value = use->get();
    Value zero = createSplat(builder, loc, value.getType(), 0), one = createSplat(builder, loc, value.getType(), 1);
    Value isZero = arith::CmpFOp::create(builder, loc, arith::CmpFPredicate::OEQ, value, zero);
    use->set(arith::SelectOp::create(builder, loc, isZero, one, value));
  }
}

/// The runtime adds totals up in f32; another type's is converted when it is whole.
ReduceOp TotalsFormer::inSinglePrecision(ReduceOp sum) {
  Type f32 = builder.getF32Type();
  auto convert = [&](Value value, Type element) -> Value {
    Value converted = convertFloat(builder, sum.getLoc(), value, element);
    sources[converted] = Data;
    return converted;
  };
  Type element = getElementTypeOrSelf(sum.getType());
  if (element == f32)
    return sum;
  builder.setInsertionPoint(sum);
  auto single = ReduceOp::create(builder, sum.getLoc(), cast<RankedTensorType>(sum.getType()).clone(f32),
                                 convert(sum.getX(), f32), ReduceKind::Sum, sum.getDims());
  sources[single] = Data;
  sum.replaceAllUsesWith(convert(single, element));
  sum.erase();
  return single;
}

void TotalsFormer::formTotal(ReduceOp sum) {
  llvm::SetVector<Operation *> wanted;
  SmallVector<Value> inputs;
  wanted.insert(sum);
  for (size_t i = 0; i < wanted.size(); ++i)
    for (Value operand : wanted[i]->getOperands()) {
      Operation *producer = operand.getDefiningOp();
      if (!producer) {
        if (!llvm::is_contained(inputs, operand))
          inputs.push_back(operand);
      } else if (isa<TotalOp>(producer)) {
        return; // not known before the first micro-batch: a layer adds it up, where it sees the whole batch
      } else {
        wanted.insert(producer);
      }
    }
  llvm::sort(inputs, [](Value a, Value b) {
    return cast<BlockArgument>(a).getArgNumber() < cast<BlockArgument>(b).getArgNumber();
  });
  SmallVector<Operation *> slice = wanted.takeVector();
  llvm::sort(slice, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  LayerOp layer = outline(sum, slice, inputs);
  builder.setInsertionPointToStart(&step.getBody().front());
  Value total = TotalOp::create(builder, sum.getLoc(), sum.getType(), layer.getSymName(), inputs);
  Value known = DetachOp::create(builder, sum.getLoc(), total.getType(), total);
  sum.getResult().replaceAllUsesWith(known);
  sum.erase();
  keepFromZero(known);
  ++numTotals;
}

LogicalResult TotalsFormer::run() {
  findSources();
  for (auto loss : llvm::to_vector(step.getOps<CrossEntropyOp>()))
    if (loss.isMean() && !loss.getCount() && !loss.hasStaticCount() && failed(addCount(loss)))
      return failure();
  for (auto sum : llvm::to_vector(step.getOps<ReduceOp>())) {
    bool isTotal = sum.getKind() == ReduceKind::Sum && cast<RankedTensorType>(sum.getType()).getRank() == 0 &&
                   sources.lookup(sum.getX()) == Data;
    if (isTotal)
      formTotal(inSinglePrecision(sum));
  }
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(step.getBody().front())))
    if (isOpTriviallyDead(&op))
      op.erase();
  return success();
}

namespace {

struct FormTotalsPass : galvatron::impl::FormTotalsPassBase<FormTotalsPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<func::FuncOp> step = expectStep(module);
    if (failed(step))
      return signalPassFailure();
    TotalsFormer former(module, *step);
    if (failed(former.run()))
      return signalPassFailure();
    numTotals += former.numTotals;
    numCounts += former.numCounts;
  }
};

} // namespace
