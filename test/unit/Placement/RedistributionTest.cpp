// Every pair of placements of small tensors over meshes of 2x2x2 and 3x2x2, run on all devices: the steps of the
// planner are applied as their ops define them, and what each device ends up with is compared with what the target
// placement says it should hold. And none moves more than the best of all ways that the collectives leave.
#include "galvatron/Placement/PlacementsRedistribution.h"
#include "lib/Transforms/Shard/VerifyPlacements.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"

#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <set>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;

namespace {

/// Axis sizes of a mesh, major to minor.
struct Mesh {
  SmallVector<int64_t> sizes;

  int getNumDevices() const { return std::accumulate(sizes.begin(), sizes.end(), 1, std::multiplies<int>()); }
  SmallVector<int64_t> getCoordinates(int64_t device) const {
    SmallVector<int64_t> coordinates(sizes.size());
    for (int64_t axis = sizes.size() - 1; axis >= 0; --axis) {
      coordinates[axis] = device % sizes[axis];
      device /= sizes[axis];
    }
    return coordinates;
  }
  int getDevice(ArrayRef<int64_t> coordinates) const {
    int device = 0;
    for (auto [size, coordinate] : llvm::zip(sizes, coordinates))
      device = device * size + coordinate;
    return device;
  }
};

/// A tensor's sub-axes, dimension by dimension, each of which a mesh axis of its size may have, and a mesh.
struct Case {
  SmallVector<int64_t> mesh;
  std::vector<SmallVector<int64_t>> dims;
  bool mirrors = false; // also what a mirrored sub-axis may be
};

struct Local {
  SmallVector<int64_t> shape;
  std::vector<double> data;
};
using Machine = std::vector<Local>;

//===----------------------------------------------------------------------===//
// What a placement means
//===----------------------------------------------------------------------===//

/// Row-major global position of a local element.
int64_t globalPosition(PlacementAttr placement, const Mesh &mesh, int device, int64_t local) {
  SmallVector<int64_t> shape = placement.getLocalShape(), global = placement.getGlobalShape();
  SmallVector<int64_t> index(shape.size());
  for (int64_t dim = shape.size() - 1; dim >= 0; --dim) {
    index[dim] = local % shape[dim];
    local /= shape[dim];
  }
  int64_t position = 0;
  for (auto [dim, subAxes] : llvm::enumerate(placement.getDims())) {
    int64_t rest = shape[dim], within = 0, last = 0; // last: index of a sub-axis that is not mirrored
    for (SubAxis subAxis : subAxes) {
      int64_t value = 0;
      if (subAxis.meshAxis == PlacementAttr::kLocal) {
        rest /= subAxis.extent;
        value = index[dim] / rest % subAxis.extent;
      } else {
        value = mesh.getCoordinates(device)[subAxis.meshAxis];
      }
      if (subAxis.mirrored && last % 2)
        value = subAxis.extent - 1 - value;
      if (!subAxis.mirrored)
        last = value;
      within = within * subAxis.extent + value;
    }
    position = position * global[dim] + within;
  }
  return position;
}

double element(int64_t position) { return double(position * position + 3 * position + 1); }

/// A device's share of an element: pseudo-random, but summing up to the element over partial axes.
double share(PlacementAttr placement, const Mesh &mesh, int device, int64_t position) {
  unsigned coordinates = 0, count = 1;
  for (int64_t axis : placement.getPartialAxes()) {
    coordinates = mesh.sizes[axis] * coordinates + mesh.getCoordinates(device)[axis];
    count *= mesh.sizes[axis];
  }
  auto noise = [&](unsigned at) { return double((position * 7 + at * 13) % 31); };
  if (coordinates != 0)
    return noise(coordinates);
  double rest = element(position);
  for (unsigned other = 1; other < count; ++other)
    rest -= noise(other);
  return rest;
}

Machine hold(PlacementAttr placement, const Mesh &mesh) {
  Machine machine(mesh.getNumDevices());
  for (auto [device, local] : llvm::enumerate(machine)) {
    local.shape = placement.getLocalShape();
    int64_t size = 1;
    for (int64_t extent : local.shape)
      size *= extent;
    for (int64_t i = 0; i < size; ++i)
      local.data.push_back(share(placement, mesh, device, globalPosition(placement, mesh, device, i)));
  }
  return machine;
}

//===----------------------------------------------------------------------===//
// What a step does
//===----------------------------------------------------------------------===//

/// Devices that differ from this one only in the axes, in the order of the group.
SmallVector<int> getGroup(const Mesh &mesh, int device, ArrayRef<int64_t> axes, size_t &position) {
  SmallVector<int> group;
  int64_t size = 1;
  for (int64_t axis : axes)
    size *= mesh.sizes[axis];
  SmallVector<int64_t> at = mesh.getCoordinates(device);
  for (int64_t member = 0; member < size; ++member) {
    int64_t rest = member;
    for (int64_t axis : llvm::reverse(axes)) {
      at[axis] = rest % mesh.sizes[axis];
      rest /= mesh.sizes[axis];
    }
    if (mesh.getDevice(at) == device)
      position = group.size();
    group.push_back(mesh.getDevice(at));
  }
  return group;
}

/// Piece `index` of `count` along `dim`, cut at [outer][count][inner].
Local cut(const Local &whole, int64_t dim, int64_t outer, int64_t count, int64_t index, bool mirrored = false) {
  Local piece{whole.shape, {}};
  piece.shape[dim] /= count;
  int64_t inner = piece.shape[dim] / outer, before = 1, after = 1;
  for (int64_t i = 0; i < dim; ++i)
    before *= whole.shape[i];
  for (size_t i = dim + 1; i < whole.shape.size(); ++i)
    after *= whole.shape[i];
  for (int64_t b = 0; b < before * outer; ++b)
    for (int64_t i = 0, at = mirrored && b % 2 ? count - 1 - index : index; i < inner * after; ++i)
      piece.data.push_back(whole.data[(b * count + at) * inner * after + i]);
  return piece;
}

/// The inverse of `cut`.
Local join(ArrayRef<Local> pieces, int64_t dim, int64_t outer, bool mirrored = false) {
  Local whole{pieces[0].shape, {}};
  int64_t inner = whole.shape[dim] / outer, before = 1, after = 1;
  whole.shape[dim] *= pieces.size();
  for (int64_t i = 0; i < dim; ++i)
    before *= whole.shape[i];
  for (size_t i = dim + 1; i < whole.shape.size(); ++i)
    after *= whole.shape[i];
  for (int64_t b = 0; b < before * outer; ++b)
    for (size_t place = 0; place < pieces.size(); ++place)
      for (int64_t i = 0; i < inner * after; ++i)
        whole.data.push_back(pieces[mirrored && b % 2 ? pieces.size() - 1 - place : place].data[b * inner * after + i]);
  return whole;
}

Local add(ArrayRef<Local> terms) {
  Local sum = terms[0];
  for (const Local &term : terms.drop_front())
    for (auto [x, y] : llvm::zip(sum.data, term.data))
      x += y;
  return sum;
}

Machine runStep(const Mesh &mesh, const Machine &before, const RedistributionStep &step) {
  Machine after(before.size());
  for (size_t device = 0; device < before.size(); ++device) {
    size_t mine = 0;
    SmallVector<int> group = getGroup(mesh, device, step.axes, mine);
    int64_t count = group.size();
    std::vector<Local> all, pieces;
    for (int member : group)
      all.push_back(before[member]);
    switch (step.kind) {
    case RedistributionKind::Shard:
      after[device] = cut(before[device], step.dim, step.outer, count, mine, step.mirrored);
      break;
    case RedistributionKind::AllReduce:
      after[device] = add(all);
      break;
    case RedistributionKind::ReduceScatter:
      after[device] = cut(add(all), step.dim, step.outer, count, mine, step.mirrored);
      break;
    case RedistributionKind::AllGather:
      after[device] = join(all, step.dim, step.outer, step.mirrored);
      break;
    case RedistributionKind::AllToAll:
      for (const Local &member : all)
        pieces.push_back(cut(member, step.dim, step.outer, count, mine));
      after[device] = join(pieces, step.joinDim, step.joinOuter);
      break;
    case RedistributionKind::Permute:
      after[device] = all[step.sources[mine]];
      break;
    }
  }
  return after;
}

//===----------------------------------------------------------------------===//
// All placements
//===----------------------------------------------------------------------===//

/// Every way in which the axes own one of the sub-axes of their size, are partial or do neither. Each dimension has a
/// sub-axis of `rest` more that none owns.
class Placements {
public:
  Placements(MLIRContext *context, const Case &of, int64_t rest) : context(context), of(of), rest(rest) {
    SmallVector<int64_t> extents;
    for (auto &dim : of.dims)
      extents.append(dim.begin(), dim.end());
    add(extents, SmallVector<int64_t>(extents.size(), PlacementAttr::kLocal), {});
  }
  std::vector<PlacementAttr> all;

private:
  void add(ArrayRef<int64_t> extents, SmallVector<int64_t> owners, SmallVector<Partial> partials, size_t axis = 0) {
    if (axis == of.mesh.size()) {
      SmallVector<DimSubAxes> dims;
      size_t next = 0;
      for (auto &extentsOfDim : of.dims) {
        DimSubAxes &dim = dims.emplace_back();
        for (int64_t extent : extentsOfDim)
          dim.push_back({extent, owners[next++]});
        if (rest > 1)
          dim.push_back({rest, PlacementAttr::kLocal});
      }
      all.push_back(PlacementAttr::getCanonical(context, dims, partials));
      if (of.mirrors)
        addMirrored(dims, partials);
      return;
    }
    add(extents, owners, partials, axis + 1);
    for (auto [extent, owner] : llvm::zip(extents, owners))
      if (owner == PlacementAttr::kLocal && extent == of.mesh[axis]) {
        owner = axis;
        add(extents, owners, partials, axis + 1);
        owner = PlacementAttr::kLocal;
      }
    partials.push_back({int64_t(axis), graph::ReduceKind::Sum});
    add(extents, owners, partials, axis + 1);
  }

