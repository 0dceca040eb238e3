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
struct Refinement {
  struct Piece {
    int64_t dim;    // of the tensor
    int64_t extent; // elements of the dimension
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
  Refinement refinement;
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
  SmallVector<int64_t> meshAxes(refinement.pieces.size(), kLocal);
  for (size_t i = 0; i < meshAxes.size(); ++i)
    if (hasTime[i])
      meshAxes[i] = kTime;
  for (auto [axis, where] : llvm::enumerate(state))
    if (where >= 0)
      meshAxes[where] = axis;
  return meshAxes;
}

PlacementAttr Redistribution::getPlacement(const State &state) const {
  SmallVector<DimSubAxes> dims(refinement.rank);
  for (auto [piece, meshAxis] : llvm::zip(refinement.pieces, getMeshAxes(state)))
    dims[piece.dim].push_back({piece.extent, meshAxis});
  SmallVector<Partial> partials(refinement.timePartials);
  for (auto [axis, where] : llvm::enumerate(state))
    if (where == kPartial)
      partials.push_back({int64_t(axis), kinds[axis]});
  return PlacementAttr::getCanonical(context, dims, partials);
}

int64_t Redistribution::getLocalElements(const State &state) const {
  int64_t elements = 1;
  for (auto [piece, meshAxis] : llvm::zip(refinement.pieces, getMeshAxes(state)))
    if (meshAxis == kLocal)
      elements *= piece.extent;
  return elements;
}

/// Product of the local sub-axes of the piece's dimension that are more major than it.
int64_t Redistribution::getOuter(const SmallVector<int64_t> &meshAxes, int piece) const {
  int64_t outer = 1;
  for (int i = piece - 1; i >= 0 && refinement.pieces[i].dim == refinement.pieces[piece].dim; --i)
    if (meshAxes[i] == kLocal)
      outer *= refinement.pieces[i].extent;
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
      return false; // what a mesh axis has stays in one piece
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

/// Axes that are in one place here and there stay there. Up to so many others may go anywhere on their way; up to so
/// many move in groups and permute. Beyond, there would be too many states.
constexpr size_t kMostFree = 3, kMostGrouped = 6;

/// Cuts the largest sub-axis that is local here and there, so that each of a few axes of these sizes finds a part of
/// it: who has part of a value while others reduce or exchange it makes that smaller.
static void makeRoom(ArrayRef<int64_t> sizes, SmallVector<DimSubAxes> &a, SmallVector<DimSubAxes> &b) {
  size_t dim = 0, index = 0;
  int64_t largest = 1;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = 0; j < a[i].size(); ++j)
      if (a[i][j].meshAxis == kLocal && b[i][j].meshAxis == kLocal && a[i][j].extent > largest)
        largest = a[i][j].extent, dim = i, index = j;
  if (largest == 1 || sizes.size() < 2 || sizes.size() > kMostFree)
    return;
  DimSubAxes parts;
  for (int64_t size : sizes)
    if (largest % size == 0 && largest > size) {
      parts.push_back({size, kLocal});
      largest /= size;
    }
  parts.push_back({largest, kLocal});
  for (DimSubAxes *subAxes : {&a[dim], &b[dim]}) {
    subAxes->erase(subAxes->begin() + index);
    subAxes->insert(subAxes->begin() + index, parts.begin(), parts.end());
  }
}

/// Sizes of the mesh's axes that are not in one place in both.
static SmallVector<int64_t> getMovingSizes(const Redistribution &problem) {
  SmallVector<int64_t> sizes;
  for (auto [from, to, size] : llvm::zip(problem.from, problem.to, problem.mesh))
    if (from != to)
      sizes.push_back(size);
  return sizes;
}

static std::optional<Redistribution> getProblem(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  Redistribution problem{from.getContext(), mesh, {}, {}, {}, {}, {}};
  problem.kinds.assign(mesh.size(), graph::ReduceKind::Sum);
  problem.refinement.rank = from.getRank();
  problem.refinement.timePartials = getTimePartials(from);
  if (problem.refinement.timePartials != getTimePartials(to))
    return std::nullopt;
  SmallVector<DimSubAxes> a = from.getDims(), b = to.getDims();
  for (auto [x, y] : llvm::zip(a, b)) {
    if (!refineDim(x, y))
      return std::nullopt;
    for (auto [subAxis, other] : llvm::zip(x, y))
      if ((subAxis.meshAxis == kTime) != (other.meshAxis == kTime))
        return std::nullopt;
  }
  auto fill = [&] {
    return fillState(a, from.getPartials(), problem, problem.from) &&
           fillState(b, to.getPartials(), problem, problem.to);
  };
  if (!fill())
    return std::nullopt;
  makeRoom(getMovingSizes(problem), a, b);
  fill();
  for (auto [index, dim] : llvm::enumerate(a))
    for (SubAxis subAxis : dim) {
      problem.refinement.pieces.push_back({int64_t(index), subAxis.extent});
      problem.hasTime.push_back(subAxis.meshAxis == kTime);
    }
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

double galvatron::getStepTraffic(RedistributionKind kind, int64_t localElements, int64_t groupSize) {
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
  case RedistributionKind::Permute:
    break; // depends on who keeps what it has
  }
  llvm_unreachable("unknown kind of redistribution");
}

/// Whether two pieces are neighbours, `major` first, once both are held locally.
static bool areAdjacent(const Redistribution &problem, SmallVector<int64_t> meshAxes, int major, int minor) {
  if (major < 0 || minor < 0)
    return major == minor;
  if (problem.refinement.pieces[major].dim != problem.refinement.pieces[minor].dim || major >= minor)
    return false;
  for (int piece = major + 1; piece < minor; ++piece)
    if (meshAxes[piece] == kLocal)
      return false;
  return true;
}

/// Whether moving `next` may join the group that `last` is the most minor axis of.
static bool canJoin(const Redistribution &problem, const State &before, const State &after, int64_t last,
                    int64_t next) {
  if (getKind(before[last], after[last]) != getKind(before[next], after[next]))
    return false;
  if (before[last] == kPartial && problem.kinds[last] != problem.kinds[next])
    return false;
  SmallVector<int64_t> meshAxes = problem.getMeshAxes(before), meshAxesAfter = problem.getMeshAxes(after);
  return areAdjacent(problem, meshAxesAfter, before[last], before[next]) &&
         areAdjacent(problem, meshAxes, after[last], after[next]);
}

static int64_t getGroupSize(const Redistribution &problem, ArrayRef<int64_t> axes) {
  int64_t size = 1;
  for (int64_t axis : axes)
    size *= problem.mesh[axis];
  return size;
}

//===----------------------------------------------------------------------===//
// Permutes
//===----------------------------------------------------------------------===//

/// For each of `axes`, which of them has in `next` what it has in `state`. Chains that begin with an axis that had
/// nothing and end with one that will have nothing close to cycles, so that every device's value goes to one device.
/// `axes` only hand each other their sub-axes.
static SmallVector<int64_t> getSuccessors(const State &state, const State &next, ArrayRef<int64_t> axes) {
  auto holderIn = [&](const State &holders, int piece) {
    return llvm::find_if(axes, [&](int64_t axis) { return holders[axis] == piece; }) - axes.begin();
  };
  SmallVector<int64_t> successors;
  for (auto [index, axis] : llvm::enumerate(axes)) {
    int64_t successor = index;
    if (state[axis] >= 0)
      successor = holderIn(next, state[axis]);
    else
      while (next[axes[successor]] >= 0)
        successor = holderIn(state, next[axes[successor]]);
    successors.push_back(successor);
  }
  return successors;
}

/// For each position of a group along `axes`, the position of the device whose value it gets.
static SmallVector<int64_t> getSources(const Redistribution &problem, const State &state, const State &next,
                                       ArrayRef<int64_t> axes) {
  SmallVector<int64_t> successors = getSuccessors(state, next, axes), sources;
  for (int64_t position = 0; position < getGroupSize(problem, axes); ++position) {
    SmallVector<int64_t> at(axes.size());
    int64_t rest = position, source = 0;
    for (int64_t index = axes.size() - 1; index >= 0; --index) {
      at[index] = rest % problem.mesh[axes[index]];
      rest /= problem.mesh[axes[index]];
    }
    for (auto [axis, successor] : llvm::zip(axes, successors))
      source = source * problem.mesh[axis] + at[successor];
    sources.push_back(source);
  }
  return sources;
}

//===----------------------------------------------------------------------===//
// Search
//===----------------------------------------------------------------------===//

namespace {

/// One collective: `axes` (ascending) get from where they are to where they are in `next`.
struct Move {
  RedistributionKind kind;
  SmallVector<int64_t> axes;
  State next;
  double traffic;
};

/// The moves that lead on from a state.
class Moves {
public:
  Moves(const Redistribution &problem, const State &state);
  SmallVector<Move> all;

private:
  SmallVector<int> getDestinations(int64_t axis);
  void addGroups(State &next, SmallVector<int64_t> &axes);
  void addPermutes(State &next, ArrayRef<int64_t> holders);

