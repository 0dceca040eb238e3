// Places the values of one layer: walks its ops once, forward then backward, and decides for each op
// and each mesh axis (or time) which loop the mesh axis takes. Operands follow the loop, results
// come out sharded, partial or replicated. Exceptions, in this order:
//
//   1. A jointly linear op (sum) whose operands are all partial sums leaves its result one. Over time, and in
//      gradients of parameters, one partial operand is enough: what the others hold alike is added in equal shares.
//   2. An op linear in its one partial operand, of which the mesh axis takes no loop, passes it on.
//   3. Nothing that crosses a layer is partial, but the loss and parameters' gradients.
//   4. Any other op reads its partial operands reduced.
//   5. Ops without operands are made in the placement asked for.
//   6. A sum over positions that an op mixes is reduced at once where the mesh axis cuts the result's own positions:
//      gradients of keys and values, before rope and projections would see them whole. And what such an op reads of all
//      positions is gathered last, apart from all else that redistributes it.
//
// Conversions are shared by all readers of one direction. Backward also reads forward's copies, but
// gathers gathered ones again: they would be the larger tensors to keep. The strategy may say otherwise.
#include "galvatron/Placement/PlacementsBody.h"
#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Placement/PlacementsRedistribution.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;
using namespace galvatron::graph;

namespace {

/// A value of the layer's clone that holds a value of the original layer in one placement. There are several of one
/// original value: as it was computed, and one for each other placement in which an op reads it.
struct Copy {
  Value value;      // in the clone
  ValuePlace place; // where its elements are
  /// Came out of an all-gather, or of an op without operands. Backward does not read it, but gathers or recomputes it:
  /// kept, it would be whole on every device (`BodyRequest::keepsGathered`).
  bool gathered;
};

/// In which places an op reads its operands and leaves its results: one for each, in the op's order, integers
/// included. It follows from the loop that each mesh axis takes of the op, and is decided mesh axis by mesh axis.
struct OpPlaces {
  SmallVector<ValuePlace> operands, results;
};

class BodyAssigner {
public:
  BodyAssigner(const BodyRequest &given, const Axes &axes, const LayerSubAxes &subAxes)
      : request(given), axes(axes), subAxes(subAxes), meshAxes(subAxes.getMeshAxes()),
        builder(request.layer.getContext()) {}

  FailureOr<graph::LayerOp> run();

private:
  LogicalResult assignBlock(Block &block);
  LogicalResult assignOp(Operation *op);
  LogicalResult assignBackward(BackwardOp backward);
  LogicalResult placeResults();
  LogicalResult finishBackward(graph::ReturnOp terminator);

  OpPlaces choosePlaces(Operation *op);
  bool takeLoop(Operation *op, unsigned meshAxis, OpPlaces &places);
  bool waitInSum(Operation *op, unsigned meshAxis, OpPlaces &places);
  bool passThrough(Operation *op, unsigned meshAxis, OpPlaces &places);
  bool isWorthPassing(Operation *op, unsigned meshAxis);
  LogicalResult checkTime(Operation *op, Value operand, const ValuePlace &need);

  bool isPartialSum(Value original, unsigned meshAxis);
  bool isReplicated(Value original, unsigned meshAxis);
  bool isShared(Value original, unsigned meshAxis, const ValuePlace &need);
  FailureOr<Value> getOperand(Operation *op, Value original, const ValuePlace &need);
  Value makeProducer(Operation *producer, Value original, const ValuePlace &place);
  Value convert(Value original, const Copy &from, const ValuePlace &to);
  FailureOr<SmallVector<Value>> addPartialsFirst(Operation *op, const OpPlaces &places);
  ValuePlace cutAgain(Value original, ValuePlace place, MeshAxisPlace without, bool always);
  LogicalResult reduceMixed(Operation *op, const OpPlaces &places);
  Value asFactor(Operation *op, Value operand, Type type);