  /// All ways to mirror owned sub-axes after a local one of even extent.
  void addMirrored(SmallVector<DimSubAxes> dims, ArrayRef<Partial> partials, size_t dim = 0, size_t at = 0) {
    if (dim == dims.size())
      return;
    if (at == dims[dim].size())
      return addMirrored(dims, partials, dim + 1);
    addMirrored(dims, partials, dim, at + 1);
    size_t before = at;
    while (before > 0 && dims[dim][before - 1].mirrored)
      --before;
    bool follows = before > 0 && dims[dim][before - 1].meshAxis == PlacementAttr::kLocal;
    if (dims[dim][at].meshAxis == PlacementAttr::kLocal || !follows || dims[dim][before - 1].extent % 2)
      return;
    dims[dim][at].mirrored = true;
    all.push_back(PlacementAttr::getCanonical(context, dims, partials));
    addMirrored(dims, partials, dim, at + 1);
  }

  MLIRContext *context;
  const Case &of;
  int64_t rest;
};

/// "2x2x2_[2,2][2]", for the names of tests.
void PrintTo(const Case &each, std::ostream *out) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::interleave(each.mesh, stream, "x");
  stream << "_";
  for (auto &dim : each.dims) {
    llvm::interleave(dim, stream << "[", ",");
    stream << "]";
  }
  *out << text << (each.mirrors ? "_mirrored" : "");
}

