// Checks placements from what ops declare and from nothing else: neither the analysis of axes nor the
// rules by which placements were assigned nor the planner of redistributions. For every op and every mesh axis (or
// time), at most one loop may be cut, all operands and results that have it must be cut there and alike, and what
// lacks it must be whole (operands) or partial (results). A wrong gradient from composing
// parallelisms would have to break one of these.
#include "VerifyPlacements.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Matchers.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYPLACEMENTSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;
using dist::SubAxis;
using graph::DimensionLoops;
using graph::LoopKind;
using graph::OpAxes;

namespace {

/// How a mesh axis cuts a loop of an op: its device (or micro-batch) c runs the iterations i with
/// i / stride % extent = c; mirrored (parity above 0): where i / parity is odd, = extent - 1 - c.
struct LoopCut {
  unsigned loop;  // index in OpAxes::loops
  int64_t stride; // iterations
  int64_t extent; // devices or micro-batches of the mesh axis
  int64_t parity; // iterations
  friend bool operator==(const LoopCut &a, const LoopCut &b) = default;
};

/// Where one mesh axis stands with one operand or result.
struct Stand {
  std::optional<LoopCut> cut;
  std::optional<graph::ReduceKind> partial;
  /// The mesh axis's sub-axis lies across loops, or in a dimension of none.
  bool misplaced = false;

  bool isReplicated() const { return !cut && !partial && !misplaced; }
};

std::string meshAxisName(int64_t meshAxis) {
  return meshAxis == PlacementAttr::kTime ? "time" : "mesh axis " + std::to_string(meshAxis);
}

} // namespace

//===----------------------------------------------------------------------===//
// One op
//===----------------------------------------------------------------------===//

static Stand getStand(PlacementAttr placement, int64_t meshAxis, const DimensionLoops &dims, const OpAxes &axes) {
  Stand stand;
  for (dist::Partial partial : placement.getPartials())
    if (partial.meshAxis == meshAxis)
      stand.partial = partial.kind;
  for (auto [subAxes, loops] : llvm::zip(placement.getDims(), dims)) {
    int64_t stride = 1;
    for (SubAxis subAxis : llvm::reverse(subAxes)) {
      if (subAxis.meshAxis != meshAxis) {
        stride *= subAxis.extent;
        continue;
      }
      stand.misplaced = true;
      int64_t loopStride = 1;
      for (unsigned loop : llvm::reverse(loops)) {
        int64_t extent = axes.loops[loop].extent;
        std::optional<dist::Mirror> mirror = placement.getMirror(meshAxis);
        bool fitsMirror = !mirror || (loopStride * extent) % (2 * mirror->parity) == 0;
        if (stride % loopStride == 0 && stride < loopStride * extent &&
            (loopStride * extent) % (stride * subAxis.extent) == 0 && fitsMirror) {
          stand.cut = LoopCut{loop, stride / loopStride, subAxis.extent, mirror ? mirror->parity / loopStride : 0};
          stand.misplaced = false;
        }
        loopStride *= extent;
      }
      break;
    }
  }
  return stand;
}

static bool hasLoop(const DimensionLoops &dims, unsigned loop) {
  return llvm::any_of(dims, [&](const auto &loops) { return llvm::is_contained(loops, loop); });
}

static PlacementAttr getOperandPlacement(Value operand) {
  if (auto factor = operand.getDefiningOp<dist::MultiplierOp>())
    operand = factor.getX();
  return dist::getPlacement(operand.getType());
}

