// Deals sub-axes of logical axes to mesh axes, and decides for one op which of its loops a mesh axis
// takes. Nothing here knows a parallelism by name.
#include "galvatron/Placement/Placements.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/SmallSet.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;
using namespace galvatron::graph;

//===----------------------------------------------------------------------===//
// Conditions
//===----------------------------------------------------------------------===//

static bool isInternal(const Axes &axes, AxisId axis) { return axes.getAxis(axis).role == AxisRole::Internal; }

namespace {
/// What the condition of a preference is asked of: an op, or the elementwise op that a value at a boundary stands for.
struct Surroundings {
  bool mixesPositions = false, hasInternalLoop = false;
};
} // namespace

static bool holds(When when, Surroundings around) {
  switch (when) {
  case When::Always:
    return true;
  case When::Mixing:
    return around.mixesPositions;
  case When::NotMixing:
    return !around.mixesPositions;
  case When::NoInternalLoop:
    // A mask of documents has as many elements as scores: its documents are gathered, not its rows.
    return !around.hasInternalLoop && !around.mixesPositions;
  }
  llvm_unreachable("unknown condition");
}

/// Whether the layer would cut the group under the condition. Values at its boundary mix no positions and have no
/// internal axis, so all but one hold somewhere.
static bool isWanted(const Axes &axes, graph::LayerOp layer, ArrayRef<AxisId> group, When when) {
  if (when != When::Mixing)
    return true;
  WalkResult result = layer.walk([&](Operation *op) {
    bool mixes = axes.hasFactors(op) && axes.isMixing(op) &&
                 llvm::any_of(axes.getFactors(op).loops,
                              [&](const FactorLoop &loop) { return llvm::is_contained(group, loop.axis); });
    return mixes ? WalkResult::interrupt() : WalkResult::advance();
  });
  return result.wasInterrupted();
}

//===----------------------------------------------------------------------===//
// Sub-axes
//===----------------------------------------------------------------------===//

ArrayRef<SubAxis> LayerSubAxes::getSubAxes(AxisId axis) const {
  auto found = subAxes.find(axis);
  return found == subAxes.end() ? ArrayRef<SubAxis>() : ArrayRef<SubAxis>(found->second);
}

/// What is left of an axis after the sub-axes already dealt.
static int64_t getRest(int64_t extent, ArrayRef<SubAxis> subAxes) {
  for (SubAxis subAxis : subAxes)
    extent /= subAxis.extent;
  return extent;
}

/// Gives the mesh axis a sub-axis of the outermost axis of the group that still divides.
bool LayerSubAxes::deal(const Axes &axes, ArrayRef<AxisId> group, When when, MeshAxis &meshAxis) {
  for (AxisId axis : group) {
    SmallVector<SubAxis> &dealt = subAxes[axis];
    if (llvm::any_of(dealt, [&](SubAxis subAxis) { return subAxis.meshAxis == meshAxis.id; }))
      return true; // wanted twice, under two conditions
    if (getRest(axes.getAxis(axis).extent, dealt) % meshAxis.size != 0)
      continue;
    dealt.push_back({meshAxis.size, meshAxis.id});
    meshAxis.choices.push_back({axis, when});
    return true;
  }
  return false;
}

/// The same of a row whose devices have a piece from either end: the axis is cut into halves first, and all of the
/// row's mesh axes have their sub-axes after that.
bool LayerSubAxes::dealMirrored(const Axes &axes, ArrayRef<AxisId> group, When when, const Parallelism &row,
                                MeshAxis &meshAxis) {
  for (AxisId axis : group) {
    SmallVector<SubAxis> &dealt = subAxes[axis];
    bool isDealt = llvm::any_of(dealt, [&](SubAxis subAxis) { return subAxis.meshAxis == meshAxis.id; });
    if (!isDealt && getRest(axes.getAxis(axis).extent, dealt) % (2 * row.degree) != 0)
      continue;
    if (!isDealt) {
      dealt.push_back({2, PlacementAttr::kLocal});
      for (int64_t each : row.meshAxes)
        dealt.push_back({mesh[each], each, /*mirrored=*/true});
    }
    meshAxis.choices.push_back({axis, when});
    return true;
  }
  return false;
}