  PlacementAttr getAttr(Value original, const ValuePlace &place) {
    return getPlacementAttr(cast<RankedTensorType>(original.getType()), axes.getAxes(original), place, axes, subAxes);
  }
  ValuePlace getPlace(Value original, PlacementAttr placement);
  ValuePlace getReplicated() { return ValuePlace(meshAxes.size()); }
  Type getType(Value original, const ValuePlace &place) {
    return withPlacement(original.getType(), getAttr(original, place));
  }
  void addCopy(Value original, Value value, const ValuePlace &place, bool gathered = false) {
    (inBackward ? backwardCopies : forwardCopies)[original].push_back({value, place, gathered});
  }
  SmallVector<Copy> getCopies(Value original);

  BodyRequest request;
  const Axes &axes;
  const LayerSubAxes &subAxes;
  ArrayRef<LayerSubAxes::MeshAxis> meshAxes;
  OpBuilder builder;
  graph::LayerOp clone;
  bool inBackward = false;
  SmallVector<Value> results; // of the clone
  DenseMap<Value, SmallVector<Copy, 2>> forwardCopies, backwardCopies;
};

} // namespace

static bool isProducer(Operation *op) { return op && op->getNumOperands() == 0 && op->getNumResults() == 1; }

//===----------------------------------------------------------------------===//
// Copies
//===----------------------------------------------------------------------===//

static bool isReadAsKeysOrValues(Value x) {
  return llvm::any_of(x.getUsers(), [&](Operation *user) {
    auto attention = dyn_cast<AttentionOp>(user);
    return attention && (attention.getK() == x || attention.getV() == x);
  });
}

SmallVector<Copy> BodyAssigner::getCopies(Value original) {
  SmallVector<Copy> copies;
  bool isKept = request.keepsGathered && !isProducer(original.getDefiningOp()) &&
                !(request.isRing && isReadAsKeysOrValues(original));
  for (const Copy &copy : forwardCopies.lookup(original))
    if (!inBackward || !copy.gathered || isKept)
      copies.push_back(copy);
  if (inBackward)
    for (const Copy &copy : backwardCopies.lookup(original))
      copies.push_back(copy);
  return copies;
}

/// Partial in every copy: once one reader has had it reduced, it is no longer.
bool BodyAssigner::isPartialSum(Value original, unsigned meshAxis) {
  SmallVector<Copy> copies = getCopies(original);
  return !copies.empty() && llvm::all_of(copies, [&](const Copy &copy) { return copy.place[meshAxis].isPartialSum(); });
}

/// Known to the mesh axis in full, in some copy or before any is made.
bool BodyAssigner::isReplicated(Value original, unsigned meshAxis) {
  SmallVector<Copy> copies = getCopies(original);
  return copies.empty() ||
         llvm::any_of(copies, [&](const Copy &copy) { return copy.place[meshAxis].kind == MeshAxisPlace::Replicated; });
}

/// Whether a value that the mesh axis knows in full is wanted as a sum over it. Zeros are one as they are.
bool BodyAssigner::isShared(Value original, unsigned meshAxis, const ValuePlace &need) {
  return need[meshAxis].isPartialSum() && !isPartialSum(original, meshAxis) && isReplicated(original, meshAxis) &&
         !matchPattern(original, m_AnyZeroFloat());
}

/// An op without operands in one placement. Only what is equal everywhere or computed from the global
/// index can be made in pieces; other constants are made whole.
Value BodyAssigner::makeProducer(Operation *producer, Value original, const ValuePlace &place) {
  Operation *made = builder.clone(*producer);
  unsigned index = cast<OpResult>(original).getResultNumber();
  auto type = cast<RankedTensorType>(getType(original, place));
  if (auto constant = dyn_cast<arith::ConstantOp>(made)) {
    auto elements = cast<DenseElementsAttr>(constant.getValue());
    constant.setValueAttr(elements.isSplat() ? elements.resizeSplat(type)
                                             : DenseElementsAttr::getFromRawBuffer(type, elements.getRawData()));
  }
  made->getResult(index).setType(type);
  return made->getResult(index);
}

