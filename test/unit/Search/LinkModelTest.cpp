//===- LinkModelTest.cpp - Times on links ---------------------------------===//

#include "galvatron/Search/Model/LinkModel.h"
#include "RandomPlan.h"
#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Solver/Solver.h"

#include <gtest/gtest.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
/// Two nodes of four; 100 GB/s and 1 us within, 10 GB/s and 10 us across.
Cluster twoNodes() {
  Cluster cluster = *hostCluster(4, 1ll << 40, "h100");
  cluster.nodes = 2;
  cluster.intra = {1e11, 1e-6};
  cluster.inter = {1e10, 1e-5};
  return cluster;
}

TEST(LinkModel, collectives_take_latency_and_bandwidth) {
  LinkModel links(twoNodes());
  using Kind = CollectiveKind;
  // Ring of 4: each rank passes on 3/4 of the value; gathers double in 2 rounds.
  EXPECT_NEAR(links.seconds(Kind::AllGather, 1e9, {4, 1}), 2e-6 + 0.75 * 1e9 / 1e11, 1e-12);
  EXPECT_NEAR(links.seconds(Kind::AllReduce, 1e9, {4, 1}), 2 * (2e-6 + 0.75 * 1e9 / 1e11), 1e-12);
  EXPECT_NEAR(links.seconds(Kind::AllToAll, 1e9, {4, 1}), 3e-6 + 0.75 * 1e9 / 1e11, 1e-12);
  EXPECT_EQ(links.seconds(Kind::AllReduce, 1e9, {1, 1}), 0);
  // Neighbours stay within the node, far ones do not.
  EXPECT_GT(links.seconds(Kind::AllReduce, 1e8, {2, 4}), 5 * links.seconds(Kind::AllReduce, 1e8, {2, 1}));
  // Both nodes: the slow link sees a quarter of the value from each rank.
  double inside = 2 * (2e-6 + 0.75 * 1e9 / 1e11), across = 2 * (1e-5 + 0.5 * 0.25e9 / 1e10);
  EXPECT_NEAR(links.seconds(Kind::AllReduce, 1e9, {8, 1}), inside + across, 1e-9);
  // 0 1 4 5: two of each node, which are neighbours.
  galvatron::plan::GroupShape pairs;
  pairs.loops = {{2, 1}, {2, 4}};
  inside = 2 * (1e-6 + 0.5 * 1e9 / 1e11), across = 2 * (1e-5 + 0.5 * 0.5e9 / 1e10);
  EXPECT_NEAR(links.seconds(Kind::AllReduce, 1e9, pairs), inside + across, 1e-9);
}

TEST(LinkModel, messages_dip_at_middle_sizes) {
  Result<Cluster> cluster = parseCluster(R"({"nodes": 2, "devices_per_node": 1, "device": "h100", "links": {"inter":
      {"GB_per_s": 40, "us": 10, "sends": [{"MB": 1, "GB_per_s": 30}, {"MB": 4, "GB_per_s": 12},
                                           {"MB": 16, "GB_per_s": 38}]}}})");
  ASSERT_TRUE(cluster) << cluster.error().message;
  EXPECT_NEAR(cluster->inter.sendBytesPerSecond(0.1e6), 30e9, 1);
  EXPECT_NEAR(cluster->inter.sendBytesPerSecond(2e6), 21e9, 1); // half way, by the logarithm
  EXPECT_NEAR(cluster->inter.sendBytesPerSecond(4e6), 12e9, 1);
  EXPECT_NEAR(cluster->inter.sendBytesPerSecond(64e6), 38e9, 1);
  LinkModel links(*cluster);
  EXPECT_NEAR(links.sendSeconds(4e6, 1), 1e-5 + 4e6 / 12e9, 1e-12);
  EXPECT_NEAR(links.sendSeconds(64e6, 1), 1e-5 + 64e6 / 38e9, 1e-12);
  // Collectives cut their messages and keep to the link's rate.
  EXPECT_NEAR(links.seconds(CollectiveKind::AllGather, 8e6, {2, 1}), 1e-5 + 4e6 / 40e9, 1e-12);
}

