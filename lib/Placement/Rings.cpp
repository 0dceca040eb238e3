// Context parallelism as a ring. Attention that reads gathered keys and values is unrolled into one attention for each
// device of the group, on the keys and values of one device at a time, which come by permutes:
//
//     gathered   k0 k1 k2 k3 ──► attention
//     ring       own keys ► attention,  permute ► attention, merge,  permute ► attention, merge,  …
//
// With y_a, y_b the results over two sets of keys, and lse_a, lse_b the logs of their sums of exponentials, those over
// both are (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018; as in Liu et al., Ring Attention,
// 2023)
//
//     lse = m + log(exp(lse_a - m) + exp(lse_b - m)),  m = max(lse_a, lse_b)
//     y   = y_a exp(lse_a - lse) + y_b exp(lse_b - lse)
//
// Backward reads y and lse of all keys, with which each device's share of dq is a sum over the sets, and so are dk and
// dv over queries: these travel on with the keys that they belong to, from the first device that is not their own to
// the last, and home, where they are added to its own. So no more bytes move than where all is gathered. Which
// positions a set has is in `dist.key_position` and `dist.key_turn`; masks, windows and dropout follow from that. Own
// keys come first: under a causal mask each query sees one of them, so no sum that is merged into is empty. A bias or
// mask of the scores is cut to a step's keys (RingBias.h) and may hide them all, which merging then allows for.
//
// The group may lie along several axes of the mesh (4 = 2 x 2): turns then count like the digits of a number, and a
// step that carries turns several axes at once.
#include "galvatron/Placement/Rings.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Support/FloatTypes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;
using graph::AttentionBackwardOp;
using graph::AttentionOp;

namespace {

/// Tags all ops that are made for a step.
struct StepTagger : OpBuilder::Listener {
  int64_t steps = 1; ///< that the ops stand for
  void notifyOperationInserted(Operation *op, OpBuilder::InsertPoint) override {
    if (steps > 1)
      op->setAttr(kStepsAttrName, IntegerAttr::get(IntegerType::get(op->getContext(), 64), steps));
  }
};

/// One attention, forward or backward, whose keys and values all devices of a group gather.
class Ring {
public:
  /// An error where the op is none that a ring could compute.
  static FailureOr<Ring> get(Operation *attention, Value k, Value v, ArrayRef<int64_t> mesh, CutBias cutBias,
                             int64_t mostSteps);

  void unroll(AttentionOp op);
  LogicalResult unroll(AttentionBackwardOp op);

private:
  Ring(Operation *attention, dist::AllGatherOp keys, dist::AllGatherOp values, ArrayRef<int64_t> mesh, CutBias cutBias,
       int64_t mostSteps)
      : keys(keys), values(values), mesh(mesh), cutBias(cutBias), builder(attention), loc(attention->getLoc()),
        steps(mostSteps ? std::min(mostSteps, size()) : size()) {}

  ArrayRef<int64_t> getAxes() { return keys.getAxes(); }
  /// By how much the coordinate along each axis of the group differs from that of the keys' home after `step` steps.
  SmallVector<int64_t> getTurn(int64_t step);
  int64_t size();
  /// For how many steps one that is unrolled stands.
  int64_t countSteps(int64_t step) { return step + 1 == steps ? size() - step : 1; }
  /// For each position of the group that of the device whose coordinates are less by `turn`.
  SmallVector<int64_t> getSources(ArrayRef<int64_t> turn);
  /// The value of that device.
  Value permute(Value x, ArrayRef<int64_t> turn);
  /// From the keys of step - 1 to those of `step`.
  Value advance(Value x, int64_t step);
  /// The attention on the keys and values of one step.
  template <typename Op> Op createStep(Op op, Value k, Value v, int64_t step);
  Value spread(Value rows, Type type);
  Value convert(Value x, Type element) {
    return getElementTypeOrSelf(x.getType()) == element ? x : convertFloat(builder, loc, x, element);
  }