/// The mesh axis cuts a loop.
static LogicalResult verifyCut(Operation *op, int64_t meshAxis, LoopCut cut, const OpAxes &axes,
                               ArrayRef<Stand> operands, ArrayRef<Stand> results) {
  if (axes.loops[cut.loop].kind == LoopKind::Whole)
    return op->emitOpError("cannot be cut by ") << meshAxisName(meshAxis) << " along a loop of extent "
                                                << axes.loops[cut.loop].extent << " that it declares whole";
  for (auto [index, stand] : llvm::enumerate(operands)) {
    bool fits = hasLoop(axes.operands[index], cut.loop) ? stand.cut == cut : stand.isReplicated();
    if (!fits)
      return op->emitOpError("is cut by ")
             << meshAxisName(meshAxis) << " along a loop of extent " << axes.loops[cut.loop].extent << ", but operand "
             << index << " is placed as " << getOperandPlacement(op->getOperand(index));
  }
  for (auto [index, stand] : llvm::enumerate(results)) {
    bool fits = hasLoop(axes.results[index], cut.loop) ? stand.cut == cut
                                                       : !stand.cut && stand.partial == axes.loops[cut.loop].reduction;
    if (!fits)
      return op->emitOpError("is cut by ")
             << meshAxisName(meshAxis) << " along a loop of extent " << axes.loops[cut.loop].extent << ", but result "
             << index << " is placed as " << dist::getPlacement(op->getResult(index).getType());
  }
  return success();
}

/// The mesh axis cuts nothing: results are replicated, or partial sums where linearity allows.
static LogicalResult verifyUncut(Operation *op, int64_t meshAxis, ArrayRef<Stand> operands, ArrayRef<Stand> results) {
  unsigned floats = 0, partials = 0, partial = 0;
  for (auto [index, stand] : llvm::enumerate(operands)) {
    floats += graph::isFloatTensor(op->getOperand(index).getType());
    if (!stand.partial)
      continue;
    ++partials;
    partial = index;
    if (*stand.partial != graph::ReduceKind::Sum)
      return op->emitOpError("reads a value that is a partial maximum on ") << meshAxisName(meshAxis);
  }
  // Zeros are a partial sum of zeros.
  bool passes = matchPattern(op, m_AnyZeroFloat()) && !results.empty() && results[0].partial;
  if (partials) {
    bool alone = partials == 1 && llvm::all_of(llvm::seq(op->getNumResults()),
                                               [&](unsigned result) { return graph::isLinear(op, partial, result); });
    passes = alone || (partials == floats && graph::isJointlyLinear(op));
    if (!passes)
      return op->emitOpError("reads a value that is a partial sum on ")
             << meshAxisName(meshAxis) << ", but is not linear in it";
  }
  for (auto [index, stand] : llvm::enumerate(results))
    if (stand.partial.has_value() != passes || (passes && *stand.partial != graph::ReduceKind::Sum))
      return op->emitOpError("expects result ")
             << index << " to be " << (passes ? "a partial sum" : "replicated") << " on " << meshAxisName(meshAxis)
             << ", but got " << dist::getPlacement(op->getResult(index).getType());
  return success();
}

static LogicalResult verifyOp(Operation *op) {
  OpAxes axes = graph::getOpAxes(op);
  llvm::SmallSetVector<int64_t, 8> meshAxes;
  auto collect = [&](PlacementAttr placement) {
    for (int64_t meshAxis : placement.getMeshAxes())
      if (meshAxis != PlacementAttr::kLocal)
        meshAxes.insert(meshAxis);
    meshAxes.insert(placement.getPartialAxes().begin(), placement.getPartialAxes().end());
  };
  for (Value operand : op->getOperands()) {
    if (!getOperandPlacement(operand))
      return op->emitOpError("expects operands with placements, but got ") << operand.getType();
    collect(getOperandPlacement(operand));
  }
  for (Value result : op->getResults()) {
    if (!dist::getPlacement(result.getType()))
      return op->emitOpError("expects results with placements, but got ") << result.getType();
    collect(dist::getPlacement(result.getType()));
  }
  for (int64_t meshAxis : meshAxes) {
    SmallVector<Stand> operands, results;
    std::optional<LoopCut> cut;
    auto add = [&](SmallVector<Stand> &list, PlacementAttr placement, const DimensionLoops &dims) {
      Stand stand = getStand(placement, meshAxis, dims, axes);
      if (stand.cut && !cut)
        cut = stand.cut;
      list.push_back(stand);
      return stand.misplaced;
    };
    bool misplaced = false;
    for (auto [operand, dims] : llvm::zip(op->getOperands(), axes.operands))
      misplaced |= add(operands, getOperandPlacement(operand), dims);
    for (auto [result, dims] : llvm::zip(op->getResults(), axes.results))
      misplaced |= add(results, dist::getPlacement(result.getType()), dims);
    if (misplaced)
      return op->emitOpError("is cut by ") << meshAxisName(meshAxis) << " across the border of two of its loops";
    LogicalResult result =
        cut ? verifyCut(op, meshAxis, *cut, axes, operands, results) : verifyUncut(op, meshAxis, operands, results);
    if (failed(result))
      return failure();
  }
  auto constant = dyn_cast<arith::ConstantOp>(op);
  if (constant && !meshAxes.empty() && !cast<ElementsAttr>(constant.getValue()).isSplat())
    return op->emitOpError("expects a constant of unequal elements to be replicated, but got ")
           << dist::getPlacement(constant.getType());
  return success();
}

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