/// What the axes of a role are to the model's author.
static StringRef describe(AxisRole role) {
  switch (role) {
  case AxisRole::Batch:
    return "samples";
  case AxisRole::Seq:
    return "positions";
  case AxisRole::Hidden:
    return "hidden width";
  case AxisRole::Internal:
    return "heads, feed-forward width or vocabulary";
  case AxisRole::Expert:
    return "experts";
  case AxisRole::Fixed:
    break;
  }
  return "an axis that is never divided";
}

static int64_t getExtent(const Axes &axes, ArrayRef<AxisId> group) {
  int64_t extent = 1;
  for (AxisId axis : group)
    extent *= axes.getAxis(axis).extent;
  return extent;
}

/// "63 (dimension 0 of mlp.up_proj.weight)": by the first of the layer's parameters that has all the axes of the group.
static std::string describe(const Axes &axes, graph::LayerOp layer, ArrayRef<AxisId> group) {
  std::string extent = std::to_string(getExtent(axes, group));
  Block &body = layer.getBody().front();
  for (BlockArgument argument : body.getArguments().drop_front(layer.getNumInputs()))
    for (auto [dim, list] : llvm::enumerate(axes.getAxes(argument)))
      if (llvm::all_of(group, [&](AxisId axis) { return llvm::is_contained(list, axis); }))
        return extent + (list.size() > group.size() ? " (a factor of dimension " : " (dimension ") +
               std::to_string(dim) + " of " + layer.getParameterName(argument.getArgNumber()).str() + ")";
  return extent + " " + describe(axes.getAxis(group[0]).role).str();
}

/// Data look up rows of a vocabulary; of several tables of a layer the largest has it. The others, such as those of
/// token types, are nothing that a plan speaks of.
static bool isMinorTable(const Axes &axes, ArrayRef<AxisId> group, ArrayRef<SmallVector<AxisId>> groups) {
  return axes.getAxis(group[0]).routed && llvm::any_of(groups, [&](ArrayRef<AxisId> other) {
           return axes.getAxis(other[0]).routed && getExtent(axes, other) > getExtent(axes, group);
         });
}

/// What plans may have padded.
static bool canPad(AxisRole role) { return role == AxisRole::Internal || role == AxisRole::Seq; }

/// Whether the row cuts query heads, which is what it cuts where positions mix, and has more ranks than there are.
static bool isBeyondHeads(const Parallelism &row, const Axes &axes, ArrayRef<AxisId> group) {
  return getExtent(axes, group) < row.degree && llvm::any_of(
                                                    row.wants,
                                                    [&](Preference preference) {
                                                      return preference.when == When::Mixing &&
                                                             preference.role == axes.getAxis(group[0]).role;
                                                    });
}

/// Refuses a degree that does not divide what the layer would cut by it. Where padding was asked for, the axis is none
/// that is padded.
static LogicalResult refuse(Location loc, graph::LayerOp layer, const Parallelism &row, const Axes &axes,
                            ArrayRef<AxisId> group, int64_t dealt, PadWord pad) {
  StringRef orPad;
  if (canPad(axes.getAxis(group[0]).role) && !isBeyondHeads(row, axes, group) && pad != PadWord::Said)
    orPad = pad == PadWord::Sayable
                ? ", or say \"pad\": true in its strategy"
                : ", or write the plan in this project's format (docs/plans.md), whose \"pad\" pads it";
  if (row.mirrored)
    return emitError(loc) << "layer '" << layer.getSymName() << "' cannot use cp_zigzag = true with " << row.name
                          << " = " << row.degree << ": expects 2 x " << row.name << " to divide "
                          << describe(axes, layer, group) << "; use cp_zigzag false or another " << row.name << orPad;
  InFlightDiagnostic error = emitError(loc) << "layer '" << layer.getSymName() << "' cannot use " << row.name << " = "
                                            << row.degree << ": expects it to divide " << describe(axes, layer, group);
  if (dealt > 1)
    error << ", which is cut into " << dealt << " already";
  error << "; use a degree that does" << orPad;
  if (pad == PadWord::Said && axes.getAxis(group[0]).role == AxisRole::Seq)
    error << ", as only positions that are a whole dimension of the step's inputs are padded";
  return error;
}