TEST(LinkModel, a_group_is_as_fast_as_its_slowest_node) {
  Cluster cluster = twoNodes();
  cluster.nodes = 3;
  cluster.interOfNode.assign(3, cluster.inter);
  cluster.interOfNode[1].bytesPerSecond = 2e9;
  cluster.interOfNode[2].sends = {{1e6, 1e9}};
  cluster.inter = cluster.interOfRanks(0, 12);
  EXPECT_EQ(cluster.interOfRanks(0, 4).bytesPerSecond, 1e10);
  EXPECT_EQ(cluster.interOfRanks(0, 5).bytesPerSecond, 2e9);
  // What one node measured limits the group, whichever comes first.
  EXPECT_EQ(cluster.interOfRanks(0, 12).sendBytesPerSecond(1e6), 1e9);
  LinkModel links(cluster);
  EXPECT_NEAR(links.sendSecondsFrom(0, 4, 1e6, 4), 1e-5 + 1e6 / 2e9, 1e-12);
  EXPECT_NEAR(links.sendSecondsFrom(4, 4, 1e6, 4), 1e-5 + 1e6 / 1e9, 1e-12);
  EXPECT_NEAR(links.sendSecondsFrom(0, 2, 1e6, 2), 1e-6 + 1e6 / 1e11, 1e-12); // one node
}

TEST(LinkModel, a_slow_node_makes_the_plan_slower) {
  RandomCase made = randomCase(1);
  Cluster &cluster = made.problem.cluster;
  cluster.nodes = 2;
  cluster.devicesPerNode = 2;
  cluster.interOfNode.assign(2, cluster.inter);
  auto fast = solve(made.problem);
  ASSERT_TRUE(fast && fast->plan);
  cluster.interOfNode[1].bytesPerSecond /= 1000;
  cluster.inter = cluster.interOfRanks(0, 4);
  auto slow = solve(made.problem);
  ASSERT_TRUE(slow && slow->plan);
  EXPECT_GT(slow->plan->predictedStepSeconds, fast->plan->predictedStepSeconds);
}

TEST(Cluster, refuses_what_no_machine_has) {
  for (auto [text, complaint] : {
           std::pair{R"({"nodes": 0, "devices_per_node": 4})", "key 'nodes' expects an integer of at least 1"},
           {R"({"nodes": 1})", "lacks the key 'devices_per_node'"},
           {R"({"nodes": 1, "devices_per_node": 1, "device": "tpu"})", "expects a device out of cpu"},
           {R"({"nodes": 1, "devices_per_node": 1, "memory": 3})", "unknown key 'memory'"},
           {R"({"nodes": 1, "devices_per_node": 1, "memory_bytes_per_device": 0})", "at least 1, but got 0"},
           {R"({"nodes": 1, "devices_per_node": 2, "links": {"intra": {"GB_per_s": 0}}})", "above 0, but got 0"},
           {R"({"nodes": 1, "devices_per_node": 2, "links": {"intra": {"us": -1}}})", "latency of at least 0"},
           {R"({"nodes": 2, "devices_per_node": 2, "links": {"inter": [{"GB_per_s": 1}]}})",
            "one entry for each of 2 nodes"},
           {R"({"nodes": 2, "devices_per_node": 2, "links": {"inter": {"sends": []}}})", "expects a list of"},
           {R"({"nodes": 2, "devices_per_node": 2, "links": {"inter": {"sends": [{"MB": 2, "GB_per_s": 1},
               {"MB": 1, "GB_per_s": 1}]}}})",
            "expects rising sizes"},
           {R"({"nodes": 2, "devices_per_node": 2, "links": {"inter": {"sends": [{"MB": 2, "GB_per_s": -1}]}}})",
            "above 0, but got -1"},
       }) {
    Result<Cluster> cluster = parseCluster(text);
    ASSERT_FALSE(cluster) << text;
    EXPECT_NE(cluster.error().message.find(complaint), std::string::npos) << cluster.error().message;
  }
}
} // namespace