static LogicalResult verifyCollective(Operation *op) {
  for (auto [operand, result] : llvm::zip_equal(op->getOperands(), op->getResults())) {
    PlacementAttr from = dist::getPlacement(operand.getType()), to = dist::getPlacement(result.getType());
    if (!from || !to)
      return op->emitOpError("expects operand and result with placements");
    if (!leadsTo(op, from, to, result.getResultNumber()))
      return op->emitOpError("does not lead from ") << from << " to " << to;
  }
  return success();
}

/// Shares are as many as there are mesh axes that add them up.
static LogicalResult verifyShare(dist::ShareOp op, ArrayRef<int64_t> mesh, int64_t microBatches) {
  PlacementAttr from = dist::getPlacement(op.getX().getType()), to = dist::getPlacement(op.getResult().getType());
  if (!from || !to)
    return op.emitOpError("expects operand and result with placements");
  int64_t parts = 1;
  for (dist::Partial partial : to.getPartials()) {
    if (llvm::is_contained(from.getPartials(), partial))
      continue;
    if (partial.kind != graph::ReduceKind::Sum)
      return op.emitOpError("expects shares that add up on ")
             << meshAxisName(partial.meshAxis) << ", but got " << from << " and " << to;
    if (partial.meshAxis >= int64_t(mesh.size()))
      return op.emitOpError("expects shares on mesh axes below ")
             << mesh.size() << ", as many as the plan has, but got " << meshAxisName(partial.meshAxis);
    parts *= partial.meshAxis == PlacementAttr::kTime ? microBatches : mesh[partial.meshAxis];
  }
  if (parts != int64_t(op.getParts()))
    return op.emitOpError("expects ") << parts << " shares, but got " << int64_t(op.getParts());
  return success();
}

static LogicalResult verifyRedistribution(dist::RedistributeOp op, ArrayRef<int64_t> mesh) {
  PlacementAttr from = dist::getPlacement(op.getX().getType()), to = dist::getPlacement(op.getResult().getType());
  if (isReachable(from, to, mesh))
    return success();
  return op.emitOpError("expects a target that collectives can reach, but got ") << from << " to " << to;
}

//===----------------------------------------------------------------------===//
// Layers and the step
//===----------------------------------------------------------------------===//

/// A parameter's gradient leaves at the parameter's home but for partial sums, an input's as the input.
static LogicalResult verifyGradients(graph::LayerOp layer, graph::BackwardOp backward) {
  Operation *terminator = backward.getBody().front().getTerminator();
  for (auto [target, gradient] : llvm::zip(layer.getDifferentiated(), terminator->getOperands())) {
    PlacementAttr home = dist::getPlacement(target.getType()), placed = dist::getPlacement(gradient.getType());
    bool isParameter = target.getArgNumber() >= layer.getNumInputs();
    if (isParameter ? placed.withPartials({}) != home : placed != home)
      return terminator->emitOpError("expects the gradient of argument ")
             << target.getArgNumber() << " at " << home << ", but got " << placed;
  }
  return success();
}