static bool canMakeInPieces(Operation *producer) {
  auto constant = dyn_cast<arith::ConstantOp>(producer);
  return !constant || cast<ElementsAttr>(constant.getValue()).isSplat();
}

/// Redistributes a copy. Where the steps end in all-gathers, what comes before them is a copy of its
/// own, which backward may read.
Value BodyAssigner::convert(Value original, const Copy &from, const ValuePlace &to) {
  PlacementAttr source = getPlacement(from.value.getType()), target = getAttr(original, to);
  auto steps = planRedistribution(source, target, subAxes.getMesh());
  size_t prefix = steps->size();
  while (prefix > 0 && (*steps)[prefix - 1].kind == RedistributionKind::AllGather)
    --prefix;
  Value value = from.value;
  if (prefix > 0 && prefix < steps->size()) {
    PlacementAttr middle = (*steps)[prefix - 1].result;
    value = RedistributeOp::create(builder, value.getLoc(), withPlacement(original.getType(), middle), value);
    addCopy(original, value, getPlace(original, middle), from.gathered);
  }
  bool gathered = from.gathered || prefix < steps->size();
  value = RedistributeOp::create(builder, value.getLoc(), withPlacement(original.getType(), target), value);
  addCopy(original, value, to, gathered);
  return value;
}

FailureOr<Value> BodyAssigner::getOperand(Operation *op, Value original, const ValuePlace &need) {
  ValuePlace whole = need;
  int64_t parts = 1;
  for (unsigned meshAxis = 0; meshAxis < meshAxes.size(); ++meshAxis)
    if (isShared(original, meshAxis, need)) {
      whole[meshAxis] = MeshAxisPlace();
      parts *= meshAxes[meshAxis].size;
    }
  if (whole != need) {
    FailureOr<Value> value = getOperand(op, original, whole);
    if (failed(value))
      return failure();
    return Value(ShareOp::create(builder, op->getLoc(), getType(original, need), *value, uint64_t(parts)));
  }
  for (const Copy &copy : getCopies(original))
    if (copy.place == need)
      return copy.value;
  if (Operation *producer = original.getDefiningOp(); isProducer(producer)) {
    bool pieces = canMakeInPieces(producer);
    ValuePlace place = pieces ? need : getReplicated();
    Value made = makeProducer(producer, original, place);
    addCopy(original, made, place, /*gathered=*/true); // cheaper to recompute than to keep
    if (pieces)
      return made;
    return place == need ? made : convert(original, {made, place, true}, need);
  }
  if (isa<BlockArgument>(original) && getCopies(original).empty()) {
    // A parameter's first reader decides its home.
    auto argument = clone.getBody().front().getArgument(cast<BlockArgument>(original).getArgNumber());
    argument.setType(getType(original, need));
    forwardCopies[original].push_back({argument, need, false});
    return Value(argument);
  }
  PlacementAttr target = getAttr(original, need);
  std::optional<Copy> best;
  double bestTraffic = 0;
  for (const Copy &copy : getCopies(original)) {
    auto steps = planRedistribution(getPlacement(copy.value.getType()), target, subAxes.getMesh());
    if (!steps || (best && getTraffic(*steps) >= bestTraffic))
      continue;
    best = copy;
    bestTraffic = getTraffic(*steps);
  }
  if (!best)
    return op->emitOpError("cannot read its operand of type ")
           << original.getType() << " as " << target << ": no copy of it can be redistributed so";
  return convert(original, *best, need);
}

