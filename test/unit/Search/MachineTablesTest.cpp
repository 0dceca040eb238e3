// A profile's figures as prices: what was measured counts where it was, and nothing falls as sizes rise.
#include "galvatron/Search/Model/MachineTables.h"

#include "TestInputs.h"
#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/TransformerModel.h"
#include "galvatron/Search/Solver/ProfileReason.h"
#include "galvatron/Search/Solver/Solver.h"

#include <algorithm>
#include <fstream>
#include <gtest/gtest.h>
#include <random>

using namespace galvatron::search;
using galvatron::plan::GroupShape;

namespace {

/// Of four ranks of one node: messages of 2, in pairs next to one another and two apart.
MachineProfile example() {
  MachineProfile profile;
  profile.fingerprint = {{"target", "cpu"}};
  profile.cluster = *hostCluster(4, 1ll << 34);
  for (int rank = 0; rank < 4; ++rank)
    profile.devices.push_back({rank, "a", rank});
  for (std::int64_t bytes : {1000, 2000, 4000000}) {
    double seconds = 1e-3 + double(bytes) * 1e-9;
    profile.messages.push_back({"all_reduce", 2, 1, 1, bytes, seconds / 100, 0, 5}); // alone: not the price
    profile.messages.push_back({"all_reduce", 2, 1, 2, bytes, seconds, 0, 5});
    profile.messages.push_back({"all_reduce", 2, 2, 2, bytes, 2 * seconds, 0, 5});
    profile.messages.push_back({"send", 2, 1, 2, bytes, 3 * seconds, 0, 5});
    profile.messages.push_back({"exchange", 2, 2, 2, bytes, 4 * seconds, 0, 5});
  }
  profile.kernels = {{"gemm", "fp32", {.m = 100, .n = 100, .k = 100}, 1e-4, 0, 5},
                     {"gemm", "fp32", {.m = 1000, .n = 100, .k = 100}, 5e-4, 0, 5},
                     {"elementwise", "fp32", {.bytes = 1000}, 1e-6, 0, 5},
                     {"elementwise", "fp32", {.bytes = 1000000}, 1e-4, 0, 5}};
  return profile;
}

Cluster priced(MachineProfile profile = example()) {
  Cluster cluster = profile.cluster;
  EXPECT_FALSE(applyProfile(profile, "profile.json", cluster));
  return cluster;
}

TEST(MachineTables, measured_groups_take_what_they_took) {
  LinkModel links(priced());
  EXPECT_NEAR(links.seconds(CollectiveKind::AllReduce, 1000, GroupShape(2, 1)), 1.001e-3, 1e-9);
  EXPECT_NEAR(links.seconds(CollectiveKind::AllReduce, 1500, GroupShape(2, 1)), 1.0015e-3, 1e-9);
  EXPECT_NEAR(links.seconds(CollectiveKind::AllReduce, 1000, GroupShape(2, 2)), 2.002e-3, 1e-9);
  EXPECT_NEAR(links.seconds(CollectiveKind::AllReduce, 8000000, GroupShape(2, 1)), 9e-3, 1e-7); // the last line goes on
  EXPECT_NEAR(links.seconds(CollectiveKind::AllReduce, 8, GroupShape(2, 1)), 1.001e-3, 1e-9);
  EXPECT_NEAR(links.sendSeconds(1000, 1), 3.003e-3, 1e-9);
  EXPECT_NEAR(links.sendSecondsFrom(0, 1, 1000, 1), 3.003e-3, 1e-9);
  EXPECT_NEAR(links.seconds(CollectiveKind::SendReceive, 1000, GroupShape(4, 2)), 4.004e-3, 1e-9);
}

TEST(MachineTables, others_take_what_the_formulas_say) {
  Cluster with = priced(), without = with;
  without.device.tables = nullptr;
  for (auto [kind, group] :
       {std::pair{CollectiveKind::AllReduce, GroupShape(4, 1)}, {CollectiveKind::AllGather, GroupShape(2, 1)}})
    EXPECT_EQ(LinkModel(with).seconds(kind, 1e6, group), LinkModel(without).seconds(kind, 1e6, group));
  EXPECT_EQ(LinkModel(with).sendSeconds(1e6, 2), LinkModel(without).sendSeconds(1e6, 2));
  // Groups of nodes of one device are not those that were measured within a node.
  with.devicesPerNode = without.devicesPerNode = 1, with.nodes = without.nodes = 4;
  EXPECT_EQ(LinkModel(with).seconds(CollectiveKind::AllReduce, 1e6, GroupShape(2, 1)),
            LinkModel(without).seconds(CollectiveKind::AllReduce, 1e6, GroupShape(2, 1)));
  EXPECT_EQ(LinkModel(with).sendSeconds(1e6, 1), LinkModel(without).sendSeconds(1e6, 1));
}

TEST(MachineTables, nothing_falls_as_sizes_rise) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    MeasuredCurve curve;
    for (int point = 0; point < 6; ++point)
      curve.add(double(1 + random() % 10) * 1000, double(1 + random() % 1000) * 1e-6);
    curve.finish();
    double before = 0;
    for (double size = 1; size < 20000; size += 37) {
      EXPECT_GE(curve.seconds(size), before);
      before = curve.seconds(size);
    }
  }
}

