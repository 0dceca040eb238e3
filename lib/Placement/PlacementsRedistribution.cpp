// The redistribution planner: a shortest path over states in which each mesh axis is where it was,
// where it should be, or has nothing.
#include "galvatron/Placement/PlacementsRedistribution.h"

#include <map>
#include <queue>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;

namespace {

constexpr int64_t kLocal = PlacementAttr::kLocal, kTime = PlacementAttr::kTime;
/// Where a mesh axis is: a sub-axis's index, or one of these.
constexpr int kNowhere = -1, kPartial = -2;

/// A collective costs about as much as sending this many elements more.
constexpr double kStepCost = 256;

/// The sub-axes of a tensor, refined so that source and target are both made of them.
struct Layout {
  struct Piece {
    int64_t dim;    // of the tensor
    int64_t extent; // positions
  };
  SmallVector<Piece> pieces; // dimension after dimension, major first
  int64_t rank = 0;          // dimensions of the tensor
  /// Sums over micro-batches that are outstanding, in source and target alike.
  SmallVector<Partial> timePartials;
};

/// For each axis of the mesh where it is: the index of a piece, kNowhere or kPartial. `time` has its sub-axis
/// throughout.
using State = SmallVector<int>;

/// How to get from one placement of a tensor to another, moving one axis of the mesh at a time. A state is reached when
/// each axis is where the placement has it; a piece has at most one axis.
struct Redistribution {
  MLIRContext *context;
  ArrayRef<int64_t> mesh; // devices along each axis
  Layout layout;
  State from, to;
  SmallVector<bool> hasTime;            // of each piece, whether it is time's
  SmallVector<graph::ReduceKind> kinds; // of each axis that is partial in the source

  /// The mesh axis of each piece: an axis, kTime or kLocal.
  SmallVector<int64_t> getMeshAxes(const State &state) const;
  PlacementAttr getPlacement(const State &state) const;
  /// Elements that one device holds.
  int64_t getLocalElements(const State &state) const;
  int64_t getOuter(const SmallVector<int64_t> &meshAxes, int piece) const;
};

} // namespace

//===----------------------------------------------------------------------===//
// States
//===----------------------------------------------------------------------===//

SmallVector<int64_t> Redistribution::getMeshAxes(const State &state) const {
  SmallVector<int64_t> meshAxes(layout.pieces.size(), kLocal);
  for (size_t i = 0; i < meshAxes.size(); ++i)
    if (hasTime[i])
      meshAxes[i] = kTime;
  for (auto [axis, where] : llvm::enumerate(state))
    if (where >= 0)
      meshAxes[where] = axis;
  return meshAxes;
}

PlacementAttr Redistribution::getPlacement(const State &state) const {
  SmallVector<DimSubAxes> dims(layout.rank);
  for (auto [piece, meshAxis] : llvm::zip(layout.pieces, getMeshAxes(state)))
    dims[piece.dim].push_back({piece.extent, meshAxis});
  SmallVector<Partial> partials(layout.timePartials);
  for (auto [axis, where] : llvm::enumerate(state))
    if (where == kPartial)
      partials.push_back({int64_t(axis), kinds[axis]});
  return PlacementAttr::getCanonical(context, dims, partials);
}

int64_t Redistribution::getLocalElements(const State &state) const {
  int64_t elements = 1;
  for (auto [piece, meshAxis] : llvm::zip(layout.pieces, getMeshAxes(state)))
    if (meshAxis == kLocal)
      elements *= piece.extent;
  return elements;
}

/// Product of the local sub-axes of the piece's dimension that are more major than it.
int64_t Redistribution::getOuter(const SmallVector<int64_t> &meshAxes, int piece) const {
  int64_t outer = 1;
  for (int i = piece - 1; i >= 0 && layout.pieces[i].dim == layout.pieces[piece].dim; --i)
    if (meshAxes[i] == kLocal)
      outer *= layout.pieces[i].extent;
  return outer;
}

//===----------------------------------------------------------------------===//
// Refinement
//===----------------------------------------------------------------------===//

/// Cuts two lists of sub-axes of one dimension at each other's borders; false where they do not fit.
static bool refineDim(DimSubAxes &a, DimSubAxes &b) {
  DimSubAxes left, right;
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    int64_t x = a[i].extent, y = b[j].extent, common = std::min(x, y);
    if (std::max(x, y) % common != 0)
      return false;
    if ((x > common && a[i].meshAxis != kLocal) || (y > common && b[j].meshAxis != kLocal))
      return false; // an owned sub-axis stays in one piece
    left.push_back({common, a[i].meshAxis});
    right.push_back({common, b[j].meshAxis});
    if ((a[i].extent /= common) == 1)
      ++i;
    if ((b[j].extent /= common) == 1)
      ++j;
  }
  for (; i < a.size(); ++i)
    left.push_back(a[i]);
  for (; j < b.size(); ++j)
    right.push_back(b[j]);
  a = left;
  b = right;
  return left.size() == right.size();
}