/// The inverse of `getPlacementAttr`, for placements made of this layer's sub-axes.
ValuePlace BodyAssigner::getPlace(Value original, PlacementAttr placement) {
  const ValueAxes &valueAxes = axes.getAxes(original);
  ValuePlace place = getReplicated();
  for (auto [index, meshAxis] : llvm::enumerate(meshAxes)) {
    for (dist::Partial partial : placement.getPartials())
      if (partial.meshAxis == meshAxis.id)
        place[index] = MeshAxisPlace::partial(partial.kind);
    for (auto [dim, list] : llvm::enumerate(valueAxes))
      for (size_t factor = 0; factor < list.size(); ++factor) {
        bool dealt = llvm::any_of(subAxes.getSubAxes(list[factor]),
                                  [&](SubAxis subAxis) { return subAxis.meshAxis == meshAxis.id; });
        if (!dealt || place[index].kind != MeshAxisPlace::Replicated)
          continue;
        DimSubAxes dims = placement.getDims()[dim];
        if (llvm::none_of(dims, [&](SubAxis subAxis) { return subAxis.meshAxis == meshAxis.id; }))
          continue;
        // The dimension may have the axis twice: the sub-axis's stride tells which.
        ValuePlace alone = getReplicated();
        alone[index] = MeshAxisPlace::sharded(dim, factor);
        auto strideOf = [&](const DimSubAxes &subAxes) {
          int64_t stride = 1;
          for (SubAxis subAxis : llvm::reverse(subAxes)) {
            if (subAxis.meshAxis == meshAxis.id)
              break;
            stride *= subAxis.extent;
          }
          return stride;
        };
        if (strideOf(getAttr(original, alone).getDims()[dim]) == strideOf(dims))
          place[index] = MeshAxisPlace::sharded(dim, factor);
      }
  }
  return place;
}

//===----------------------------------------------------------------------===//
// One op
//===----------------------------------------------------------------------===//

/// Where a tensor has the loop, if it does.
static MeshAxisPlace findLoop(const DimensionLoops &dims, unsigned loop) {
  for (auto [dim, loops] : llvm::enumerate(dims))
    for (auto [factor, index] : llvm::enumerate(loops))
      if (index == loop)
        return MeshAxisPlace::sharded(dim, factor);
  return {};
}

bool BodyAssigner::takeLoop(Operation *op, unsigned meshAxis, OpPlaces &places) {
  std::optional<unsigned> loop = chooseLoop(op, meshAxes[meshAxis], axes);
  if (!loop)
    return false;
  const OpFactors &loops = axes.getFactors(op);
  for (auto [dims, place] : llvm::zip(loops.operands, places.operands))
    place[meshAxis] = findLoop(dims, *loop);
  for (auto [dims, place] : llvm::zip(loops.results, places.results)) {
    place[meshAxis] = findLoop(dims, *loop);
    if (place[meshAxis].kind == MeshAxisPlace::Replicated)
      place[meshAxis] = MeshAxisPlace::partial(loops.loops[*loop].reduction);
  }
  return true;
}

bool BodyAssigner::waitInSum(Operation *op, unsigned meshAxis, OpPlaces &places) {
  bool any = false, all = true;
  for (Value operand : op->getOperands())
    if (isFloatTensor(operand.getType())) {
      bool isPartial = isPartialSum(operand, meshAxis);
      if (!isPartial && !isReplicated(operand, meshAxis))
        return false;
      any |= isPartial;
      all &= isPartial;
    }
  bool mayShare = meshAxes[meshAxis].id == PlacementAttr::kTime ||
                  (op->getNumResults() == 1 && inBackward && axes.isParameterLike(op->getResult(0)));
  if (!any || !isJointlyLinear(op) || !(all ? isWorthPassing(op, meshAxis) : mayShare))
    return false;
  for (auto [operand, place] : llvm::zip(op->getOperands(), places.operands))
    if (isFloatTensor(operand.getType()))
      place[meshAxis] = MeshAxisPlace::partial(ReduceKind::Sum);
  for (ValuePlace &place : places.results)
    place[meshAxis] = MeshAxisPlace::partial(ReduceKind::Sum);
  return true;
}