TEST(MachineTables, faster_links_are_never_slower) {
  Cluster cluster = priced();
  auto faster = cluster.device.tables->withFasterLinks(2);
  auto message = faster->message(CollectiveKind::AllReduce, 4000, GroupShape(2, 1), 4);
  ASSERT_TRUE(message);
  EXPECT_NEAR(message->seconds, 1.002e-3, 1e-9);
  EXPECT_TRUE(message->isMeasured);
  EXPECT_FALSE(faster->message(CollectiveKind::AllReduce, 1000, GroupShape(2, 1), 4)->isMeasured); // as of 500
}

TEST(MachineTables, rates_are_the_largest_measured_ones) {
  Cluster cluster = priced();
  EXPECT_NEAR(cluster.device.matmulFlopsPerSecond, 2e7 / 5e-4, 1);
  EXPECT_NEAR(cluster.device.memoryBytesPerSecond, 1e10, 1);
  EXPECT_EQ(cluster.device.attentionPairsPerSecond, findDeviceKind("cpu")->attentionPairsPerSecond); // not measured
}

TEST(MachineTables, devices_in_other_numbers) {
  EXPECT_EQ(clusterOf(example(), 0)->ranks(), 4);
  EXPECT_EQ(clusterOf(example(), 2)->devicesPerNode, 2);
  EXPECT_EQ(clusterOf(example(), 8)->nodes, 2);
  EXPECT_NE(clusterOf(example(), 6).error().message.find("expects at most 4 ranks, or whole nodes of 4"),
            std::string::npos);
}

TEST(MachineTables, another_kind_of_device_is_refused) {
  Cluster gpus = *hostCluster(4, 0, "h200");
  auto error = applyProfile(example(), "p.json", gpus);
  ASSERT_TRUE(error);
  EXPECT_NE(error->message.find("expects a profile of devices of kind h200, but 'p.json' is of cpu"),
            std::string::npos);
}

TEST(MachineTables, a_profile_with_multicast_is_for_clusters_with_it) {
  MachineProfile profile = example();
  Cluster cluster = profile.cluster;
  cluster.nccl = NcclSettings{.nvls = true};
  EXPECT_EQ(applyProfile(profile, "p.json", cluster)->message,
            "expects a profile taken with --nvls on, as the cluster's key 'nccl' has it, but 'p.json' was taken with "
            "--nvls off; take another, or set nvls in 'nccl' to false");
  profile.cluster.nccl = cluster.nccl;
  EXPECT_FALSE(applyProfile(profile, "p.json", cluster));
  cluster.nccl.reset();
  EXPECT_NE(applyProfile(profile, "p.json", cluster)->message.find("set nvls in 'nccl' to true"), std::string::npos);
  // In the files, too.
  std::string folder = ::testing::TempDir(), written = writeMachineProfile(profile);
  ASSERT_TRUE(parseMachineProfile(written)) << parseMachineProfile(written).error().message;
  EXPECT_TRUE(parseMachineProfile(written)->cluster.nccl->nvls);
  std::ofstream(folder + "/nvls.json") << written;
  auto read = [&](const std::string &nvls) {
    return parseCluster(R"({"nodes": 1, "devices_per_node": 4, "profile": "nvls.json", "nccl": {"nvls": )" + nvls + "}}",
                        folder);
  };
  ASSERT_TRUE(read("true")) << read("true").error().message;
  EXPECT_TRUE(read("true")->nccl->nvls);
  EXPECT_NE(read("false").error().message.find("was taken with --nvls on"), std::string::npos);
}