  dist::AllGatherOp keys, values;
  ArrayRef<int64_t> mesh;
  CutBias cutBias;
  OpBuilder builder;
  Location loc;
  int64_t steps; ///< that are unrolled
};

} // namespace

//===----------------------------------------------------------------------===//
// Turns
//===----------------------------------------------------------------------===//

FailureOr<Ring> Ring::get(Operation *attention, Value k, Value v, ArrayRef<int64_t> mesh, CutBias cutBias,
                          int64_t mostSteps) {
  auto keys = k.getDefiningOp<dist::AllGatherOp>(), values = v.getDefiningOp<dist::AllGatherOp>();
  auto areAlike = [&] {
    return keys.getAxes() == values.getAxes() && keys.getDim() == 2 && values.getDim() == 2 &&
           keys.getOuter() == values.getOuter() && keys.getMirrored() == values.getMirrored();
  };
  if (!keys || !values || !areAlike())
    return attention->emitOpError("cannot be computed in a ring: expects keys and values that are gathered along their "
                                  "positions; use cp_kind \"gathered\"");
  return Ring(attention, keys, values, mesh, cutBias, mostSteps);
}

int64_t Ring::size() {
  int64_t size = 1;
  for (int64_t axis : getAxes())
    size *= mesh[axis];
  return size;
}

SmallVector<int64_t> Ring::getTurn(int64_t step) {
  SmallVector<int64_t> turn;
  for (int64_t axis : llvm::reverse(getAxes())) {
    turn.insert(turn.begin(), step % mesh[axis]);
    step /= mesh[axis];
  }
  return turn;
}

SmallVector<int64_t> Ring::getSources(ArrayRef<int64_t> turn) {
  SmallVector<int64_t> sources;
  for (int64_t position = 0; position < size(); ++position) {
    int64_t source = 0;
    for (auto [axis, at, less] : llvm::zip(getAxes(), getTurn(position), turn))
      source = source * mesh[axis] + (at + mesh[axis] - less) % mesh[axis];
    sources.push_back(source);
  }
  return sources;
}

Value Ring::permute(Value x, ArrayRef<int64_t> turn) {
  SmallVector<int64_t> sources = getSources(turn);
  return dist::PermuteOp::create(builder, loc, x.getType(), x, builder.getDenseI64ArrayAttr(getAxes()),
                                 builder.getDenseI64ArrayAttr(sources));
}

Value Ring::advance(Value x, int64_t step) {
  SmallVector<int64_t> turn;
  for (auto [axis, now, before] : llvm::zip(getAxes(), getTurn(step), getTurn(step - 1)))
    turn.push_back((now + mesh[axis] - before) % mesh[axis]);
  return permute(x, turn);
}

//===----------------------------------------------------------------------===//
// One step
//===----------------------------------------------------------------------===//

template <typename Op> Op Ring::createStep(Op op, Value k, Value v, int64_t step) {
  SmallVector<int64_t> turns(mesh.size(), 0), turn = getTurn(step);
  for (auto [axis, less] : llvm::zip(getAxes(), turn))
    turns[axis] = less;
  RingStep of{getAxes(), int64_t(keys.getOuter()), keys.getMirrored(), mesh, turns, getSources(turn)};
  Value bias = op.getBias();
  if (bias)
    bias = cutBias(builder, loc, bias, of);
  auto part = cast<Op>(builder.clone(*op));
  part.getKMutable().assign(k);
  part.getVMutable().assign(v);
  if (bias)
    part.getBiasMutable().assign(bias);
  ArrayRef<int64_t> shape = cast<RankedTensorType>(k.getType()).getShape(); // [batch, heads, positions, size]
  part->setAttr(dist::kKeyPositionAttrName, of.getPosition(builder.getContext(), shape, 2));
  part->setAttr(dist::kKeyTurnAttrName, builder.getDenseI64ArrayAttr(turns));
  return part;
}

