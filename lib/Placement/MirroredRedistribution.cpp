// Redistribution where sub-axes are mirrored. What is mirrored alike before and after stays where it is, and the
// planner need not know of it: under another numbering of the positions nothing is mirrored, and the same collectives
// do. What is mirrored on one side only is gathered, in positions' natural order, or cut, before or after all else,
// whichever moves less. What is mirrored differently on both is gathered and cut anew: every device sees the whole
// dimension in between, which is more than an exchange would move, but right whatever the placements are.
#include "galvatron/Placement/PlacementsRedistribution.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;

using Steps = SmallVector<RedistributionStep>;

/// `placement` with the sub-axes of `axes` mirrored; null where one of them has none that may be.
static PlacementAttr withMirrors(PlacementAttr placement, ArrayRef<int64_t> axes) {
  SmallVector<DimSubAxes> dims = placement.getDims();
  for (DimSubAxes &dim : dims) {
    int64_t before = 1;
    for (SubAxis &subAxis : dim) {
      subAxis.mirrored = llvm::is_contained(axes, subAxis.meshAxis);
      if (subAxis.mirrored && before % 2 != 0)
        return {};
      if (!subAxis.mirrored)
        before = subAxis.meshAxis == PlacementAttr::kLocal ? subAxis.extent : 1;
    }
  }
  return PlacementAttr::getCanonical(placement.getContext(), dims, placement.getPartials());
}

static bool haveEqualMirrors(PlacementAttr a, PlacementAttr b) {
  return a && b && a.getMirroredAxes() == b.getMirroredAxes() &&
         llvm::all_of(a.getMirroredAxes(), [&](int64_t axis) { return a.getMirror(axis) == b.getMirror(axis); });
}

/// The steps where both placements have the same mirrored sub-axes, and so does everything between them.
static std::optional<Steps> planAround(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  std::optional<Steps> steps = planUnmirrored(from.withoutMirrors(), to.withoutMirrors(), mesh);
  if (!steps)
    return std::nullopt;
  for (RedistributionStep &step : *steps) {
    step.result = withMirrors(step.result, from.getMirroredAxes());
    if (!haveEqualMirrors(step.result, from))
      return std::nullopt;
  }
  return steps;
}

namespace {

/// A placement, and the same without the most minor of its mirrored mesh axes, which one collective can take from it or
/// give to it.
struct Peeled {
  PlacementAttr whole, rest;
  SmallVector<int64_t> axes; // ascending
  int64_t dim = 0, outer = 1;
};

} // namespace

/// `reductions`: of each mesh axis, what is left partial of it in the rest.
static Peeled peel(PlacementAttr placement, ArrayRef<std::optional<graph::ReduceKind>> reductions) {
  Peeled peeled{placement, {}, {}, 0, 1};
  SmallVector<DimSubAxes> dims = placement.getDims();
  for (auto [index, dim] : llvm::enumerate(dims)) {
    auto isMirrored = [](const SubAxis &subAxis) { return subAxis.mirrored; };
    size_t end = dim.size() - (llvm::find_if(llvm::reverse(dim), isMirrored) - dim.rbegin()), first = end;
    for (; first > 0 && dim[first - 1].mirrored; --first)
      if (first < end && dim[first - 1].meshAxis > dim[first].meshAxis)
        break;
    if (first == end)
      continue;
    peeled.dim = index;
    for (SubAxis &subAxis : MutableArrayRef(dim).slice(first, end - first)) {
      peeled.axes.push_back(subAxis.meshAxis);
      subAxis = {subAxis.extent, PlacementAttr::kLocal};
    }
    for (const SubAxis &subAxis : ArrayRef(dim).take_front(first))
      peeled.outer *= subAxis.meshAxis == PlacementAttr::kLocal ? subAxis.extent : 1;
    break;
  }
  SmallVector<Partial> partials = placement.getPartials();
  for (int64_t axis : peeled.axes)
    if (reductions[axis])
      partials.push_back({axis, *reductions[axis]});
  peeled.rest = PlacementAttr::getCanonical(placement.getContext(), dims, partials);
  return peeled;
}

/// The collective that leads from one side of `peeled` to the other.
static RedistributionStep makeStep(const Peeled &peeled, RedistributionKind kind, ArrayRef<int64_t> mesh,
                                   graph::ReduceKind reduction = graph::ReduceKind(0)) {
  RedistributionStep step;
  step.kind = kind;
  step.axes = peeled.axes;
  step.dim = peeled.dim;
  step.outer = peeled.outer;
  step.mirrored = true;
  step.reduction = reduction;
  bool gathers = kind == RedistributionKind::AllGather;
  step.result = gathers ? peeled.rest : peeled.whole;
  int64_t group = 1, elements = 1;
  for (int64_t axis : peeled.axes)
    group *= mesh[axis];
  for (int64_t extent : (gathers ? peeled.whole : peeled.rest).getLocalShape())
    elements *= extent;
  step.traffic = getStepTraffic(kind, elements, group);
  return step;
}