class RedistributionTest : public testing::TestWithParam<Case> {};
class TrafficTest : public testing::TestWithParam<Case> {};

TEST_P(RedistributionTest, EveryPairOfPlacements) {
  MLIRContext context;
  context.loadDialect<DistDialect>();
  Mesh mesh{GetParam().mesh};
  std::vector<PlacementAttr> placements = Placements(&context, GetParam(), /*rest=*/1).all;
  std::vector<Machine> expected;
  for (PlacementAttr to : placements)
    expected.push_back(hold(to.withPartials({}), mesh));
  for (PlacementAttr from : placements) {
    Machine start = hold(from, mesh);
    for (auto [index, to] : llvm::enumerate(placements)) {
      bool reachable = llvm::all_of(
          to.getPartials(), [from = from](Partial partial) { return llvm::is_contained(from.getPartials(), partial); });
      auto steps = planRedistribution(from, to, mesh.sizes);
      ASSERT_EQ(steps.has_value(), reachable);
      if (!reachable)
        continue;
      Machine machine = start;
      for (const RedistributionStep &step : *steps) {
        machine = runStep(mesh, machine, step);
        ASSERT_EQ(machine[0].shape, step.result.getLocalShape());
      }
      // What is still partial is summed up for the comparison.
      RedistributionStep reduce;
      reduce.kind = RedistributionKind::AllReduce;
      reduce.axes.assign(to.getPartialAxes().begin(), to.getPartialAxes().end());
      if (to.isPartial())
        machine = runStep(mesh, machine, reduce);
      for (size_t device = 0; device < machine.size(); ++device) {
        std::string text;
        llvm::raw_string_ostream(text) << from << " to " << to;
        ASSERT_EQ(machine[device].data, expected[index][device].data) << text << " on device " << device;
      }
    }
  }
}