/// Going forward a partial sum is passed on only if it does not grow: it will be reduced soon, and
/// might be saved. In backward the sums of gradients are ahead, but of an activation's gradient in its place among
/// zeros only a part moves anything.
bool BodyAssigner::isWorthPassing(Operation *op, unsigned meshAxis) {
  if (meshAxes[meshAxis].id == PlacementAttr::kTime)
    return true;
  if (inBackward)
    return !isa<graph::PadOp>(op) || axes.isParameterLike(op->getResult(0));
  int64_t before = 0, after = 0;
  for (Value operand : op->getOperands())
    if (isPartialSum(operand, meshAxis))
      before += getLocalBytes(operand.getType());
  for (Type type : op->getResultTypes())
    after += getLocalBytes(type);
  return after <= before;
}

bool BodyAssigner::passThrough(Operation *op, unsigned meshAxis, OpPlaces &places) {
  std::optional<unsigned> partial;
  for (auto [index, operand] : llvm::enumerate(op->getOperands()))
    if (isPartialSum(operand, meshAxis)) {
      if (partial)
        return false;
      partial = index;
    }
  if (!partial || op->getNumResults() == 0)
    return false;
  for (unsigned result = 0; result < op->getNumResults(); ++result)
    if (!isLinear(op, *partial, result))
      return false;
  if (!isWorthPassing(op, meshAxis))
    return false;
  places.operands[*partial][meshAxis] = MeshAxisPlace::partial(ReduceKind::Sum);
  for (ValuePlace &place : places.results)
    place[meshAxis] = MeshAxisPlace::partial(ReduceKind::Sum);
  return true;
}

OpPlaces BodyAssigner::choosePlaces(Operation *op) {
  OpPlaces places;
  places.operands.assign(op->getNumOperands(), getReplicated());
  places.results.assign(op->getNumResults(), getReplicated());
  for (unsigned meshAxis = 0; meshAxis < meshAxes.size(); ++meshAxis) {
    if (waitInSum(op, meshAxis, places) || takeLoop(op, meshAxis, places))
      continue;
    passThrough(op, meshAxis, places);
  }
  return places;
}

/// Operands of a sum that stand in one partial placement but must be converted are added first: one
/// conversion instead of several. Returns the operands of what is left to add.
FailureOr<SmallVector<Value>> BodyAssigner::addPartialsFirst(Operation *op, const OpPlaces &places) {
  const ValuePlace &need = places.results[0];
  SmallVector<Value> operands;
  std::vector<std::pair<ValuePlace, SmallVector<Value>>> groups;
  for (auto [operand, place] : llvm::zip(op->getOperands(), places.operands)) {
    SmallVector<Copy> copies = getCopies(operand);
    bool isPartOfShares = llvm::any_of(llvm::seq<unsigned>(meshAxes.size()),
                                       [&](unsigned meshAxis) { return isShared(operand, meshAxis, need); });
    bool waits = copies.size() == 1 && copies[0].place != need && !isPartOfShares &&
                 llvm::any_of(copies[0].place, [](const MeshAxisPlace &meshAxis) { return meshAxis.isPartialSum(); });
    if (!waits) {
      FailureOr<Value> value = getOperand(op, operand, place);
      if (failed(value))
        return failure();
      operands.push_back(*value);
      continue;
    }
    auto group = llvm::find_if(groups, [&](const auto &group) { return group.first == copies[0].place; });
    if (group == groups.end())
      group = groups.insert(groups.end(), {copies[0].place, {}});
    group->second.push_back(operand);
  }
  for (auto &[place, members] : groups) {
    if (members.size() == 1) {
      FailureOr<Value> value = getOperand(op, members[0], need);
      if (failed(value))
        return failure();
      operands.push_back(*value);
      continue;
    }
    SmallVector<Value> values;
    for (Value member : members)
      values.push_back(getCopies(member)[0].value);
    Value sum = SumOp::create(builder, op->getLoc(), values[0].getType(), values);
    sum.getDefiningOp()->setDiscardableAttrs(op->getDiscardableAttrDictionary());
    Type type = getType(op->getResult(0), need);
    operands.push_back(RedistributeOp::create(builder, op->getLoc(), type, sum));
  }
  return operands;
}