/// A number for each row of queries, [batch, heads, positions], as a factor of a result.
Value Ring::spread(Value rows, Type type) {
  auto shape = cast<RankedTensorType>(type).clone(getElementTypeOrSelf(rows.getType()));
  return graph::BroadcastOp::create(builder, loc, shape, rows, builder.getDenseI64ArrayAttr({0, 1, 2}));
}

void Ring::unroll(AttentionOp op) {
  Value k = keys.getX(), v = values.getX(), y, lse;
  Type type = op.getResult().getType(), statistics = getElementTypeOrSelf(op.getLse().getType());
  const llvm::fltSemantics &semantics = cast<FloatType>(statistics).getFloatSemantics();
  APFloat lowest = APFloat::getLargest(semantics, /*Negative=*/true);
  auto fill = [&](Type type, const APFloat &value) -> Value {
    return arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(cast<ShapedType>(type), value));
  };
  StepTagger tagger;
  builder.setListener(&tagger);
  for (int64_t step = 0; step < steps; ++step) {
    tagger.steps = countSteps(step);
    if (step > 0) {
      k = advance(k, step);
      v = advance(v, step);
    }
    AttentionOp part = createStep(op, k, v, step);
    Value result = convert(part.getResult(), statistics);
    if (step == 0) {
      y = result;
      lse = part.getLse();
      continue;
    }
    Value most = arith::MaximumFOp::create(builder, loc, lse, part.getLse());
    if (op.getBias()) // it may hide all keys so far: exp(-inf - most) is then 0
      most = arith::MaximumFOp::create(builder, loc, most, fill(lse.getType(), lowest));
    auto weigh = [&](Value log) -> Value {
      return math::ExpOp::create(builder, loc, arith::SubFOp::create(builder, loc, log, most).getResult());
    };
    Value before = weigh(lse), now = weigh(part.getLse());
    Value sum = arith::AddFOp::create(builder, loc, before, now);
    if (op.getBias()) // and no less than 1 otherwise
      sum = arith::MaximumFOp::create(builder, loc, sum, fill(lse.getType(), APFloat(semantics, 1)));
    auto share = [&](Value weight, Value x) -> Value {
      Value factor = spread(arith::DivFOp::create(builder, loc, weight, sum), x.getType());
      return arith::MulFOp::create(builder, loc, x, factor);
    };
    y = arith::AddFOp::create(builder, loc, share(before, y), share(now, result));
    lse = arith::AddFOp::create(builder, loc, most, math::LogOp::create(builder, loc, sum).getResult());
  }
  builder.setListener(nullptr);
  op.getResult().replaceAllUsesWith(convert(y, getElementTypeOrSelf(type)));
  op.getLse().replaceAllUsesWith(lse);
  op.erase();
}