static Steps gatherMirrored(PlacementAttr from, ArrayRef<int64_t> mesh) {
  Steps steps;
  SmallVector<std::optional<graph::ReduceKind>> none(mesh.size());
  for (; from.isMirrored(); from = steps.back().result)
    steps.push_back(makeStep(peel(from, none), RedistributionKind::AllGather, mesh));
  return steps;
}

/// `plain`, whose dimensions are local wherever `mirrored` has mirrored sub-axes, with these sub-axes. Null where it
/// has the mesh axes elsewhere, or cuts such a dimension.
static PlacementAttr graft(PlacementAttr plain, PlacementAttr mirrored) {
  SmallVector<DimSubAxes> dims = plain.getDims(), source = mirrored.getDims();
  for (auto [dim, other] : llvm::zip(dims, source)) {
    if (llvm::none_of(other, [](SubAxis subAxis) { return subAxis.mirrored; }))
      continue;
    if (llvm::any_of(dim, [](SubAxis subAxis) { return subAxis.meshAxis != PlacementAttr::kLocal; }))
      return {};
    dim = other;
    for (SubAxis &subAxis : dim)
      if (!subAxis.mirrored && subAxis.meshAxis != PlacementAttr::kTime)
        subAxis.meshAxis = PlacementAttr::kLocal;
  }
  SmallVector<Partial> partials = plain.getPartials();
  llvm::erase_if(partials,
                 [&](Partial partial) { return llvm::is_contained(mirrored.getMirroredAxes(), partial.meshAxis); });
  if (llvm::any_of(mirrored.getMirroredAxes(),
                   [&](int64_t axis) { return llvm::is_contained(plain.getMeshAxes(), axis); }))
    return {};
  PlacementAttr grafted = PlacementAttr::getCanonical(plain.getContext(), dims, partials);
  return haveEqualMirrors(grafted, mirrored) ? grafted : PlacementAttr();
}

/// All else first, then the gather of what is mirrored in `from`.
static std::optional<Steps> planThenGather(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  PlacementAttr middle = graft(to, from);
  if (!middle || middle.getPartialAxes() != to.getPartialAxes())
    return std::nullopt;
  std::optional<Steps> steps = planAround(from, middle, mesh);
  if (steps)
    steps->append(gatherMirrored(middle, mesh));
  return steps;
}

static std::optional<Steps> planThroughWhole(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh);

/// What is mirrored in `to` is cut first, then all else.
static std::optional<Steps> cutThenPlan(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  PlacementAttr middle = graft(from, to);
  if (!middle)
    return std::nullopt;
  std::optional<Steps> cuts = planThroughWhole(from, middle, mesh), steps = planAround(middle, to, mesh);
  if (!cuts || !steps)
    return std::nullopt;
  cuts->append(*steps);
  return cuts;
}

/// Gathers what is mirrored, goes on without, and cuts again.
static std::optional<Steps> planThroughWhole(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  SmallVector<std::optional<graph::ReduceKind>> none(mesh.size()), reductions(mesh.size());
  Steps steps = gatherMirrored(from, mesh);
  if (!steps.empty())
    from = steps.back().result;
  for (Partial partial : from.getPartials())
    if (partial.meshAxis >= 0)
      reductions[partial.meshAxis] = partial.kind;
  SmallVector<Peeled> cuts;
  while (to.isMirrored()) {
    Peeled &cut = cuts.emplace_back(peel(to, reductions));
    // One collective cuts what is to be reduced first, or what is not.
    if (llvm::any_of(cut.axes, [&](int64_t axis) { return reductions[axis] != reductions[cut.axes[0]]; }))
      cut = peel(to, none);
    to = cut.rest;
  }
  std::optional<Steps> middle = planUnmirrored(from, to, mesh);
  if (!middle)
    return std::nullopt;
  steps.append(*middle);
  for (const Peeled &cut : llvm::reverse(cuts)) {
    int64_t axis = cut.axes[0];
    bool isPartial = llvm::is_contained(cut.rest.getPartialAxes(), axis);
    steps.push_back(isPartial ? makeStep(cut, RedistributionKind::ReduceScatter, mesh, *reductions[axis])
                              : makeStep(cut, RedistributionKind::Shard, mesh));
  }
  return steps;
}

std::optional<Steps> galvatron::planRedistribution(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  if (from == to)
    return Steps();
  if (!from.isMirrored() && !to.isMirrored())
    return planUnmirrored(from, to, mesh);
  if (haveEqualMirrors(from, to))
    if (std::optional<Steps> steps = planAround(from, to, mesh))
      return steps;
  std::optional<Steps> best = planThroughWhole(from, to, mesh);
  auto consider = [&](std::optional<Steps> other) {
    if (other && (!best || getTraffic(*other) <= getTraffic(*best)))
      best = other;
  };
  if (!to.isMirrored())
    consider(planThenGather(from, to, mesh));
  if (!from.isMirrored())
    consider(cutThenPlan(from, to, mesh));
  return best;
}