static LogicalResult verifyCall(graph::CallOp call, SymbolTable &symbols) {
  auto layer = symbols.lookup<graph::LayerOp>(call.getCallee());
  if (!layer)
    return success();
  for (auto [index, types] : llvm::enumerate(llvm::zip(call.getOperandTypes(), layer.getArgumentTypes())))
    if (std::get<0>(types) != std::get<1>(types))
      return call.emitOpError("passes operand ")
             << index << " as " << std::get<0>(types) << ", but the layer expects " << std::get<1>(types);
  for (auto [index, types] : llvm::enumerate(llvm::zip(call.getResultTypes(), layer.getResultTypes())))
    if (std::get<0>(types) != std::get<1>(types))
      return call.emitOpError("takes result ")
             << index << " as " << std::get<0>(types) << ", but the layer returns " << std::get<1>(types);
  for (Value output : call.getOutputs()) {
    bool isLoss = llvm::any_of(output.getUsers(), llvm::IsaPred<func::ReturnOp>);
    if (!isLoss && dist::getPlacement(output.getType()).isPartial())
      return call.emitOpError("expects nothing but the loss to cross layers as a partial sum, but got ")
             << output.getType();
  }
  return success();
}

/// A total adds up what its layer leaves partial, devices and micro-batches alike: it is then whole everywhere.
static LogicalResult verifyTotal(graph::TotalOp total, SymbolTable &symbols) {
  PlacementAttr placed = dist::getPlacement(total.getType());
  if (!placed || placed != PlacementAttr::getReplicated(cast<RankedTensorType>(total.getType())))
    return total.emitOpError("expects a replicated result, but got ") << total.getType();
  auto layer = symbols.lookup<graph::LayerOp>(total.getCallee());
  if (!layer)
    return success();
  PlacementAttr left = dist::getPlacement(layer.getResultTypes().front());
  bool isSum = left && left.withPartials({}) == placed && llvm::all_of(left.getPartials(), [](dist::Partial partial) {
                 return partial.kind == graph::ReduceKind::Sum;
               });
  if (!isSum)
    return total.emitOpError("expects a layer whose result is a sum over pieces of the batch, but ")
           << total.getCalleeAttr() << " returns " << layer.getResultTypes().front();
  return success();
}

namespace {
struct VerifyPlacementsPass : galvatron::impl::VerifyPlacementsPassBase<VerifyPlacementsPass> {
  using Base::Base;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    SmallVector<int64_t> mesh = plan::getMesh(pipeline);
    int64_t microBatches = pipeline ? pipeline.getMicroBatches() : 1;
    SymbolTable symbols(module);
    WalkResult result = module.walk([&](Operation *op) -> WalkResult {
      if (isa<graph::LayerOp, graph::BackwardOp, graph::ReturnOp, func::FuncOp, func::ReturnOp, ModuleOp,
              dist::MultiplierOp>(op)) {
        if (auto backward = dyn_cast<graph::BackwardOp>(op))
          return verifyGradients(cast<graph::LayerOp>(backward->getParentOp()), backward);
        return success();
      }
      ++numOps;
      if (auto call = dyn_cast<graph::CallOp>(op))
        return verifyCall(call, symbols);
      if (auto total = dyn_cast<graph::TotalOp>(op))
        return verifyTotal(total, symbols);
      if (auto redistribute = dyn_cast<dist::RedistributeOp>(op))
        return verifyRedistribution(redistribute, mesh);
      if (auto share = dyn_cast<dist::ShareOp>(op))
        return verifyShare(share, mesh, microBatches);
      if (isa<dist::DistDialect>(op->getDialect()))
        return verifyCollective(op);
      return verifyOp(op);
    });
    if (result.wasInterrupted())
      return signalPassFailure();
    markAllAnalysesPreserved();
  }
};
} // namespace