/// Upstream arithmetic wants one type for all operands, so a factor of a partial sum is given its type.
/// Zeros that are added or chosen are a partial sum of zeros as they are.
Value BodyAssigner::asFactor(Operation *op, Value operand, Type type) {
  if (getPlacement(operand.getType()) == getPlacement(type))
    return operand;
  auto placed = withPlacement(operand.getType(), getPlacement(type));
  DenseElementsAttr elements;
  if (isJointlyLinear(op) && matchPattern(operand, m_AnyZeroFloat()) && matchPattern(operand, m_Constant(&elements)))
    return arith::ConstantOp::create(builder, op->getLoc(), placed, elements.resizeSplat(placed));
  return MultiplierOp::create(builder, op->getLoc(), placed, operand);
}

static bool isUpstreamArithmetic(Operation *op) {
  StringRef dialect = op->getName().getDialectNamespace();
  return dialect == "arith" || dialect == "math";
}

/// Time cannot be converted: what belongs to one micro-batch is never whole inside a body, and a sum
/// over micro-batches never known.
LogicalResult BodyAssigner::checkTime(Operation *op, Value operand, const ValuePlace &need) {
  if (meshAxes.empty() || meshAxes[0].id != PlacementAttr::kTime || isProducer(operand.getDefiningOp()))
    return success();
  for (const Copy &copy : getCopies(operand))
    if (copy.place[0] != need[0] && !isShared(operand, 0, need))
      return op->emitOpError("needs the whole batch at once: expects an op that can be cut into ")
             << meshAxes[0].size << " micro-batches, but got one that reads "
             << (copy.place[0].isPartialSum() ? "a sum over them" : "all of them") << kUseOneMicroBatch;
  return success();
}

/// `place` with what the mesh axes want of the value on those that are `without` any of it. `always`: what they want in
/// every op alone.
ValuePlace BodyAssigner::cutAgain(Value original, ValuePlace place, MeshAxisPlace without, bool always) {
  for (auto [meshAxis, where] : llvm::zip(meshAxes, place))
    for (const Choice &choice : meshAxis.choices)
      for (auto [dim, list] : llvm::enumerate(axes.getAxes(original)))
        if (auto found = llvm::find(list, choice.axis);
            where == without && found != list.end() && (!always || choice.when == When::Always))
          where = MeshAxisPlace::sharded(dim, found - list.begin());
  return place;
}

LogicalResult BodyAssigner::reduceMixed(Operation *op, const OpPlaces &places) {
  if (!inBackward || !axes.isMixing(op))
    return success();
  for (auto [result, place] : llvm::zip(op->getResults(), places.results))
    for (bool always : {true, false}) { // a reduction among those that would gather, then the rest
      ValuePlace cut = cutAgain(result, place, MeshAxisPlace::partial(ReduceKind::Sum), always);
      if (cut != place && !axes.isParameterLike(result) && failed(getOperand(op, result, cut)))
        return failure();
    }
  return success();
}