/// Gives each mesh axis of the row a sub-axis of each group that it would cut.
LogicalResult LayerSubAxes::deal(const Axes &axes, graph::LayerOp layer, const Parallelism &row,
                                 MutableArrayRef<MeshAxis> dealt, PadWord pad, Location loc) {
  auto getDealt = [&](ArrayRef<AxisId> group) {
    int64_t product = 1;
    for (AxisId axis : group)
      for (SubAxis subAxis : subAxes[axis])
        product *= llvm::is_contained(row.meshAxes, subAxis.meshAxis) ? 1 : subAxis.extent;
    return product;
  };
  SmallVector<AxisId> replicated;
  for (int64_t axis : row.meshAxes) {
    MeshAxis &meshAxis = dealt[axis] = {axis, mesh[axis], row.name, {}};
    for (Preference preference : row.wants) {
      SmallVector<SmallVector<AxisId>> groups = axes.getGroups(layer, preference.role);
      for (ArrayRef<AxisId> group : groups) {
        if (!isWanted(axes, layer, group, preference.when) ||
            (row.mirrored ? dealMirrored(axes, group, preference.when, row, meshAxis)
                          : deal(axes, group, preference.when, meshAxis)))
          continue;
        if (!isMinorTable(axes, group, groups))
          return refuse(loc, layer, row, axes, group, getDealt(group), pad);
        if (!llvm::is_contained(replicated, group[0]))
          emitRemark(loc) << "layer '" << layer.getSymName() << "': " << row.name << " = " << row.degree
                          << " does not divide " << describe(axes, layer, group) << ", which is replicated";
        replicated.push_back(group[0]);
      }
    }
  }
  return success();
}

SmallVector<PaddableGroup> galvatron::getPaddableGroups(const Axes &axes, graph::LayerOp layer,
                                                        plan::StrategyAttr strategy, plan::PipelineAttr pipeline,
                                                        AxisRole role) {
  SmallVector<int64_t> mesh = plan::getMesh(pipeline);
  plan::MeshAxes meshAxes = plan::dealMeshAxes({mesh.begin(), mesh.end()}, strategy.getValues());
  llvm::MapVector<AxisId, std::pair<PaddableGroup, llvm::SmallSet<int64_t, 4>>> found;
  for (const Parallelism &row : getParallelisms(strategy, meshAxes))
    for (Preference preference : row.wants) {
      if (preference.role != role || row.meshAxes.empty())
        continue;
      SmallVector<SmallVector<AxisId>> groups = axes.getGroups(layer, preference.role);
      for (ArrayRef<AxisId> group : groups) {
        if (!isWanted(axes, layer, group, preference.when))
          continue;
        auto &[entry, cutBy] = found[group[0]];
        entry.axes.assign(group.begin(), group.end());
        entry.isMinorTable = isMinorTable(axes, group, groups);
        for (int64_t axis : row.meshAxes)
          if (cutBy.insert(axis).second) // wanted twice, under two conditions
            entry.degree *= mesh[axis];
        if (row.mirrored && cutBy.insert(PlacementAttr::kLocal).second) // a piece from either end
          entry.degree *= 2;
      }
    }
  SmallVector<PaddableGroup> result;
  for (auto &[first, entry] : found)
    result.push_back(entry.first);
  return result;
}

FailureOr<LayerSubAxes> LayerSubAxes::get(const Axes &axes, graph::LayerOp layer, plan::StrategyAttr strategy,
                                          plan::PipelineAttr pipeline, Location loc, bool canSayPad) {
  LayerSubAxes result;
  result.mesh = plan::getMesh(pipeline);
  StringRef name = layer.getSymName();

  if (int64_t count = pipeline.getMicroBatches(); count > 1) {
    MeshAxis time{PlacementAttr::kTime, count, "micro-batches", {}};
    std::optional<AxisId> batch = axes.getBatch();
    if (!batch)
      return emitError(loc) << "expects an op for each sample, to cut the batch into " << count
                            << " micro-batches, but some op reads all samples together" << kUseOneMicroBatch;
    if (!result.deal(axes, *batch, When::Always, time))
      return emitError(loc) << "expects " << count << " micro-batches to divide the global batch, but got "
                            << axes.getAxis(*batch).extent << " samples";
    result.meshAxes.push_back(time);
  }

  SmallVector<MeshAxis> dealtMeshAxes(result.mesh.size());
  plan::MeshAxes meshAxes = plan::dealMeshAxes({result.mesh.begin(), result.mesh.end()}, strategy.getValues());
  if (meshAxes.failed)
    return emitError(loc) << "expects the degrees of layer '" << name << "' to factor the " << pipeline.getDevices()
                          << " devices of a stage, but got " << StringRef(meshAxes.failed->key) << " = "
                          << strategy.getValues().*meshAxes.failed->value;
  PadWord pad = strategy.getPad() ? PadWord::Said : canSayPad ? PadWord::Sayable : PadWord::Missing;
  for (const Parallelism &row : getParallelisms(strategy, meshAxes))
    if (failed(result.deal(axes, layer, row, dealtMeshAxes, pad, loc)))
      return failure();
  if (!meshAxes.usesAll)
    return emitError(loc) << "expects the degrees of layer '" << name << "' to use all " << pipeline.getDevices()
                          << " devices of a stage, but got " << strategy;
  result.meshAxes.append(dealtMeshAxes);
  return result;
}