//===----------------------------------------------------------------------===//
// The least traffic
//===----------------------------------------------------------------------===//

/// A placement by its axes: sub-axis (counted through all dimensions, those of `rest` included), -1 nothing, -2
/// partial.
struct AxisPlaces {
  SmallVector<int> of;
  SmallVector<int64_t> dims; // of each sub-axis
  int64_t local = 1;         // elements of one device
  std::set<int> owned;

  AxisPlaces(PlacementAttr placement, const Case &of, int64_t rest) : of(of.mesh.size(), -1) {
    for (Partial partial : placement.getPartials())
      this->of[partial.meshAxis] = -2;
    int piece = 0;
    for (auto [dim, subAxes] : llvm::enumerate(placement.getDims())) {
      // The canonical form joins neighbours that nobody owns: count by extents.
      SmallVector<int64_t> extents(of.dims[dim]);
      extents.push_back(rest);
      size_t next = 0;
      for (SubAxis subAxis : subAxes)
        for (int64_t left = subAxis.extent; left > 1; left /= extents[next++], ++piece) {
          dims.push_back(dim);
          if (subAxis.meshAxis < 0)
            continue;
          this->of[subAxis.meshAxis] = piece;
          owned.insert(piece);
        }
    }
    for (int64_t extent : placement.getLocalShape())
      local *= extent;
  }
};

/// Elements that a device sends on average in one collective from `a` to `b`; none if it takes several.
std::optional<double> getTrafficOfOne(const Mesh &mesh, const AxisPlaces &a, const AxisPlaces &b) {
  SmallVector<int64_t> axes;
  double group = 1, local = double(a.local);
  for (size_t axis = 0; axis < a.of.size(); ++axis)
    if (a.of[axis] != b.of[axis]) {
      axes.push_back(axis);
      group *= double(mesh.sizes[axis]);
    }
  auto all = [&](auto from, auto to) {
    return llvm::all_of(axes, [&](int64_t axis) {
      return from(a.of[axis]) && to(b.of[axis]) && (b.of[axis] < 0 || !a.owned.count(b.of[axis]));
    });
  };
  auto isOwner = [](int where) { return where >= 0; };
  auto isNothing = [](int where) { return where == -1; };
  auto isPartial = [](int where) { return where == -2; };
  if (all(isNothing, isOwner))
    return 0;
  if (all(isPartial, isNothing))
    return 2 * local * (group - 1) / group;
  if (all(isPartial, isOwner))
    return local * (group - 1) / group;
  if (all(isOwner, isNothing))
    return local * (group - 1);
  if (all(isOwner, isOwner)) {
    // One dimension to another, in one order.
    bool isOne = true;
    for (size_t i = 1; i < axes.size(); ++i)
      for (const AxisPlaces *places : {&a, &b}) {
        int major = places->of[axes[i - 1]], minor = places->of[axes[i]];
        isOne &= major < minor && places->dims[major] == places->dims[minor];
      }
    if (isOne)
      return local * (group - 1) / group;
  }
  // Devices that get what others hold, as it is.
  auto isMoved = [&](int64_t axis) { return a.of[axis] == -2 || b.of[axis] == -2; };
  if (a.owned != b.owned || llvm::any_of(axes, isMoved))
    return std::nullopt;
  int moved = 0, devices = mesh.getNumDevices();
  for (int device = 0; device < devices; ++device) {
    SmallVector<int64_t> at = mesh.getCoordinates(device);
    moved += llvm::any_of(a.owned, [&](int piece) {
      auto holder = [&](const AxisPlaces &places) { return at[llvm::find(places.of, piece) - places.of.begin()]; };
      return holder(a) != holder(b);
    });
  }
  return local * moved / devices;
}