LogicalResult BodyAssigner::assignOp(Operation *op) {
  if (isProducer(op))
    return success(); // made where it is read
  OpPlaces places = choosePlaces(op);
  for (auto [operand, need] : llvm::zip(op->getOperands(), places.operands))
    if (failed(checkTime(op, operand, need)))
      return failure();
  SmallVector<Value> operands;
  if (isa<SumOp>(op)) {
    FailureOr<SmallVector<Value>> added = addPartialsFirst(op, places);
    if (failed(added))
      return failure();
    operands = *added;
  } else {
    for (auto [operand, need] : llvm::zip(op->getOperands(), places.operands)) {
      ValuePlace cut = cutAgain(operand, need, MeshAxisPlace(), /*always=*/true);
      bool gathersLast =
          axes.isMixing(op) && cut != need && isFloatTensor(operand.getType()) && !isProducer(operand.getDefiningOp());
      if (gathersLast && !getCopies(operand).empty() && failed(getOperand(op, operand, cut)))
        return failure();
      FailureOr<Value> value = getOperand(op, operand, need);
      if (failed(value))
        return failure();
      operands.push_back(*value);
    }
  }
  if (isa<SumOp>(op) && operands.size() == 1) {
    addCopy(op->getResult(0), operands[0], places.results[0]);
    return success();
  }
  OperationState state(op->getLoc(), op->getName());
  for (auto [result, place] : llvm::zip(op->getResults(), places.results))
    state.addTypes(getType(result, place));
  if (isUpstreamArithmetic(op))
    for (Value &operand : operands)
      operand = asFactor(op, operand, state.types[0]);
  state.addOperands(operands);
  state.addAttributes(op->getDiscardableAttrDictionary().getValue());
  state.propertiesAttr = op->getPropertiesAsAttribute();
  Operation *placed = builder.create(state);
  for (auto [result, value, place] : llvm::zip(op->getResults(), placed->getResults(), places.results))
    addCopy(result, value, place);
  return reduceMixed(op, places);
}

//===----------------------------------------------------------------------===//
// A layer
//===----------------------------------------------------------------------===//

LogicalResult BodyAssigner::assignBlock(Block &block) {
  for (Operation &op : block) {
    LogicalResult result = success();
    if (auto backward = dyn_cast<BackwardOp>(op)) {
      if (succeeded(placeResults())) // above backward, which may read them
        result = assignBackward(backward);
      else
        result = failure();
    } else if (auto terminator = dyn_cast<graph::ReturnOp>(op))
      result = inBackward ? finishBackward(terminator) : placeResults();
    else
      result = assignOp(&op);
    if (failed(result))
      return failure();
  }
  return success();
}

/// Converts the results to what crosses a layer, once.
LogicalResult BodyAssigner::placeResults() {
  Operation *terminator = request.layer.getBody().front().getTerminator();
  if (results.size() == terminator->getNumOperands())
    return success();
  for (auto [index, value] : llvm::enumerate(terminator->getOperands())) {
    ValuePlace place = getBoundaryPlace(axes.getAxes(value), axes, subAxes);
    if (request.isLoss[index] && !getCopies(value).empty()) {
      place = getCopies(value)[0].place;
      // Micro-batches add up their losses: of one that does not depend on the batch, each has a share.
      if (!meshAxes.empty() && meshAxes[0].id == PlacementAttr::kTime && place[0].kind == MeshAxisPlace::Replicated)
        place[0] = MeshAxisPlace::partial(ReduceKind::Sum);
    } else if (failed(checkTime(terminator, value, place)))
      return failure();
    FailureOr<Value> converted = getOperand(terminator, value, place);
    if (failed(converted))
      return failure();
    results.push_back(*converted);
  }
  return success();
}

LogicalResult BodyAssigner::assignBackward(BackwardOp backward) {
  OpBuilder::InsertionGuard guard(builder);
  auto placed = BackwardOp::create(builder, backward.getLoc(), backward.getKind());
  Block *block = builder.createBlock(&placed.getBody());
  inBackward = true;
  Block &original = backward.getBody().front();
  for (BlockArgument argument : original.getArguments()) {
    ValuePlace place = getBoundaryPlace(axes.getAxes(argument), axes, subAxes);
    addCopy(argument, block->addArgument(getType(argument, place), argument.getLoc()), place);
  }
  LogicalResult result = assignBlock(original);
  inBackward = false;
  return result;
}

