// The groups of ranks that collectives join are those that the search prices: an attention layer is placed and cut on
// 6, 12 and 24 devices under every strategy that uses them, and each collective's group is compared rank by rank.
#include "../Reference/Program.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Search/Model/Plan.h"
#include "lib/Search/Solver/StageCosts.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <gmock/gmock.h>

using namespace galvatron;
using namespace galvatron::reference;
using search::Group;
using testing::ElementsAre;

namespace {

/// 24 samples, positions and heads, so that every degree divides them.
constexpr const char *kAttention = R"(
module attributes {graph.batch = 24 : i64} {
  graph.layer @layer(%x: tensor<24x24x7xf32>, %wq: tensor<48x7xf32> {graph.parameter = "q"},
      %wk: tensor<48x7xf32> {graph.parameter = "k"}, %wv: tensor<48x7xf32> {graph.parameter = "v"},
      %wo: tensor<7x48xf32> {graph.parameter = "o"}) -> tensor<24x24x7xf32> {
    %0 = graph.einsum %x, %wq "bsi,oi->bso" : (tensor<24x24x7xf32>, tensor<48x7xf32>) -> tensor<24x24x48xf32>
    %1 = graph.reshape %0 : tensor<24x24x48xf32> -> tensor<24x24x24x2xf32>
    %q = graph.transpose %1 [0, 2, 1, 3] : tensor<24x24x24x2xf32> -> tensor<24x24x24x2xf32>
    %2 = graph.einsum %x, %wk "bsi,oi->bso" : (tensor<24x24x7xf32>, tensor<48x7xf32>) -> tensor<24x24x48xf32>
    %3 = graph.reshape %2 : tensor<24x24x48xf32> -> tensor<24x24x24x2xf32>
    %k = graph.transpose %3 [0, 2, 1, 3] : tensor<24x24x24x2xf32> -> tensor<24x24x24x2xf32>
    %4 = graph.einsum %x, %wv "bsi,oi->bso" : (tensor<24x24x7xf32>, tensor<48x7xf32>) -> tensor<24x24x48xf32>
    %5 = graph.reshape %4 : tensor<24x24x48xf32> -> tensor<24x24x24x2xf32>
    %v = graph.transpose %5 [0, 2, 1, 3] : tensor<24x24x24x2xf32> -> tensor<24x24x24x2xf32>
    %6, %lse = graph.attention %q, %k, %v {scale = 5.000000e-01, causal} : (tensor<24x24x24x2xf32>, tensor<24x24x24x2xf32>, tensor<24x24x24x2xf32>) -> (tensor<24x24x24x2xf32>, tensor<24x24x24xf32>)
    %7 = graph.transpose %6 [0, 2, 1, 3] : tensor<24x24x24x2xf32> -> tensor<24x24x24x2xf32>
    %8 = graph.reshape %7 : tensor<24x24x24x2xf32> -> tensor<24x24x48xf32>
    %9 = graph.einsum %8, %wo "bsi,oi->bso" : (tensor<24x24x48xf32>, tensor<7x48xf32>) -> tensor<24x24x7xf32>
    graph.return %9 : tensor<24x24x7xf32>
  }
  graph.layer @loss(%x: tensor<24x24x7xf32>) -> tensor<f32> {
    %0 = graph.reduce sum %x dims [0, 1, 2] : tensor<24x24x7xf32> -> tensor<f32>
    graph.return %0 : tensor<f32>
  }
  func.func @step(%x: tensor<24x24x7xf32>) -> tensor<f32> {
    %0 = graph.call @layer(%x) parameters ["q", "k", "v", "o"] path "first" : (tensor<24x24x7xf32>) -> tensor<24x24x7xf32>
    %1 = graph.call @layer(%0) parameters ["q2", "k2", "v2", "o2"] path "second" : (tensor<24x24x7xf32>) -> tensor<24x24x7xf32>
    %2 = graph.call @loss(%1) parameters [] path "loss" : (tensor<24x24x7xf32>) -> tensor<f32>
    return %2 : tensor<f32>
  }
})";

using Ranks = std::vector<int64_t>;

/// Every group of a shape: its members from the first rank on, each rank in one group.
std::vector<Ranks> allGroups(const plan::GroupShape &shape, int64_t devices) {
  std::vector<Ranks> groups;
  std::vector<bool> seen(devices, false);
  for (int64_t first = 0; first < devices; ++first) {
    if (seen[first])
      continue;
    Ranks &group = groups.emplace_back();
    for (int64_t member : shape.members()) {
      group.push_back(first + member);
      seen.at(first + member) = true;
    }
  }
  return groups;
}