TEST_P(TrafficTest, NothingMovesLess) {
  MLIRContext context;
  context.loadDialect<DistDialect>();
  Mesh mesh{GetParam().mesh};
  constexpr int64_t kRest = 1 << 16; // the number of steps then counts for nothing
  std::vector<PlacementAttr> placements = Placements(&context, GetParam(), kRest).all;
  size_t count = placements.size();
  std::vector<AxisPlaces> places;
  for (PlacementAttr placement : placements)
    places.emplace_back(placement, GetParam(), kRest);
  std::vector<std::vector<std::optional<double>>> edges(count);
  for (size_t a = 0; a < count; ++a)
    for (size_t b = 0; b < count; ++b)
      edges[a].push_back(getTrafficOfOne(mesh, places[a], places[b]));
  // Axes that are in one place before and after stay there: bit k of `fixed` for the k-th.
  for (size_t from = 0, fixed = 0; from < count; fixed = (fixed + 1) % 8, from += fixed == 0) {
    auto getFixed = [&](size_t to) {
      size_t same = 0;
      for (size_t axis = 0; axis < mesh.sizes.size(); ++axis)
        same |= size_t(places[from].of[axis] == places[to].of[axis]) << axis;
      return same;
    };
    std::vector<double> least(count, std::numeric_limits<double>::infinity());
    std::vector<bool> done(count);
    least[from] = 0;
    for (size_t round = 0; round < count; ++round) {
      size_t nearest = count;
      for (size_t i = 0; i < count; ++i)
        if (!done[i] && (getFixed(i) & fixed) == fixed && (nearest == count || least[i] < least[nearest]))
          nearest = i;
      if (nearest == count)
        break;
      done[nearest] = true;
      for (size_t i = 0; i < count; ++i)
        if (edges[nearest][i])
          least[i] = std::min(least[i], least[nearest] + *edges[nearest][i]);
    }
    for (size_t to = 0; to < count; ++to) {
      if (getFixed(to) != fixed)
        continue;
      auto steps = planRedistribution(placements[from], placements[to], mesh.sizes);
      ASSERT_EQ(steps.has_value(), std::isfinite(least[to]));
      double traffic = 0;
      for (const RedistributionStep &step : steps.value_or(SmallVector<RedistributionStep>()))
        traffic += step.traffic;
      std::string text;
      llvm::raw_string_ostream(text) << placements[from] << " to " << placements[to];
      if (steps)
        ASSERT_LE(traffic, least[to] * (1 + 1e-9)) << text;
    }
  }
}

std::string print(Operation &op, PlacementAttr after) {
  std::string text;
  llvm::raw_string_ostream(text) << op << " to " << after;
  return text;
}

/// The verifier, which shares nothing with the planner: it accepts each step with the result that the step has, and
/// with no other placement.
TEST_P(RedistributionTest, VerifierKnowsWhatEachStepDoes) {
  MLIRContext context;
  context.loadDialect<DistDialect>();
  OpBuilder builder(&context);
  OwningOpRef<ModuleOp> module = ModuleOp::create(builder.getUnknownLoc());
  Block &block = module->getBodyRegion().front();
  ArrayRef<int64_t> mesh = GetParam().mesh;
  std::vector<PlacementAttr> placements = Placements(&context, GetParam(), /*rest=*/1).all;
  std::set<std::pair<const void *, const void *>> seen;
  for (PlacementAttr from : placements)
    for (PlacementAttr to : placements) {
      auto steps = planRedistribution(from, to, mesh);
      ASSERT_EQ(isReachable(from, to, mesh), steps.has_value());
      builder.setInsertionPointToEnd(&block);
      PlacementAttr before = from;
      for (const RedistributionStep &step : steps.value_or(SmallVector<RedistributionStep>())) {
        auto type = RankedTensorType::get(before.getGlobalShape(), builder.getF32Type(), before);
        bool isNew = seen.insert({before.getAsOpaquePointer(), step.result.getAsOpaquePointer()}).second;
        before = step.result;
        if (!isNew)
          continue;
        Value x = block.addArgument(type, builder.getUnknownLoc());
        Operation *op = buildStep(builder, builder.getUnknownLoc(), x, step).getDefiningOp();
        for (PlacementAttr after : placements)
          ASSERT_EQ(leadsTo(op, getPlacement(type), after), after == step.result) << print(*op, after);
        op->erase();
        block.eraseArgument(0);
      }
    }
}

