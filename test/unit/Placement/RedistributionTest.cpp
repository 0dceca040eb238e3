// Every pair of placements of small tensors over a 2x2x2 mesh, run on all devices: the steps of the
// planner are applied as their ops define them, and what each device ends up with is compared with
// what the target placement says it should hold.
#include "galvatron/Placement/PlacementsRedistribution.h"
#include "lib/Transforms/Shard/VerifyPlacements.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/MLIRContext.h"

#include <gtest/gtest.h>
#include <numeric>
#include <set>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::dist;

namespace {

constexpr int kAxes = 3, kDevices = 8;
const SmallVector<int64_t> kMesh = {2, 2, 2};

int64_t coordinate(int device, int64_t axis) { return (device >> (kAxes - 1 - axis)) & 1; }

struct Local {
  SmallVector<int64_t> shape;
  std::vector<double> data;
};
using Machine = std::vector<Local>;

//===----------------------------------------------------------------------===//
// What a placement means
//===----------------------------------------------------------------------===//

/// Row-major global position of a local element.
int64_t globalPosition(PlacementAttr placement, int device, int64_t local) {
  SmallVector<int64_t> shape = placement.getLocalShape(), global = placement.getGlobalShape();
  SmallVector<int64_t> index(shape.size());
  for (int64_t dim = shape.size() - 1; dim >= 0; --dim) {
    index[dim] = local % shape[dim];
    local /= shape[dim];
  }
  int64_t position = 0;
  for (auto [dim, subAxes] : llvm::enumerate(placement.getDims())) {
    int64_t rest = shape[dim], within = 0;
    for (SubAxis subAxis : subAxes) {
      int64_t value = 0;
      if (subAxis.meshAxis == PlacementAttr::kLocal) {
        rest /= subAxis.extent;
        value = index[dim] / rest % subAxis.extent;
      } else {
        value = coordinate(device, subAxis.meshAxis);
      }
      within = within * subAxis.extent + value;
    }
    position = position * global[dim] + within;
  }
  return position;
}

double element(int64_t position) { return double(position * position + 3 * position + 1); }

/// A device's share of an element: pseudo-random, but summing up to the element over partial axes.
double share(PlacementAttr placement, int device, int64_t position) {
  unsigned coordinates = 0;
  for (int64_t axis : placement.getPartialAxes())
    coordinates = 2 * coordinates + coordinate(device, axis);
  auto noise = [&](unsigned at) { return double((position * 7 + at * 13) % 31); };
  if (coordinates != 0)
    return noise(coordinates);
  double rest = element(position);
  for (unsigned other = 1; other < 1u << placement.getPartialAxes().size(); ++other)
    rest -= noise(other);
  return rest;
}

Machine hold(PlacementAttr placement) {
  Machine machine(kDevices);
  for (int device = 0; device < kDevices; ++device) {
    Local &local = machine[device];
    local.shape = placement.getLocalShape();
    int64_t size = 1;
    for (int64_t extent : local.shape)
      size *= extent;
    for (int64_t i = 0; i < size; ++i)
      local.data.push_back(share(placement, device, globalPosition(placement, device, i)));
  }
  return machine;
}

//===----------------------------------------------------------------------===//
// What a step does
//===----------------------------------------------------------------------===//

/// Devices that differ from this one only in the axes, in the order of the group.
SmallVector<int> getGroup(int device, ArrayRef<int64_t> axes, size_t &position) {
  SmallVector<int> group;
  for (unsigned member = 0; member < 1u << axes.size(); ++member) {
    int other = device;
    for (auto [index, axis] : llvm::enumerate(axes)) {
      int bit = kAxes - 1 - axis, value = (member >> (axes.size() - 1 - index)) & 1;
      other = (other & ~(1 << bit)) | (value << bit);
    }
    if (other == device)
      position = group.size();
    group.push_back(other);
  }
  return group;
}

/// Piece `index` of `count` along `dim`, cut at [outer][count][inner].
Local cut(const Local &whole, int64_t dim, int64_t outer, int64_t count, int64_t index) {
  Local piece{whole.shape, {}};
  piece.shape[dim] /= count;
  int64_t inner = piece.shape[dim] / outer, before = 1, after = 1;
  for (int64_t i = 0; i < dim; ++i)
    before *= whole.shape[i];
  for (size_t i = dim + 1; i < whole.shape.size(); ++i)
    after *= whole.shape[i];
  for (int64_t b = 0; b < before * outer; ++b)
    for (int64_t i = 0; i < inner * after; ++i)
      piece.data.push_back(whole.data[(b * count + index) * inner * after + i]);
  return piece;
}

/// The inverse of `cut`.
Local join(ArrayRef<Local> pieces, int64_t dim, int64_t outer) {
  Local whole{pieces[0].shape, {}};
  int64_t inner = whole.shape[dim] / outer, before = 1, after = 1;
  whole.shape[dim] *= pieces.size();
  for (int64_t i = 0; i < dim; ++i)
    before *= whole.shape[i];
  for (size_t i = dim + 1; i < whole.shape.size(); ++i)
    after *= whole.shape[i];
  for (int64_t b = 0; b < before * outer; ++b)
    for (const Local &piece : pieces)
      for (int64_t i = 0; i < inner * after; ++i)
        whole.data.push_back(piece.data[b * inner * after + i]);
  return whole;
}

Local add(ArrayRef<Local> terms) {
  Local sum = terms[0];
  for (const Local &term : terms.drop_front())
    for (auto [x, y] : llvm::zip(sum.data, term.data))
      x += y;
  return sum;
}

Machine runStep(const Machine &before, const RedistributionStep &step) {
  Machine after(kDevices);
  for (int device = 0; device < kDevices; ++device) {
    size_t mine = 0;
    SmallVector<int> group = getGroup(device, step.axes, mine);
    int64_t count = group.size();
    std::vector<Local> all, pieces;
    for (int member : group)
      all.push_back(before[member]);
    switch (step.kind) {
    case RedistributionKind::Shard:
      after[device] = cut(before[device], step.dim, step.outer, count, mine);
      break;
    case RedistributionKind::AllReduce:
      after[device] = add(all);
      break;
    case RedistributionKind::ReduceScatter:
      after[device] = cut(add(all), step.dim, step.outer, count, mine);
      break;
    case RedistributionKind::AllGather:
      after[device] = join(all, step.dim, step.outer);
      break;
    case RedistributionKind::AllToAll:
      for (const Local &member : all)
        pieces.push_back(cut(member, step.dim, step.outer, count, mine));
      after[device] = join(pieces, step.joinDim, step.joinOuter);
      break;
    }
  }
  return after;
}

//===----------------------------------------------------------------------===//
// All placements
//===----------------------------------------------------------------------===//

/// Every way in which the axes own one of the sub-axes (all of extent 2), are partial or do neither.
void enumerate(MLIRContext *context, ArrayRef<int64_t> subAxesPerDim, int axis, SmallVector<int64_t> meshAxes,
               SmallVector<Partial> partials, std::vector<PlacementAttr> &result) {
  if (axis == kAxes) {
    SmallVector<DimSubAxes> dims;
    size_t next = 0;
    for (int64_t count : subAxesPerDim) {
      DimSubAxes &dim = dims.emplace_back();
      for (int64_t i = 0; i < count; ++i)
        dim.push_back({2, meshAxes[next++]});
    }
    result.push_back(PlacementAttr::getCanonical(context, dims, partials));
    return;
  }
  enumerate(context, subAxesPerDim, axis + 1, meshAxes, partials, result);
  for (int64_t &meshAxis : meshAxes)
    if (meshAxis == PlacementAttr::kLocal) {
      meshAxis = axis;
      enumerate(context, subAxesPerDim, axis + 1, meshAxes, partials, result);
      meshAxis = PlacementAttr::kLocal;
    }
  partials.push_back({axis, graph::ReduceKind::Sum});
  enumerate(context, subAxesPerDim, axis + 1, meshAxes, partials, result);
}

/// Parameter: how many sub-axes each dimension has.
class RedistributionTest : public testing::TestWithParam<std::vector<int64_t>> {
protected:
  int64_t getNumSubAxes() { return std::accumulate(GetParam().begin(), GetParam().end(), int64_t(0)); }
};

TEST_P(RedistributionTest, EveryPairOfPlacements) {
  MLIRContext context;
  context.loadDialect<DistDialect>();
  std::vector<PlacementAttr> placements;
  enumerate(&context, GetParam(), 0, SmallVector<int64_t>(getNumSubAxes(), PlacementAttr::kLocal), {}, placements);
  for (PlacementAttr from : placements) {
    Machine start = hold(from);
    for (PlacementAttr to : placements) {
      bool reachable = llvm::all_of(to.getPartials(),
                                    [&](Partial partial) { return llvm::is_contained(from.getPartials(), partial); });
      auto steps = planRedistribution(from, to, kMesh);
      ASSERT_EQ(steps.has_value(), reachable);
      if (!reachable)
        continue;
      Machine machine = start;
      for (const RedistributionStep &step : *steps) {
        machine = runStep(machine, step);
        ASSERT_EQ(machine[0].shape, step.result.getLocalShape());
      }
      // What is still partial is summed up for the comparison.
      RedistributionStep reduce;
      reduce.kind = RedistributionKind::AllReduce;
      reduce.axes.assign(to.getPartialAxes().begin(), to.getPartialAxes().end());
      if (to.isPartial())
        machine = runStep(machine, reduce);
      Machine expected = hold(to.withPartials({}));
      for (int device = 0; device < kDevices; ++device) {
        std::string text;
        llvm::raw_string_ostream(text) << from << " to " << to;
        ASSERT_EQ(machine[device].data, expected[device].data) << text << " on device " << device;
      }
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
  std::vector<PlacementAttr> placements;
  enumerate(&context, GetParam(), 0, SmallVector<int64_t>(getNumSubAxes(), PlacementAttr::kLocal), {}, placements);
  std::set<std::pair<const void *, const void *>> seen;
  for (PlacementAttr from : placements)
    for (PlacementAttr to : placements) {
      auto steps = planRedistribution(from, to, kMesh);
      ASSERT_EQ(isReachable(from, to, kMesh), steps.has_value());
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
                         testing::Values(std::vector<int64_t>{3}, std::vector<int64_t>{2, 2},
                                         std::vector<int64_t>{3, 1}));

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

TEST_F(StepsTest, TimeStaysWhereItIs) {
  int64_t time = PlacementAttr::kTime;
  EXPECT_TRUE(planRedistribution(place({{{2, time}, {2, 0}, {2, -1}}}), place({{{2, time}, {4, -1}}}), {2}));
  EXPECT_FALSE(planRedistribution(place({{{2, time}, {4, -1}}}), place({{{8, -1}}}), {2}));
}

} // namespace