  const Redistribution &problem;
  const State &state;
  SmallVector<int64_t> meshAxes; // of the pieces, in `state`
  SmallVector<int64_t> moving;   // axes that may move
  bool isFree;                   // anywhere; else only to where they belong, or nowhere
};

} // namespace

Moves::Moves(const Redistribution &problem, const State &state)
    : problem(problem), state(state), meshAxes(problem.getMeshAxes(state)) {
  SmallVector<int64_t> unsettled;
  for (size_t axis = 0; axis < state.size(); ++axis) {
    if (problem.from[axis] != problem.to[axis])
      moving.push_back(axis);
    if (state[axis] != problem.to[axis])
      unsettled.push_back(axis);
  }
  isFree = moving.size() <= kMostFree;
  if (!isFree)
    moving = unsettled;
  for (int64_t axis : moving)
    for (int where : getDestinations(axis)) {
      State next = state;
      next[axis] = where;
      SmallVector<int64_t> axes{axis};
      addGroups(next, axes);
    }
  if (moving.size() > kMostGrouped)
    return;
  State next = state;
  SmallVector<int64_t> holders;
  for (int64_t axis : moving)
    if (state[axis] >= 0) {
      holders.push_back(axis);
      next[axis] = kNowhere;
    }
  addPermutes(next, holders);
}

SmallVector<int> Moves::getDestinations(int64_t axis) {
  SmallVector<int> destinations;
  auto add = [&](int where) {
    bool isTaken =
        where >= 0 && (meshAxes[where] != kLocal || problem.refinement.pieces[where].extent != problem.mesh[axis]);
    if (where != kPartial && where != state[axis] && !isTaken && !llvm::is_contained(destinations, where))
      destinations.push_back(where);
  };
  add(problem.to[axis]);
  add(kNowhere);
  for (size_t piece = 0; piece < meshAxes.size() && isFree; ++piece)
    add(piece);
  return destinations;
}

void Moves::addGroups(State &next, SmallVector<int64_t> &axes) {
  RedistributionKind kind = getKind(state[axes[0]], next[axes[0]]);
  all.push_back({kind, axes, next, getStepTraffic(kind, problem.getLocalElements(state), getGroupSize(problem, axes))});
  if (moving.size() > kMostGrouped)
    return;
  for (int64_t axis : moving) {
    if (axis <= axes.back())
      continue;
    for (int where : getDestinations(axis)) {
      next[axis] = where;
      bool isTaken = where >= 0 && llvm::any_of(axes, [&](int64_t other) { return next[other] == where; });
      if (!isTaken && canJoin(problem, state, next, axes.back(), axis)) {
        axes.push_back(axis);
        addGroups(next, axes);
        axes.pop_back();
      }
    }
    next[axis] = state[axis];
  }
}

/// Deals what `holders` have to axes that `next` has nothing for.
void Moves::addPermutes(State &next, ArrayRef<int64_t> holders) {
  if (holders.empty()) {
    SmallVector<int64_t> axes;
    llvm::copy_if(moving, std::back_inserter(axes), [&](int64_t axis) { return state[axis] != next[axis]; });
    if (axes.empty())
      return;
    SmallVector<int64_t> sources = getSources(problem, state, next, axes);
    auto kept =
        llvm::count_if(llvm::enumerate(sources), [](auto each) { return int64_t(each.index()) == each.value(); });
    double traffic = double(problem.getLocalElements(state)) * double(sources.size() - kept) / double(sources.size());
    all.push_back({RedistributionKind::Permute, axes, next, traffic});
    return;
  }
  int64_t holder = holders.front();
  for (int64_t axis : moving) {
    int piece = state[holder];
    bool mayHave = isFree || axis == holder || problem.to[axis] == piece;
    if (next[axis] != kNowhere || problem.mesh[axis] != problem.mesh[holder] || !mayHave)
      continue;
    next[axis] = piece;
    addPermutes(next, holders.drop_front());
    next[axis] = kNowhere;
  }
}

static RedistributionStep makeStep(const Redistribution &problem, const State &state, const Move &move) {
  int from = state[move.axes[0]], to = move.next[move.axes[0]];
  RedistributionStep step;
  step.kind = move.kind;
  step.axes = move.axes;
  step.reduction = problem.kinds[move.axes[0]];
  step.result = problem.getPlacement(move.next);
  step.traffic = move.traffic;
  if (move.kind == RedistributionKind::Permute) {
    step.sources = getSources(problem, state, move.next, move.axes);
    return step;
  }
  SmallVector<int64_t> before = problem.getMeshAxes(state), after = problem.getMeshAxes(move.next);
  if (to >= 0) {
    step.dim = problem.refinement.pieces[to].dim;
    step.outer = problem.getOuter(before, to);
  }
  if (from >= 0) {
    step.joinDim = problem.refinement.pieces[from].dim;
    step.joinOuter = problem.getOuter(after, from);
  }
  if (step.kind == RedistributionKind::AllGather)
    std::swap(step.dim, step.joinDim), std::swap(step.outer, step.joinOuter);
  return step;
}

/// The cheapest way (Dijkstra); none where there is none.
static std::optional<SmallVector<Move>> findMoves(const Redistribution &problem) {
  struct Entry {
    double cost = 0;
    State previous;
    Move move;
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
  // One collective never moves more than several of the same axes.
  for (const Move &move : Moves(problem, problem.from).all)
    if (move.next == problem.to)
      return SmallVector<Move>{move};
  seen[problem.from] = {};
  queue.push({0, problem.from});
  while (!queue.empty()) {
    auto [cost, state] = queue.top();
    queue.pop();
    if (std::exchange(seen[state].done, true))
      continue;
    if (state == problem.to)
      break;
    for (Move &move : Moves(problem, state).all) {
      double nextCost = cost + kStepCost + move.traffic;
      auto [found, isNew] = seen.try_emplace(move.next);
      if (isNew || (!found->second.done && nextCost < found->second.cost)) {
        found->second = {nextCost, state, move, false};
        queue.push({nextCost, move.next});
      }
    }
  }
  auto found = seen.find(problem.to);
  if (found == seen.end() || !found->second.done)
    return std::nullopt;
  SmallVector<Move> moves;
  for (State state = problem.to; state != problem.from; state = seen[state].previous)
    moves.push_back(seen[state].move);
  std::reverse(moves.begin(), moves.end());
  return moves;
}

/// All that `findMoves` reads of a problem.
static std::vector<int64_t> getKey(const Redistribution &problem) {
  std::vector<int64_t> key;
  auto add = [&](const auto &numbers) {
    key.push_back(numbers.size());
    for (auto number : numbers)
      key.push_back(int64_t(number));
  };
  add(problem.mesh);
  add(problem.from);
  add(problem.to);
  add(problem.kinds);
  add(problem.hasTime);
  for (const Refinement::Piece &piece : problem.refinement.pieces)
    key.insert(key.end(), {piece.dim, piece.extent});
  return key;
}

/// The search places layers under hundreds of strategies, between which few problems are new.
static std::optional<SmallVector<RedistributionStep>> findSteps(const Redistribution &problem) {
  thread_local std::map<std::vector<int64_t>, std::optional<SmallVector<Move>>> known;
  auto [found, isNew] = known.try_emplace(getKey(problem));
  if (isNew)
    found->second = findMoves(problem);
  if (!found->second)
    return std::nullopt;
  SmallVector<RedistributionStep> steps;
  State state = problem.from;
  for (const Move &move : *found->second) {
    steps.push_back(makeStep(problem, state, move));
    state = move.next;
  }
  return steps;
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

std::optional<SmallVector<RedistributionStep>> galvatron::planUnmirrored(PlacementAttr from, PlacementAttr to,
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
    auto path = findSteps(*problem);
    if (!path)
      return std::nullopt;
    steps.append(*path);
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
  auto mirrored = step.mirrored ? builder.getUnitAttr() : UnitAttr();
  switch (step.kind) {
  case RedistributionKind::Shard:
    return ShardOp::create(builder, loc, type, value, axes, dim, outer, mirrored, /*sources=*/DenseI64ArrayAttr());
  case RedistributionKind::ReduceScatter:
    return ReduceScatterOp::create(builder, loc, type, value, axes, dim, outer, mirrored, kind);
  case RedistributionKind::AllToAll:
    return AllToAllOp::create(builder, loc, type, value, axes, dim, outer, number(step.joinDim),
                              number(step.joinOuter));
  case RedistributionKind::AllReduce:
    return AllReduceOp::create(builder, loc, type, value, axes, kind);
  case RedistributionKind::AllGather:
    return AllGatherOp::create(builder, loc, type, value, axes, dim, outer, mirrored);
  case RedistributionKind::Permute:
    return PermuteOp::create(builder, loc, type, value, axes, step.sources);
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