/// `from` without mesh axes (time excepted) in the dimensions where its sub-axes do not fit `to`'s.
static PlacementAttr getCommonMiddle(PlacementAttr from, PlacementAttr to) {
  SmallVector<DimSubAxes> dims = from.getDims(), target = to.getDims();
  for (auto [dim, other] : llvm::zip(dims, target)) {
    DimSubAxes a = dim, b = other;
    if (!refineDim(a, b))
      for (SubAxis &subAxis : dim)
        subAxis.meshAxis = subAxis.meshAxis == kTime ? kTime : kLocal;
  }
  return PlacementAttr::getCanonical(from.getContext(), dims, from.getPartials());
}

static bool fillState(ArrayRef<DimSubAxes> dims, ArrayRef<Partial> partials, Redistribution &problem, State &state) {
  state.assign(problem.mesh.size(), kNowhere);
  int piece = 0;
  for (const DimSubAxes &dim : dims)
    for (SubAxis subAxis : dim) {
      if (subAxis.meshAxis >= 0 &&
          (size_t(subAxis.meshAxis) >= problem.mesh.size() || subAxis.extent != problem.mesh[subAxis.meshAxis]))
        return false;
      if (subAxis.meshAxis >= 0)
        state[subAxis.meshAxis] = piece;
      ++piece;
    }
  for (Partial partial : partials) {
    if (partial.meshAxis == kTime)
      continue;
    if (size_t(partial.meshAxis) >= problem.mesh.size())
      return false;
    state[partial.meshAxis] = kPartial;
    problem.kinds[partial.meshAxis] = partial.kind;
  }
  return true;
}

static SmallVector<Partial> getTimePartials(PlacementAttr placement) {
  SmallVector<Partial> partials = placement.getPartials();
  llvm::erase_if(partials, [](const Partial &partial) { return partial.meshAxis != kTime; });
  return partials;
}

