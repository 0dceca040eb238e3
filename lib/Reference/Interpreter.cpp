// Types are global with placements, or local: either way a result's shape on a device follows from its
// type, and where its piece lies from its placement or from the op's `dist.position`.
#include "Interpreter.h"

#include "dialects/Graph/GraphStructure.h"

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

Interpreter::Interpreter(Machine machine, uint64_t seed, uint64_t step, bool exact)
    : machine(std::move(machine)), seed(seed), step(step), exact(exact) {
  addGraphOps(table);
  addGraphLossOps(table);
  addGraphShapeOps(table);
  addArithmeticOps(table);
}

void Interpreter::roundNarrow(Type type, DeviceTensors &value) const {
  Type element = getElementTypeOrSelf(type);
  if (exact || !isa<FloatType>(element) || element.getIntOrFloatBitWidth() >= 32)
    return;
  for (Tensor &tensor : value)
    roundTo(element, tensor);
}

LogicalResult Interpreter::runBlock(Block &block, Frame &frame) const {
  for (Operation &op : block.without_terminator())
    if (!isa<graph::BackwardOp>(op) && failed(runOp(&op, frame)))
      return failure();
  return success();
}

/// The placement of the tensor whose index the op reads, or null.
static dist::PlacementAttr positionOf(Operation *op) {
  if (auto placement = op->getAttrOfType<dist::PlacementAttr>(dist::kPositionAttrName))
    return placement;
  if (op->hasTrait<OpTrait::ConstantLike>())
    return dist::getPlacement(op->getResult(0).getType());
  auto axes = dyn_cast<graph::AxisOpInterface>(op);
  Value tensor = axes ? axes.getPositionTensor() : Value();
  return tensor ? dist::getPlacement(tensor.getType()) : dist::PlacementAttr();
}

LogicalResult Interpreter::runOp(Operation *op, Frame &frame) const {
  // Make room first: references into a DenseMap do not survive its growth.
  for (Value result : op->getResults())
    frame[result].clear();
  if (isa<dist::RedistributeOp>(op)) {
    Value x = op->getOperand(0), result = op->getResult(0);
    Tensor global(cast<RankedTensorType>(x.getType()).getShape());
    if (failed(machine.gather(op->getLoc(), frame[x], dist::getPlacement(x.getType()), microBatch, global)))
      return failure();
    frame[result] = machine.scatter(global, dist::getPlacement(result.getType()), microBatch);
    roundNarrow(result.getType(), frame[result]);
    return success();
  }
  if (isa<dist::MultiplierOp>(op)) {
    frame[op->getResult(0)] = frame[op->getOperand(0)];
    return success();
  }
  if (auto share = dyn_cast<dist::ShareOp>(op)) {
    DeviceTensors &pieces = frame[share.getResult()] = DeviceTensors(frame[share.getX()]);
    for (Tensor &piece : pieces)
      for (double &value : piece.data)
        value /= double(share.getParts());
    roundNarrow(share.getType(), pieces);
    return success();
  }
  if (op->hasAttr("axes")) {
    for (auto [operand, result] : llvm::zip_equal(op->getOperands(), op->getResults())) {
      FailureOr<DeviceTensors> moved = machine.runCollective(op, frame[operand], result.getResultNumber());
      if (failed(moved))
        return failure();
      roundNarrow(result.getType(), *moved);
      frame[result] = std::move(*moved);
    }
    return success();
  }
  auto function = table.find(op->getName().getStringRef());
  if (function == table.end())
    return op->emitOpError("expects an op that the reference evaluator knows");
  SmallVector<DeviceTensors *> results;
  for (Value result : op->getResults())
    results.push_back(&frame[result]);
  for (int64_t device = 0; device < machine.numDevices(); ++device)
    if (failed(runOnDevice(op, function->second, device, frame, results)))
      return failure();
  return success();
}

LogicalResult Interpreter::runOnDevice(Operation *op, const OpFunction &function, int64_t device, Frame &frame,
                                       ArrayRef<DeviceTensors *> results) const {
  SmallVector<const Tensor *> operands;
  for (Value operand : op->getOperands())
    operands.push_back(&frame.find(operand)->second[device]);
  SmallVector<Tensor> tensors;
  for (Type type : op->getResultTypes()) {
    if (!isa<RankedTensorType>(type))
      return op->emitOpError("expects tensors, but got ") << type;
    tensors.emplace_back(dist::getLocalType(type).getShape());
  }
  auto keys = op->getAttrOfType<dist::PlacementAttr>(dist::kKeyPositionAttrName);
  auto turn = op->getAttrOfType<DenseI64ArrayAttr>(dist::kKeyTurnAttrName);
  int64_t home = turn ? machine.turned(device, turn) : device;
  auto own = op->getAttrOfType<DenseI64ArrayAttr>(dist::kTurnAttrName);
  OpCall call{op,
              operands,
              tensors,
              machine.position(positionOf(op), own ? machine.turned(device, own) : device, microBatch),
              machine.position(keys, home, microBatch),
              seed,
              step,
              layer};
  if (failed(function(call)))
    return failure();
  for (auto [type, tensor, result] : llvm::zip(op->getResultTypes(), tensors, results)) {
    if (!exact)
      roundTo(cast<RankedTensorType>(type).getElementType(), tensor);
    result->push_back(std::move(tensor));
  }
  return success();
}