/// Of positions by positions, outside of attention that is one op; null: none.
static EinsumOp findProductOfPositions(const Axes &axes, graph::LayerOp layer) {
  EinsumOp product;
  layer.walk([&](EinsumOp op) {
    if (!product && axes.hasFactors(op) && axes.isMixing(op))
      product = op;
  });
  return product;
}

bool galvatron::canTakeRing(const Axes &axes, graph::LayerOp layer) {
  bool hasAttention = false;
  layer.walk([&](graph::AttentionOp) { hasAttention = true; });
  return hasAttention && !findProductOfPositions(axes, layer);
}

/// A ring goes round the devices for attention that is one op. Products of scores would gather all keys without a word.
static LogicalResult checkRing(const Axes &axes, graph::LayerOp layer, plan::StrategyAttr strategy, Location loc) {
  if (!plan::isRing(strategy.getValues()))
    return success();
  EinsumOp product = findProductOfPositions(axes, layer);
  if (!product)
    return success();
  InFlightDiagnostic error = emitError(loc) << "layer '" << layer.getSymName()
                                            << "' cannot use cp_kind = ring: expects attention that is one operator, "
                                               "but it multiplies positions by positions itself, as where a bias of "
                                               "the scores is learned; use cp_kind \"gathered\"";
  error.attachNote(product.getLoc()) << "here";
  return error;
}

LogicalResult galvatron::checkStrategies(ModuleOp module, ArrayRef<graph::CallOp> calls, bool canSayPad) {
  Axes axes(module);
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  DenseSet<std::pair<Operation *, Attribute>> checked;
  ScopedDiagnosticHandler quiet(module.getContext(), [](Diagnostic &diagnostic) {
    return success(diagnostic.getSeverity() == DiagnosticSeverity::Remark);
  });
  for (graph::CallOp call : calls) {
    auto layer = module.lookupSymbol<graph::LayerOp>(call.getCallee());
    auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    if (layer && checked.insert({layer, strategy}).second &&
        (failed(LayerSubAxes::get(axes, layer, strategy, pipeline, call.getLoc(), canSayPad)) ||
         failed(checkRing(axes, layer, strategy, call.getLoc()))))
      return failure();
  }
  return success();
}

/// Of a layer that is padded: what it cuts by heads may be too many ranks all the same.
static LogicalResult checkHeads(const Axes &axes, graph::LayerOp layer, const Parallelism &row, Location loc) {
  for (Preference preference : row.wants)
    for (ArrayRef<AxisId> group : axes.getGroups(layer, preference.role))
      if (isBeyondHeads(row, axes, group) && isWanted(axes, layer, group, When::Mixing))
        return emitError(loc) << "layer '" << layer.getSymName() << "' cannot use " << row.name << " = " << row.degree
                              << ": expects at most its query heads, " << describe(axes, layer, group)
                              << ", as ranks beyond them would have padding alone; use a smaller " << row.name
                              << ", and cp or dp for the rest";
  return success();
}

LogicalResult galvatron::checkPaddedStrategies(ModuleOp module, ArrayRef<graph::CallOp> calls) {
  Axes axes(module);
  SmallVector<int64_t> mesh = plan::getMesh(module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName));
  for (graph::CallOp call : calls) {
    auto layer = module.lookupSymbol<graph::LayerOp>(call.getCallee());
    auto strategy = call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName);
    plan::MeshAxes meshAxes = plan::dealMeshAxes({mesh.begin(), mesh.end()}, strategy.getValues());
    for (const Parallelism &row : getParallelisms(strategy, meshAxes))
      if (layer && failed(checkHeads(axes, layer, row, call.getLoc())))
        return failure();
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Placements
//===----------------------------------------------------------------------===//