TEST(MachineTables, a_cluster_file_brings_them_along) {
  std::string folder = ::testing::TempDir(), file = folder + "/tables.json";
  std::ofstream(file) << writeMachineProfile(example());
  const char *text = R"({"nodes": 1, "devices_per_node": 4, "profile": "tables.json"})";
  auto cluster = parseCluster(text, folder);
  ASSERT_TRUE(cluster) << cluster.error().message;
  ASSERT_TRUE(cluster->device.tables);
  EXPECT_EQ(cluster->device.tables->fingerprint(), example().fingerprintHash());
  EXPECT_NE(parseCluster(text, folder + "/nowhere").error().message.find("cannot read '"), std::string::npos);
}

struct Shaped {
  explicit Shaped(Cluster cluster) {
    shape.layers = 2, shape.hidden = 64, shape.heads = 4, shape.kvHeads = 4, shape.ffn = 128, shape.vocab = 256;
    shape.sequence = 64, shape.bytesPerElement = 4;
    problem.cluster = std::move(cluster);
    problem.globalBatch = 4;
    problem.layers = transformerLayers(shape.layers);
    costs.emplace(shape, problem.cluster.device);
    problem.costs = &*costs;
    problem.space = SearchSpace::supported();
  }
  Shaped(const Shaped &) = delete;
  double best() {
    auto solution = solve(problem);
    return solution && solution->plan ? solution->plan->predictedStepSeconds : -1;
  }

  TransformerShape shape;
  Problem problem;
  std::optional<ShapeCosts> costs;
};

/// What docs/search.md proves of prices stays true of tables.
TEST(MachineTables, more_is_never_worse) {
  Shaped base(priced());
  double step = base.best();
  ASSERT_GT(step, 0);
  Cluster cluster = priced();
  cluster.device.tables = cluster.device.tables->withFasterLinks(3);
  cluster.intra.bytesPerSecond *= 3;
  EXPECT_LE(Shaped(cluster).best(), step * (1 + 1e-9));
  cluster = priced();
  cluster.memoryBytesPerDevice *= 2;
  EXPECT_LE(Shaped(cluster).best(), step * (1 + 1e-9));
  Shaped narrow(priced());
  narrow.problem.space.tensor = narrow.problem.space.pipeline = false;
  EXPECT_GE(narrow.best(), step * (1 - 1e-9));
  // One plan for any number of threads.
  SolveOptions threads;
  threads.threads = 3;
  auto solution = solve(base.problem, threads);
  EXPECT_EQ(solution->plan->predictedStepSeconds, step);
}

/// A plan's reasons say which part of its step was measured, and what was not.
TEST(MachineTables, reasons_say_what_was_measured) {
  Shaped shaped(priced());
  Problem &problem = shaped.problem;
  problem.space.tensor = problem.space.pipeline = problem.space.ulysses = problem.space.context = false;
  auto solution = solve(problem);
  ASSERT_TRUE(solution && solution->plan);
  Plan plan = *solution->plan;
  addProfileReason(problem, plan);
  ASSERT_TRUE(plan.reasons.profile);
  // Gradients are summed by four ranks, which no table has.
  EXPECT_EQ(plan.reasons.profile->measuredShare, 0);
  auto &estimated = plan.reasons.profile->estimated;
  EXPECT_TRUE(std::any_of(estimated.begin(), estimated.end(), [](const std::string &what) {
    return what == "all_reduce of 4 ranks, stride 1: not measured, by the links' rates";
  })) << explainProfile(plan);

  problem.cluster = *clusterOf(example(), 2);
  ASSERT_FALSE(applyProfile(example(), "profile.json", problem.cluster));
  ShapeCosts costsOfTwo(shaped.shape, problem.cluster.device);
  problem.costs = &costsOfTwo;
  problem.space.zeroLevels = 1;
  solution = solve(problem);
  ASSERT_TRUE(solution && solution->plan);
  plan = *solution->plan;
  addProfileReason(problem, plan);
  EXPECT_GT(plan.reasons.profile->measuredShare, 0.1) << explainProfile(plan);
  EXPECT_LT(plan.reasons.profile->measuredShare, 1);

  problem.cluster.device.tables = nullptr;
  addProfileReason(problem, plan);
  EXPECT_NE(plan.reasons.notes.back().find("prices: no profile; rates of cpu in general"), std::string::npos);
}

} // namespace
