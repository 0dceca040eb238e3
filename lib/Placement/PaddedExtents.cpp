// Which axes are padded, and how far. See PaddedExtents.h.
#include "galvatron/Placement/PaddedExtents.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/EquivalenceClasses.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MathExtras.h"

#include <numeric>

using namespace mlir;
using namespace galvatron;

SmallVector<int64_t> galvatron::getParts(ArrayRef<int64_t> extents, int64_t degree) {
  if (extents.size() == 1)
    return {degree};
  SmallVector<int64_t> best;
  int64_t least = 0;
  for (int64_t parts = degree; parts >= 1; --parts) {
    if (degree % parts != 0)
      continue;
    SmallVector<int64_t> candidate = {parts};
    candidate.append(getParts(extents.drop_front(), degree / parts));
    int64_t product = 1;
    for (auto [extent, cut] : llvm::zip_equal(extents, candidate))
      product *= llvm::alignTo(extent, cut);
    if (best.empty() || product < least) {
      best = std::move(candidate);
      least = product;
    }
  }
  return best;
}

namespace {
/// An axis in the layer of one call.
using Place = std::pair<unsigned, AxisId>;

class PaddingSolver {
public:
  PaddingSolver(ModuleOp module, const Axes &axes, ArrayRef<graph::CallOp> calls)
      : module(module), axes(axes), calls(calls) {}

  SmallVector<PaddedExtents> run() {
    for (unsigned call = 0; call < calls.size(); ++call) {
      readStrategy(call);
      joinTied(call);
    }
    SmallVector<PaddedExtents> result(calls.size());
    for (const auto *leader : places) {
      if (!leader->isLeader())
        continue;
      Need all;
      for (Place place : places.members(*leader))
        all = {std::lcm(all.parts, needs[place].parts), all.isAsked || needs[place].isAsked};
      int64_t extent = axes.getAxis(leader->getData().second).extent;
      if (all.isAsked && extent % all.parts != 0)
        for (auto [call, axis] : places.members(*leader))
          result[call][axis] = llvm::alignTo(extent, all.parts);
    }
    return result;
  }

private:
  /// What a layer needs of one of its axes: divisible by `parts`; whether its plan asks to have it padded for that.
  struct Need {
    int64_t parts = 1;
    bool isAsked = false;
  };

  void readStrategy(unsigned call) {
    graph::CallOp op = calls[call];
    auto strategy = op->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
    for (const PaddableGroup &group : getPaddableGroups(axes, getLayer(op), strategy, pipeline, AxisRole::Internal)) {
      SmallVector<int64_t> extents;
      for (AxisId axis : group.axes)
        extents.push_back(axes.getAxis(axis).extent);
      SmallVector<int64_t> parts = getParts(extents, group.degree);
      bool divides = llvm::all_of(llvm::zip_equal(extents, parts),
                                  [](auto pair) { return std::get<0>(pair) % std::get<1>(pair) == 0; });
      if (group.isMinorTable && !divides)
        continue;
      for (auto [axis, cut] : llvm::zip_equal(group.axes, parts)) {
        needs[{call, axis}] = {cut, strategy.getPad() && !divides};
        places.insert({call, axis});
      }
    }
  }

  /// The axes of a tied parameter are padded alike in all layers that read it.
  void joinTied(unsigned call) {
    graph::CallOp op = calls[call];
    graph::LayerOp layer = getLayer(op);
    for (auto [index, name] : llvm::enumerate(op.getParameters().getAsValueRange<StringAttr>())) {
      auto [first, isNew] = firstUse.try_emplace(name, call);
      if (isNew)
        continue;
      for (const auto &dim : axes.getAxes(layer.getBody().front().getArgument(layer.getNumInputs() + index)))
        for (AxisId axis : dim)
          places.unionSets({first->second, axis}, {call, axis});
    }
  }

  graph::LayerOp getLayer(graph::CallOp call) { return module.lookupSymbol<graph::LayerOp>(call.getCallee()); }

  ModuleOp module;
  const Axes &axes;
  ArrayRef<graph::CallOp> calls;
  std::map<Place, Need> needs;
  llvm::EquivalenceClasses<Place> places;
  llvm::StringMap<unsigned> firstUse;
};
} // namespace

SmallVector<PaddedExtents> galvatron::getPaddedExtents(ModuleOp module, const Axes &axes,
                                                       ArrayRef<graph::CallOp> calls) {
  return PaddingSolver(module, axes, calls).run();
}

/// The axis that is the second dimension of the step's tokens, alone.
static std::optional<AxisId> findPositions(ModuleOp module, const Axes &axes) {
  func::FuncOp step = graph::getStep(module);
  if (!step || step.getNumArguments() == 0)
    return std::nullopt;
  const ValueAxes &dims = axes.getAxes(step.getArgument(0));
  if (dims.size() != 2 || dims[1].size() != 1 || axes.getAxis(dims[1][0]).role != AxisRole::Seq)
    return std::nullopt;
  return dims[1][0];
}

PaddedExtents galvatron::getPaddedPositions(ModuleOp module, const Axes &axes, ArrayRef<graph::CallOp> calls) {
  std::optional<AxisId> positions = findPositions(module, axes);
  if (!positions)
    return {};
  int64_t extent = axes.getAxis(*positions).extent, parts = 1;
  bool isAsked = false;
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  for (graph::CallOp call : calls) {
    auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    auto layer = module.lookupSymbol<graph::LayerOp>(call.getCallee());
    for (const PaddableGroup &group : getPaddableGroups(axes, layer, strategy, pipeline, AxisRole::Seq)) {
      bool divides = extent % group.degree == 0;
      if (!llvm::equal(group.axes, ArrayRef(*positions)) || (!divides && !strategy.getPad()))
        continue;
      parts = std::lcm(parts, group.degree);
      isAsked |= !divides;
    }
  }
  if (!isAsked)
    return {};
  return {{*positions, llvm::alignTo(extent, parts)}};
}