/// The groups of devices that differ in these axes only, by their coordinates.
std::vector<Ranks> allGroups(llvm::ArrayRef<int64_t> mesh, llvm::ArrayRef<int64_t> axes, int64_t devices) {
  std::map<Ranks, Ranks> byOthers;
  for (int64_t device = 0; device < devices; ++device) {
    Ranks others;
    int64_t rest = device;
    for (int64_t axis = int64_t(mesh.size()) - 1; axis >= 0; rest /= mesh[axis--])
      if (!llvm::is_contained(axes, axis))
        others.insert(others.begin(), rest % mesh[axis]);
    byOthers[others].push_back(device);
  }
  std::vector<Ranks> groups;
  for (auto &[others, group] : byOthers)
    groups.push_back(group);
  std::sort(groups.begin(), groups.end());
  return groups;
}

search::Strategy strategy(int cp, int ulysses, int tp, bool strided = false) {
  return {.tp = tp, .ulysses = ulysses, .cp = cp, .strided = strided};
}

/// Two layers on one stage, each with a strategy.
struct Placed {
  search::Plan plan;
  Program program{kAttention};
  llvm::SmallVector<int64_t> mesh;

  Placed(int64_t devices, const search::Strategy &first, const search::Strategy &second) {
    plan.ranks = devices;
    plan.globalBatch = 24;
    for (auto [path, s] : {std::pair("first", first), {"second", second}, {"loss", second}})
      plan.layers.push_back({path, path, search::LayerRole::Block, s, int(devices / s.modelRanks()), 0});
    program.context->loadDialect<plan::PlanDialect>();
    EXPECT_TRUE(program.run("galvatron-flatten-sums,galvatron-differentiate,canonicalize"));
    mlir::Builder builder(program.context.get());
    auto pipeline = plan::PipelineAttr::get(program.context.get(), 1, devices, 1, plan::Schedule::GPipe, 1,
                                            builder.getDenseI64ArrayAttr(plan.rankMesh()));
    (*program.module)->setAttr(plan::kPipelineAttrName, pipeline);
    mesh = plan::getMesh(pipeline);
    size_t layer = 0;
    program.module->walk([&](graph::CallOp call) {
      const search::PlannedLayer &planned = plan.layers[layer++];
      call->setAttr(plan::kStrategyAttrName,
                    plan::StrategyAttr::get(program.context.get(), search::valuesOf(planned.strategy, planned.dp)));
      call->setAttr(plan::kStageAttrName, builder.getI64IntegerAttr(0));
    });
    EXPECT_TRUE(program.run("galvatron-assign-placements,galvatron-verify-placements,"
                            "galvatron-insert-collectives,galvatron-verify-placements"));
  }

  /// As the search prices them.
  std::vector<Ranks> priced(unsigned layer, Group group) const {
    const search::PlannedLayer &planned = plan.layers[layer];
    return allGroups(search::groupsOf(planned.strategy, planned.dp, plan.rankMesh())[int(group)], plan.ranks);
  }

  graph::LayerOp layerOf(llvm::StringRef path) {
    graph::LayerOp layer;
    program.module->walk([&](graph::CallOp call) {
      if (call.getPath() == path)
        layer = program.module->lookupSymbol<graph::LayerOp>(call.getCallee());
    });
    return layer;
  }

  /// Of the collectives of one kind in a layer.
  template <typename Op> std::set<std::vector<Ranks>> joined(llvm::StringRef path) {
    std::set<std::vector<Ranks>> found;
    layerOf(path)->walk([&](Op op) { found.insert(allGroups(mesh, op.getAxes(), plan.ranks)); });
    return found;
  }

  /// Over which the gradients of a layer's parameters are still to be summed.
  std::set<std::vector<Ranks>> summed(llvm::StringRef path) {
    graph::LayerOp layer = layerOf(path);
    std::set<std::vector<Ranks>> found;
    mlir::ValueRange gradients = layer.getBackward().getBody().front().getTerminator()->getOperands();
    for (auto [argument, gradient] : llvm::zip(layer.getDifferentiated(), gradients)) {
      if (argument.getArgNumber() < layer.getNumInputs())
        continue;
      llvm::SmallVector<int64_t> axes;
      for (dist::Partial partial : dist::getPlacement(gradient.getType()).getPartials())
        axes.push_back(partial.meshAxis);
      found.insert(allGroups(mesh, axes, plan.ranks));
    }
    return found;
  }

  /// Every collective of a layer against its price.
  void expectPriced(llvm::StringRef path, unsigned layer) {
    const search::Strategy &s = plan.layers[layer].strategy;
    using Groups = std::set<std::vector<Ranks>>;
    auto only = [&](Group group, bool isThere) { return isThere ? Groups{priced(layer, group)} : Groups(); };
    EXPECT_EQ(joined<dist::AllReduceOp>(path), only(Group::Tensor, s.tp > 1));
    EXPECT_EQ(joined<dist::AllToAllOp>(path), only(Group::Ulysses, s.ulysses > 1));
    EXPECT_EQ(joined<dist::AllGatherOp>(path), only(Group::Context, s.cp > 1));
    EXPECT_EQ(joined<dist::ReduceScatterOp>(path), only(Group::Context, s.cp > 1));
    EXPECT_EQ(summed(path), Groups{priced(layer, Group::Shard)});
  }
};