static std::optional<Redistribution> getProblem(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  Redistribution problem{from.getContext(), mesh, {}, {}, {}, {}, {}};
  problem.kinds.assign(mesh.size(), graph::ReduceKind::Sum);
  problem.layout.rank = from.getRank();
  problem.layout.timePartials = getTimePartials(from);
  if (problem.layout.timePartials != getTimePartials(to))
    return std::nullopt;
  SmallVector<DimSubAxes> a = from.getDims(), b = to.getDims();
  for (auto [index, dims] : llvm::enumerate(llvm::zip(a, b))) {
    auto &[x, y] = dims;
    if (!refineDim(x, y))
      return std::nullopt;
    for (auto [subAxis, other] : llvm::zip(x, y)) {
      if ((subAxis.meshAxis == kTime) != (other.meshAxis == kTime))
        return std::nullopt;
      problem.layout.pieces.push_back({int64_t(index), subAxis.extent});
      problem.hasTime.push_back(subAxis.meshAxis == kTime);
    }
  }
  if (!fillState(a, from.getPartials(), problem, problem.from) || !fillState(b, to.getPartials(), problem, problem.to))
    return std::nullopt;
  return problem;
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

/// The kind of moving one axis from one place to another.
static RedistributionKind getKind(int from, int to) {
  if (from == kPartial)
    return to >= 0 ? RedistributionKind::ReduceScatter : RedistributionKind::AllReduce;
  if (from == kNowhere)
    return RedistributionKind::Shard;
  return to >= 0 ? RedistributionKind::AllToAll : RedistributionKind::AllGather;
}

static double getStepTraffic(RedistributionKind kind, int64_t localElements, int64_t groupSize) {
  double others = double(groupSize - 1), local = double(localElements);
  switch (kind) {
  case RedistributionKind::Shard:
    return 0;
  case RedistributionKind::ReduceScatter:
  case RedistributionKind::AllToAll:
    return local * others / double(groupSize);
  case RedistributionKind::AllReduce:
    return 2 * local * others / double(groupSize);
  case RedistributionKind::AllGather:
    return local * others;
  }
  llvm_unreachable("unknown kind of redistribution");
}

/// The step that moves `axes` (ascending) from `state` to where they are in `next`.
static RedistributionStep makeStep(const Redistribution &problem, const State &state, const State &next,
                                   ArrayRef<int64_t> axes) {
  int from = state[axes[0]], to = next[axes[0]];
  RedistributionStep step;
  step.kind = getKind(from, to);
  step.axes.assign(axes.begin(), axes.end());
  step.reduction = problem.kinds[axes[0]];
  step.result = problem.getPlacement(next);
  int64_t groupSize = 1;
  for (int64_t axis : axes)
    groupSize *= problem.mesh[axis];
  step.traffic = getStepTraffic(step.kind, problem.getLocalElements(state), groupSize);
  SmallVector<int64_t> before = problem.getMeshAxes(state), after = problem.getMeshAxes(next);
  if (to >= 0) {
    step.dim = problem.layout.pieces[to].dim;
    step.outer = problem.getOuter(before, to);
  }
  if (from >= 0) {
    step.joinDim = problem.layout.pieces[from].dim;
    step.joinOuter = problem.getOuter(after, from);
  }
  if (step.kind == RedistributionKind::AllGather)
    std::swap(step.dim, step.joinDim), std::swap(step.outer, step.joinOuter);
  return step;
}

/// Moves of single axes, cheapest path first (Dijkstra).
static std::optional<SmallVector<std::pair<int64_t, State>>> findPath(const Redistribution &problem) {
  struct Entry {
    double cost = 0;
    State previous;
    int64_t axis = -1;
    bool done = false;
  };
  auto less = [](const State &a, const State &b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
  };
  std::map<State, Entry, decltype(less)> seen(less);
  using Item = std::pair<double, State>;
  auto later = [&](const Item &a, const Item &b) {
    return a.first != b.first ? a.first > b.first : less(b.second, a.second);
  };
  std::priority_queue<Item, std::vector<Item>, decltype(later)> queue(later);
  seen[problem.from] = {};
  queue.push({0, problem.from});
  while (!queue.empty()) {
    auto [cost, state] = queue.top();
    queue.pop();
    Entry &entry = seen[state];
    if (std::exchange(entry.done, true))
      continue;
    if (state == problem.to)
      break;
    SmallVector<int64_t> meshAxes = problem.getMeshAxes(state);
    for (size_t axis = 0; axis < state.size(); ++axis) {
      int target = problem.to[axis];
      if (state[axis] == target)
        continue;
      for (int where : {target, kNowhere}) {
        if (where == kPartial || where == state[axis] || (where >= 0 && meshAxes[where] != kLocal))
          continue;
        State next = state;
        next[axis] = where;
        double nextCost =
            cost + kStepCost +
            getStepTraffic(getKind(state[axis], where), problem.getLocalElements(state), problem.mesh[axis]);
        auto [found, isNew] = seen.try_emplace(next);
        if (isNew || (!found->second.done && nextCost < found->second.cost)) {
          found->second = {nextCost, state, int64_t(axis)};
          queue.push({nextCost, next});
        }
        if (where == target && target == kNowhere)
          break;
      }
    }
  }
  auto found = seen.find(problem.to);
  if (found == seen.end() || !found->second.done)
    return std::nullopt;
  SmallVector<std::pair<int64_t, State>> path;
  for (State state = problem.to; state != problem.from; state = seen[state].previous)
    path.push_back({seen[state].axis, state});
  std::reverse(path.begin(), path.end());
  return path;
}

//===----------------------------------------------------------------------===//
// Fusion of neighbouring steps
//===----------------------------------------------------------------------===//

/// Whether two pieces are neighbours, `major` first, once both are held locally.
static bool areAdjacent(const Redistribution &problem, SmallVector<int64_t> meshAxes, int major, int minor) {
  if (major < 0 || minor < 0)
    return major == minor;
  if (problem.layout.pieces[major].dim != problem.layout.pieces[minor].dim || major >= minor)
    return false;
  for (int piece = major + 1; piece < minor; ++piece)
    if (meshAxes[piece] == kLocal)
      return false;
  return true;
}

/// Whether moving `next` may join the group that `last` is the most minor axis of.
static bool canFuse(const Redistribution &problem, const State &before, const State &after, int64_t last,
                    int64_t next) {
  if (last > next || getKind(before[last], after[last]) != getKind(before[next], after[next]))
    return false;
  if (before[last] == kPartial && problem.kinds[last] != problem.kinds[next])
    return false;
  SmallVector<int64_t> meshAxes = problem.getMeshAxes(before), meshAxesAfter = problem.getMeshAxes(after);
  if (after[next] >= 0 && meshAxes[after[next]] != kLocal)
    return false; // takes the sub-axis that another one of the group leaves
  return areAdjacent(problem, meshAxesAfter, before[last], before[next]) &&
         areAdjacent(problem, meshAxes, after[last], after[next]);
}

static SmallVector<RedistributionStep> fuse(const Redistribution &problem,
                                            SmallVector<std::pair<int64_t, State>> path) {
  // Runs of one kind commute unless one takes what another leaves: sort them by axis.
  State state = problem.from;
  SmallVector<RedistributionStep> steps;
  for (size_t begin = 0; begin < path.size();) {
    auto kindOf = [&](size_t i, const State &before) {
      return getKind(before[path[i].first], path[i].second[path[i].first]);
    };
    RedistributionKind kind = kindOf(begin, state);
    size_t end = begin + 1;
    while (end < path.size() && kindOf(end, path[end - 1].second) == kind)
      ++end;
    SmallVector<std::pair<int64_t, int>> moves;
    for (size_t i = begin; i < end; ++i)
      moves.push_back({path[i].first, path[i].second[path[i].first]});
    SmallVector<int64_t> meshAxes = problem.getMeshAxes(state);
    if (llvm::all_of(moves, [&](auto &move) { return move.second < 0 || meshAxes[move.second] == kLocal; }))
      llvm::sort(moves);
    for (size_t i = 0; i < moves.size();) {
      SmallVector<int64_t> axes{moves[i].first};
      State next = state;
      next[moves[i].first] = moves[i].second;
      for (++i; i < moves.size(); ++i) {
        State grown = next;
        grown[moves[i].first] = moves[i].second;
        if (!canFuse(problem, state, grown, axes.back(), moves[i].first))
          break;
        axes.push_back(moves[i].first);
        next = grown;
      }
      steps.push_back(makeStep(problem, state, next, axes));
      state = next;
    }
    begin = end;
  }
  return steps;
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

std::optional<SmallVector<RedistributionStep>> galvatron::planRedistribution(PlacementAttr from, PlacementAttr to,
                                                                             ArrayRef<int64_t> mesh) {
  if (from == to)
    return SmallVector<RedistributionStep>();
  PlacementAttr middle = getCommonMiddle(from, to);
  SmallVector<RedistributionStep> steps;
  for (auto [a, b] : {std::pair(from, middle), std::pair(middle, to)}) {
    if (a == b)
      continue;
    std::optional<Redistribution> problem = getProblem(a, b, mesh);
    if (!problem)
      return std::nullopt;
    auto path = findPath(*problem);
    if (!path)
      return std::nullopt;
    steps.append(fuse(*problem, *path));
  }
  return steps;
}

double galvatron::getTraffic(ArrayRef<RedistributionStep> steps) {
  double traffic = 0;
  for (const RedistributionStep &step : steps)
    traffic += step.traffic + (step.kind == RedistributionKind::Shard ? 1 : kStepCost);
  return traffic;
}

Value galvatron::buildStep(OpBuilder &builder, Location loc, Value value, const RedistributionStep &step) {
  Type type = withPlacement(value.getType(), step.result);
  auto axes = builder.getDenseI64ArrayAttr(step.axes);
  auto number = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
  auto kind = graph::ReduceKindAttr::get(builder.getContext(), step.reduction);
  auto dim = number(step.dim), outer = number(step.outer);
  switch (step.kind) {
  case RedistributionKind::Shard:
    return ShardOp::create(builder, loc, type, value, axes, dim, outer);
  case RedistributionKind::ReduceScatter:
    return ReduceScatterOp::create(builder, loc, type, value, axes, dim, outer, kind);
  case RedistributionKind::AllToAll:
    return AllToAllOp::create(builder, loc, type, value, axes, dim, outer, number(step.joinDim),
                              number(step.joinOuter));
  case RedistributionKind::AllReduce:
    return AllReduceOp::create(builder, loc, type, value, axes, kind);
  case RedistributionKind::AllGather:
    return AllGatherOp::create(builder, loc, type, value, axes, dim, outer);
  }
  llvm_unreachable("unknown kind of redistribution");
}

static LogicalResult expand(RedistributeOp op, ArrayRef<int64_t> mesh) {
  PlacementAttr from = getPlacement(op.getX().getType()), to = getPlacement(op.getResult().getType());
  auto steps = planRedistribution(from, to, mesh);
  if (!steps)
    return op.emitOpError("expects a target that collectives can reach, but got ") << from << " to " << to;
  OpBuilder builder(op);
  Value value = op.getX();
  for (const RedistributionStep &step : *steps)
    value = buildStep(builder, op.getLoc(), value, step);
  op.getResult().replaceAllUsesWith(value);
  op.erase();
  return success();
}

FailureOr<unsigned> galvatron::insertCollectives(Operation *root, ArrayRef<int64_t> mesh) {
  SmallVector<RedistributeOp> ops;
  root->walk([&](RedistributeOp op) { ops.push_back(op); });
  for (RedistributeOp op : ops)
    if (failed(expand(op, mesh)))
      return failure();
  return unsigned(ops.size());
}