PlacementAttr galvatron::getPlacementAttr(RankedTensorType type, const ValueAxes &valueAxes, const ValuePlace &place,
                                          const Axes &axes, const LayerSubAxes &subAxes) {
  ArrayRef<LayerSubAxes::MeshAxis> meshAxes = subAxes.getMeshAxes();
  SmallVector<DimSubAxes> dims;
  for (auto [dim, list] : llvm::enumerate(valueAxes)) {
    DimSubAxes &result = dims.emplace_back();
    for (auto [factor, axis] : llvm::enumerate(list)) {
      int64_t rest = axes.getAxis(axis).extent;
      for (SubAxis subAxis : subAxes.getSubAxes(axis)) {
        auto meshAxis = llvm::find_if(meshAxes, [&](const auto &meshAxis) { return meshAxis.id == subAxis.meshAxis; });
        bool mine =
            meshAxis != meshAxes.end() && place[meshAxis - meshAxes.begin()] == MeshAxisPlace::sharded(dim, factor);
        result.push_back(mine ? subAxis : SubAxis{subAxis.extent, PlacementAttr::kLocal});
        rest /= subAxis.extent;
      }
      result.push_back({rest, PlacementAttr::kLocal});
    }
  }
  SmallVector<dist::Partial> partials;
  for (auto [meshAxis, where] : llvm::zip(meshAxes, place))
    if (where.kind == MeshAxisPlace::Partial)
      partials.push_back({meshAxis.id, where.reduction});
  return PlacementAttr::getCanonical(type.getContext(), dims, partials);
}

/// Whether every result has the loop.
static bool isParallel(const OpFactors &loops, unsigned loop) {
  return llvm::all_of(loops.results, [&](const DimensionLoops &dims) {
    return llvm::any_of(dims, [&](const auto &dim) { return llvm::is_contained(dim, loop); });
  });
}

/// A routed loop may be cut on a table or its gradient, and along a vocabulary; not along experts,
/// where devices would have to look for each other's tokens.
static bool mayCutRouted(Operation *op, const OpFactors &loops, unsigned loop, const Axes &axes) {
  if (isInternal(axes, loops.loops[loop].axis))
    return true;
  auto indexes = [&](Value value, const DimensionLoops &dims) {
    return axes.isParameterLike(value) &&
           llvm::any_of(dims, [&](const auto &dim) { return llvm::is_contained(dim, loop); });
  };
  for (auto [value, dims] : llvm::zip(op->getOperands(), loops.operands))
    if (indexes(value, dims))
      return true;
  for (auto [value, dims] : llvm::zip(op->getResults(), loops.results))
    if (indexes(value, dims))
      return true;
  return false;
}

std::optional<unsigned> galvatron::chooseLoop(Operation *op, const LayerSubAxes::MeshAxis &meshAxis, const Axes &axes) {
  const OpFactors &loops = axes.getFactors(op);
  Surroundings around{axes.isMixing(op),
                      llvm::any_of(loops.loops, [&](const FactorLoop &loop) { return isInternal(axes, loop.axis); })};
  for (const Choice &choice : meshAxis.choices) {
    if (!holds(choice.when, around))
      continue;
    std::optional<unsigned> found;
    for (auto [index, loop] : llvm::enumerate(loops.loops)) {
      if (loop.axis != choice.axis || loop.kind == LoopKind::Whole)
        continue;
      if (loop.kind == LoopKind::Routed && !mayCutRouted(op, loops, index, axes))
        continue;
      if (!found || (!isParallel(loops, *found) && isParallel(loops, index)))
        found = index;
    }
    if (found)
      return found;
  }
  return std::nullopt;
}

ValuePlace galvatron::getBoundaryPlace(const ValueAxes &valueAxes, const Axes &axes, const LayerSubAxes &subAxes) {
  Surroundings around;
  around.hasInternalLoop = llvm::any_of(valueAxes, [&](const auto &dim) {
    return llvm::any_of(dim, [&](AxisId axis) { return isInternal(axes, axis); });
  });
  ValuePlace place;
  for (const LayerSubAxes::MeshAxis &meshAxis : subAxes.getMeshAxes()) {
    MeshAxisPlace &where = place.emplace_back();
    for (const Choice &choice : meshAxis.choices) {
      if (!holds(choice.when, around))
        continue;
      for (auto [dim, list] : llvm::enumerate(valueAxes)) {
        auto found = llvm::find(list, choice.axis);
        if (where.kind == MeshAxisPlace::Replicated && found != list.end())
          where = MeshAxisPlace::sharded(dim, found - list.begin());
      }
      if (where.kind != MeshAxisPlace::Replicated)
        break;
    }
  }
  return place;
}