INSTANTIATE_TEST_SUITE_P(Shapes, RedistributionTest,
                         testing::Values(Case{{2, 2, 2}, {{2, 2, 2}}}, Case{{2, 2, 2}, {{2, 2}, {2, 2}}},
                                         Case{{2, 2, 2}, {{2, 2, 2}, {2}}}, Case{{2, 2, 2}, {{2}, {2, 2}, {2}}},
                                         Case{{3, 2, 2}, {{3, 2}, {2, 3}}}, Case{{3, 2, 2}, {{2, 3}, {2}, {3, 2}}},
                                         Case{{2, 2, 2}, {{2, 2, 2}, {2}}, /*mirrors=*/true},
                                         Case{{2, 3, 2}, {{2, 2, 3}, {2, 3}}, /*mirrors=*/true}));

INSTANTIATE_TEST_SUITE_P(Shapes, TrafficTest,
                         testing::Values(Case{{2, 2, 2}, {{2, 2, 2}}}, Case{{2, 2, 2}, {{2}, {2, 2}}},
                                         Case{{2, 2, 2}, {{2}, {2}, {2}}}, Case{{3, 2, 2}, {{3, 2}, {2, 3}}},
                                         Case{{3, 2, 2}, {{2, 3}, {2}, {3}}}));

//===----------------------------------------------------------------------===//
// Single facts
//===----------------------------------------------------------------------===//

class StepsTest : public testing::Test {
protected:
  StepsTest() { context.loadDialect<DistDialect>(); }
  PlacementAttr place(ArrayRef<DimSubAxes> dims, ArrayRef<Partial> partials = {}) {
    return PlacementAttr::getCanonical(&context, dims, partials);
  }
  MLIRContext context;
};

TEST_F(StepsTest, NeighbouringAxesAreOneGroup) {
  auto steps = planRedistribution(place({{{2, 0}, {2, 1}, {4, -1}}}), place({{{16, -1}}}), {2, 2});
  ASSERT_EQ(steps->size(), 1u);
  EXPECT_EQ((*steps)[0].kind, RedistributionKind::AllGather);
  EXPECT_EQ((*steps)[0].axes, (SmallVector<int64_t>{0, 1}));
}

TEST_F(StepsTest, PartialToShardedIsReduceScatter) {
  Partial sum{0, graph::ReduceKind::Sum};
  auto steps = planRedistribution(place({{{16, -1}}}, {sum}), place({{{2, 0}, {8, -1}}}), {2});
  ASSERT_EQ(steps->size(), 1u);
  EXPECT_EQ((*steps)[0].kind, RedistributionKind::ReduceScatter);
}

TEST_F(StepsTest, ShardsBeforeReducing) {
  Partial sum{0, graph::ReduceKind::Sum};
  auto steps = planRedistribution(place({{{16, -1}}}, {sum}), place({{{2, 1}, {8, -1}}}), {2, 2});
  ASSERT_EQ(steps->size(), 2u);
  EXPECT_EQ((*steps)[0].kind, RedistributionKind::Shard);
  EXPECT_EQ((*steps)[1].kind, RedistributionKind::AllReduce);
}