LogicalResult Ring::unroll(AttentionBackwardOp op) {
  SmallVector<dist::ReduceScatterOp> reductions;
  for (Value gradient : {op.getDk(), op.getDv()}) {
    auto reduction = gradient.hasOneUse() ? dyn_cast<dist::ReduceScatterOp>(*gradient.user_begin()) : nullptr;
    if (!reduction || reduction.getAxes() != getAxes() || reduction.getDim() != 2 ||
        reduction.getOuter() != keys.getOuter() || reduction.getMirrored() != keys.getMirrored())
      return op.emitOpError(
          "cannot be computed in a ring: expects the gradients of keys and values to be reduced along "
          "their positions, and nothing else to read them; use cp_kind \"gathered\"");
    reductions.push_back(reduction);
  }
  Value k = keys.getX(), v = values.getX(), dq, ownDk, ownDv, dk, dv;
  auto add = [&](Value a, Value b) -> Value { return arith::AddFOp::create(builder, loc, a, b); };
  Type single = builder.getF32Type(), element = getElementTypeOrSelf(op.getDq().getType());
  Type accumulator = element.getIntOrFloatBitWidth() < 32 ? single : element;
  StepTagger tagger;
  builder.setListener(&tagger);
  for (int64_t step = 0; step < steps; ++step) {
    tagger.steps = countSteps(step);
    if (step > 0)
      for (Value *travels : {&k, &v, &dk, &dv})
        *travels = *travels ? advance(*travels, step) : Value();
    AttentionBackwardOp part = createStep(op, k, v, step);
    Value(part.getDk()).setType(k.getType());
    Value(part.getDv()).setType(v.getType());
    Value query = convert(part.getDq(), accumulator);
    dq = step == 0 ? query : add(dq, query);
    if (step == 0)
      ownDk = part.getDk(), ownDv = part.getDv();
    else
      dk = dk ? add(dk, part.getDk()) : part.getDk(), dv = dv ? add(dv, part.getDv()) : part.getDv();
  }
  builder.setListener(nullptr);
  SmallVector<int64_t> home;
  for (auto [axis, turn] : llvm::zip(getAxes(), getTurn(size() - 1)))
    home.push_back((mesh[axis] - turn) % mesh[axis]);
  for (auto [own, others, reduction] : {std::tuple(ownDk, dk, reductions[0]), {ownDv, dv, reductions[1]}}) {
    dist::ReduceScatterOp replaced = reduction;
    replaced.getResult().replaceAllUsesWith(add(own, permute(others, home)));
    replaced.erase();
  }
  op.getDq().replaceAllUsesWith(convert(dq, element));
  op.erase();
  return success();
}

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

PlacementAttr RingStep::getPosition(MLIRContext *context, ArrayRef<int64_t> localShape, int64_t dim) const {
  SmallVector<dist::DimSubAxes> dims;
  for (int64_t extent : localShape)
    dims.push_back({{extent, PlacementAttr::kLocal}});
  dims[dim] = {{outer, PlacementAttr::kLocal}};
  for (int64_t axis : axes)
    dims[dim].push_back({mesh[axis], axis, mirrored});
  dims[dim].push_back({localShape[dim] / outer, PlacementAttr::kLocal});
  return PlacementAttr::getCanonical(context, dims);
}

/// The ops that `x` is made of.
static void addSources(Value x, llvm::DenseSet<Operation *> &sources) {
  Operation *op = x ? x.getDefiningOp() : nullptr;
  if (op && sources.insert(op).second)
    for (Value operand : op->getOperands())
      addSources(operand, sources);
}

FailureOr<unsigned> galvatron::insertRings(Block &body, ArrayRef<int64_t> mesh, CutBias cutBias, int64_t mostSteps) {
  // Listed first: unrolling erases them.
  SmallVector<AttentionOp> forward(body.getOps<AttentionOp>());
  SmallVector<AttentionBackwardOp> backward(body.getOps<AttentionBackwardOp>());
  llvm::DenseSet<Operation *> sources; // of what attention reads of all keys
  auto addAll = [&](auto op) {
    for (Value whole : {op.getK(), op.getV(), op.getBias()})
      addSources(whole, sources);
  };
  llvm::for_each(forward, addAll);
  llvm::for_each(backward, addAll);
  for (AttentionOp op : forward) {
    FailureOr<Ring> ring = Ring::get(op, op.getK(), op.getV(), mesh, cutBias, mostSteps);
    if (failed(ring))
      return failure();
    ring->unroll(op);
  }
  for (AttentionBackwardOp op : backward) {
    FailureOr<Ring> ring = Ring::get(op, op.getK(), op.getV(), mesh, cutBias, mostSteps);
    if (failed(ring) || failed(ring->unroll(op)))
      return failure();
  }
  for (Operation &op : llvm::make_early_inc_range(llvm::reverse(body)))
    if (sources.contains(&op) && isOpTriviallyDead(&op))
      op.erase();
  return unsigned(forward.size() + backward.size());
}