/// Inputs' gradients leave as the inputs came. A parameter's gradient leaves at the parameter's home,
/// except that what is partial may stay so where the home is replicated: the optimizer reduces once.
LogicalResult BodyAssigner::finishBackward(graph::ReturnOp terminator) {
  SmallVector<Value> gradients;
  for (auto [argument, gradient] : llvm::zip(request.layer.getDifferentiated(), terminator.getOperands())) {
    bool isParameter = argument.getArgNumber() >= request.layer.getNumInputs();
    if (isParameter && forwardCopies[argument].empty()) // read by nothing
      (void)getOperand(terminator, argument, getReplicated());
    ValuePlace place = forwardCopies[argument][0].place;
    bool isMade = isProducer(gradient.getDefiningOp());
    PlacementAttr decided =
        isParameter ? request.gradients[argument.getArgNumber() - request.layer.getNumInputs()] : PlacementAttr();
    if (decided)
      place = getPlace(gradient, decided);
    else if (isParameter && !isMade)
      for (unsigned meshAxis = 0; meshAxis < meshAxes.size(); ++meshAxis)
        if (place[meshAxis].kind == MeshAxisPlace::Replicated && isPartialSum(gradient, meshAxis))
          place[meshAxis] = MeshAxisPlace::partial(ReduceKind::Sum);
    // Gradients add up over micro-batches: of one that does not depend on the batch, each has a share.
    if (isParameter && !meshAxes.empty() && meshAxes[0].id == PlacementAttr::kTime && !isMade &&
        place[0].kind == MeshAxisPlace::Replicated)
      place[0] = MeshAxisPlace::partial(ReduceKind::Sum);
    FailureOr<Value> converted = getOperand(terminator, gradient, place);
    if (failed(converted))
      return failure();
    gradients.push_back(*converted);
  }
  graph::ReturnOp::create(builder, terminator.getLoc(), gradients);
  return success();
}

FailureOr<graph::LayerOp> BodyAssigner::run() {
  graph::LayerOp layer = request.layer;
  builder.setInsertionPoint(layer);
  clone = cast<graph::LayerOp>(builder.cloneWithoutRegions(*layer));
  clone.setSymName(request.name);
  Block *block = builder.createBlock(&clone.getBody());
  for (BlockArgument argument : layer.getBody().front().getArguments()) {
    BlockArgument placed = block->addArgument(argument.getType(), argument.getLoc());
    unsigned number = argument.getArgNumber();
    ValuePlace place;
    if (number < layer.getNumInputs())
      place = getBoundaryPlace(axes.getAxes(argument), axes, subAxes);
    else if (PlacementAttr home = request.homes[number - layer.getNumInputs()])
      place = getPlace(argument, home);
    else
      continue;
    placed.setType(getType(argument, place));
    addCopy(argument, placed, place);
  }
  if (failed(assignBlock(layer.getBody().front()))) {
    clone.erase();
    return failure();
  }
  graph::ReturnOp::create(builder, layer.getBody().front().getTerminator()->getLoc(), results);
  SmallVector<Type> arguments(block->getArgumentTypes());
  for (BlockArgument argument : block->getArguments())
    if (!getPlacement(argument.getType())) { // a parameter that nothing reads
      argument.setType(
          withPlacement(argument.getType(), PlacementAttr::getReplicated(cast<RankedTensorType>(argument.getType()))));
      arguments[argument.getArgNumber()] = argument.getType();
    }
  clone.setFunctionType(builder.getFunctionType(arguments, ValueRange(results).getTypes()));
  return clone;
}

FailureOr<graph::LayerOp> galvatron::assignBody(const BodyRequest &request, const Axes &axes,
                                                const LayerSubAxes &subAxes) {
  return BodyAssigner(request, axes, subAxes).run();
}