/// Slowest first dp, cp, ulysses, tp, whatever the primes: a group's ranks are as far apart as the product of the
/// degrees after it.
TEST(Ranks, groups_of_one_strategy_are_its_own_on_6_12_and_24_ranks) {
  int count = 0;
  for (int devices : {6, 12, 24})
    for (int tp = 1; tp <= devices; ++tp)
      for (int ulysses = 1; ulysses <= devices; ++ulysses)
        for (int cp = 1; cp <= devices; ++cp)
          for (bool strided : {false, true}) {
            if (devices % (tp * ulysses * cp) || (strided && tp == 1))
              continue;
            int dp = devices / (tp * ulysses * cp), inner = strided ? 1 : tp;
            SCOPED_TRACE("dp " + std::to_string(dp) + " cp " + std::to_string(cp) + " ulysses " +
                         std::to_string(ulysses) + " tp " + std::to_string(tp) + (strided ? " strided" : ""));
            search::Strategy s = strategy(cp, ulysses, tp, strided);
            Placed placed(devices, s, s);
            using Shape = plan::GroupShape;
            EXPECT_EQ(placed.priced(0, Group::Tensor), allGroups(Shape(tp, strided ? dp * cp * ulysses : 1), devices));
            EXPECT_EQ(placed.priced(0, Group::Ulysses), allGroups(Shape(ulysses, inner), devices));
            EXPECT_EQ(placed.priced(0, Group::Context), allGroups(Shape(cp, ulysses * inner), devices));
            EXPECT_EQ(placed.priced(0, Group::Data), allGroups(Shape(dp, cp * ulysses * inner), devices));
            EXPECT_EQ(placed.priced(0, Group::Shard), allGroups(Shape(dp * cp * ulysses, inner), devices));
            placed.expectPriced("first", 0);
            placed.expectPriced("second", 1);
            ++count;
          }
  EXPECT_GT(count, 150);
}

TEST(Ranks, tensor_groups_of_four_are_neighbours_beside_three_replicas) {
  Placed placed(12, strategy(1, 1, 4), strategy(1, 1, 4));
  EXPECT_THAT(placed.mesh, ElementsAre(3, 2, 2));
  EXPECT_THAT(placed.joined<dist::AllReduceOp>("first"),
              ElementsAre(std::vector<Ranks>{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}}));
  EXPECT_THAT(placed.summed("first"), ElementsAre(std::vector<Ranks>{{0, 4, 8}, {1, 5, 9}, {2, 6, 10}, {3, 7, 11}}));
}

/// tp 2 and tp 3 cannot both be neighbours on 6 ranks: three ranks move twice what two do, so tp 2 is laid out with a
/// stride.
TEST(Ranks, what_moves_less_is_laid_out_with_a_stride) {
  Placed placed(6, strategy(1, 1, 2), strategy(1, 1, 3));
  EXPECT_THAT(placed.joined<dist::AllReduceOp>("first"), ElementsAre(std::vector<Ranks>{{0, 3}, {1, 4}, {2, 5}}));
  EXPECT_THAT(placed.joined<dist::AllReduceOp>("second"), ElementsAre(std::vector<Ranks>{{0, 1, 2}, {3, 4, 5}}));
  placed.expectPriced("first", 0);
  placed.expectPriced("second", 1);
}

/// Any two strategies on one stage, whether or not both have their own order.
TEST(Ranks, groups_of_mixed_strategies_are_priced_as_they_come_out) {
  int apart = 0;
  for (int devices : {6, 12, 24})
    for (int tp : {1, 2, 3, 4, 6})
      for (int otherTp : {2, 3, 4, 6, 12})
        for (int cp : {1, 2, 3}) {
          if (devices % (tp * cp) || devices % otherTp)
            continue;
          SCOPED_TRACE(std::to_string(devices) + " devices: cp " + std::to_string(cp) + " tp " + std::to_string(tp) +
                       " and tp " + std::to_string(otherTp));
          Placed placed(devices, strategy(cp, 1, tp), strategy(1, 1, otherTp));
          placed.expectPriced("first", 0);
          placed.expectPriced("second", 1);
          for (unsigned layer : {0, 1})
            apart += placed.priced(layer, Group::Tensor).front().back() !=
                     placed.plan.layers[layer].strategy.tp - 1; // not neighbours
        }
  EXPECT_GT(apart, 10);
}

} // namespace