TEST_F(StepsTest, SubAxesThatDoNotFitAreGathered) {
  auto steps = planRedistribution(place({{{2, 0}, {3, -1}}}), place({{{3, 1}, {2, -1}}}), {2, 3});
  ASSERT_EQ(steps->size(), 2u);
  EXPECT_EQ((*steps)[0].kind, RedistributionKind::AllGather);
  EXPECT_EQ((*steps)[1].kind, RedistributionKind::Shard);
}

TEST_F(StepsTest, AxesThatChangePlacesPermute) {
  auto steps = planRedistribution(place({{{2, 0}, {8, -1}}, {{2, 1}, {8, -1}}}),
                                  place({{{2, 1}, {8, -1}}, {{2, 0}, {8, -1}}}), {2, 2});
  ASSERT_EQ(steps->size(), 1u);
  EXPECT_EQ((*steps)[0].kind, RedistributionKind::Permute);
  EXPECT_EQ((*steps)[0].sources, (SmallVector<int64_t>{0, 2, 1, 3}));
  EXPECT_EQ((*steps)[0].traffic, 32);
}

TEST_F(StepsTest, MirroredSubAxesAreGatheredInNaturalOrder) {
  PlacementAttr mirrored = place({{{2, -1}, {2, 0, true}, {2, 1, true}, {4, -1}}});
  auto gather = planRedistribution(mirrored, place({{{32, -1}}}), {2, 2});
  ASSERT_EQ(gather->size(), 1u);
  EXPECT_EQ((*gather)[0].kind, RedistributionKind::AllGather);
  EXPECT_TRUE((*gather)[0].mirrored);
  EXPECT_EQ((*gather)[0].outer, 2);
  Partial sums[] = {{0, graph::ReduceKind::Sum}, {1, graph::ReduceKind::Sum}};
  auto scatter = planRedistribution(place({{{32, -1}}}, sums), mirrored, {2, 2});
  ASSERT_EQ(scatter->size(), 1u);
  EXPECT_EQ((*scatter)[0].kind, RedistributionKind::ReduceScatter);
  EXPECT_TRUE((*scatter)[0].mirrored);
}

/// Keys under context parallelism and Ulysses: each head's on fewer devices, then all positions; back in reverse.
TEST_F(StepsTest, MirroredSubAxesAreGatheredWhereLeastIsLeft) {
  PlacementAttr cut = place({{{8, -1}}, {{2, -1}, {2, 0, true}, {2, 1}, {64, -1}}}),
                heads = place({{{2, 1}, {4, -1}}, {{512, -1}}});
  auto gather = planRedistribution(cut, heads, {2, 2});
  ASSERT_EQ(gather->size(), 2u);
  EXPECT_EQ((*gather)[0].kind, RedistributionKind::AllToAll);
  EXPECT_EQ((*gather)[1].kind, RedistributionKind::AllGather);
  Partial sum{0, graph::ReduceKind::Sum};
  auto scatter = planRedistribution(heads.withPartials(sum), cut, {2, 2});
  ASSERT_EQ(scatter->size(), 2u);
  EXPECT_EQ((*scatter)[0].kind, RedistributionKind::ReduceScatter);
  EXPECT_EQ((*scatter)[1].kind, RedistributionKind::AllToAll);
}

TEST_F(StepsTest, WhatIsMirroredAlikeStays) {
  auto steps = planRedistribution(place({{{2, -1}, {2, 0, true}, {2, 1}, {4, -1}}, {{8, -1}}}),
                                  place({{{2, -1}, {2, 0, true}, {8, -1}}, {{2, 1}, {4, -1}}}), {2, 2});
  ASSERT_EQ(steps->size(), 1u);
  EXPECT_EQ((*steps)[0].kind, RedistributionKind::AllToAll);
  EXPECT_EQ((*steps)[0].axes, (SmallVector<int64_t>{1}));
}

TEST_F(StepsTest, TimeStaysWhereItIs) {
  int64_t time = PlacementAttr::kTime;
  EXPECT_TRUE(planRedistribution(place({{{2, time}, {2, 0}, {2, -1}}}), place({{{2, time}, {4, -1}}}), {2}));
  EXPECT_FALSE(planRedistribution(place({{{2, time}, {4, -1}}}), place({{{8, -1}}}), {2}));
}

} // namespace
