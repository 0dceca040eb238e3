// What a rank's device has in use beside its plan, as cluster files say it.
#include "galvatron/Search/Model/Cluster.h"

#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Model/Plan.h"

#include <gtest/gtest.h>

using namespace galvatron::search;

namespace {

std::string cluster(const std::string &overhead) {
  return R"({"nodes": 1, "devices_per_node": 4, "device": "h200", "reserved_bytes_per_device": )" + overhead + "}";
}

TEST(Cluster, one_number_is_for_every_rank) {
  auto read = parseCluster(cluster("1000"));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->device.overhead.of({.groups = {2, 4}, .channels = 2, .isForSums = true}, 1 << 30), 1000);
  EXPECT_EQ(read->device.overheadBytes, 1000);
}

TEST(Cluster, parts_add_up_by_communicators) {
  auto read = parseCluster(cluster(
      R"({"context": 1000000, "library": 100000, "group": 1000, "direction": 10, "peer": 7, "sums": 1, "mapping": 100, "call": 3, "entry": 2})"));
  ASSERT_TRUE(read) << read.error().message;
  const OverheadBytes &overhead = read->device.overhead;
  EXPECT_EQ(overhead.of({}, 4ll << 30), 1000000);
  EXPECT_EQ(overhead.of({.groups = {2}}, 0), 1101000);
  EXPECT_EQ(overhead.of({.groups = {4, 2}, .isForSums = true}, 0), 1102001);
  EXPECT_EQ(overhead.of({.groups = {}, .channels = 2, .isForSums = true}, 0), 1100021);
  EXPECT_EQ(overhead.of({.groups = {4}, .peers = 3}, 0), 1101021);
  EXPECT_EQ(overhead.of({.groups = {4}, .calls = 5}, 0), 1101015);
  EXPECT_EQ(overhead.of({.entries = 7}, 0), 1000014);
  EXPECT_EQ(overhead.of({.groups = {4}, .entries = 7}, 0), 1101014);
  EXPECT_EQ(overhead.of({.groups = {2}}, 3ll << 29), 1101000 + 150); // one and a half GiB
  EXPECT_EQ(read->device.overheadBytes, 1100000);                    // under any plan for four ranks
}

TEST(Cluster, missing_parts_are_those_of_the_kind) {
  auto read = parseCluster(cluster(R"({"context": 5})"));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->device.overhead.context, 5);
  EXPECT_EQ(read->device.overhead.library, findDeviceKind("h200")->overhead.library);
  EXPECT_GT(findDeviceKind("h200")->overhead.group, 0);
  EXPECT_EQ(findDeviceKind("cpu")->overhead.of(
                {.groups = {2}, .channels = 1, .peers = 1, .calls = 1, .entries = 1, .isForSums = true}, 1),
            0);
}

TEST(Cluster, peaks_are_the_kinds_or_the_files) {
  auto read = parseCluster(cluster("1000"));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->device.peakNarrowFlopsPerSecond, 9.89e14);
  EXPECT_EQ(findDeviceKind("cpu")->peakFloatFlopsPerSecond, 0); // unknown
  auto with = [](const std::string &peak) {
    return parseCluster(R"({"nodes": 1, "devices_per_node": 4, "peak_flops_per_second": )" + peak + "}");
  };
  EXPECT_EQ(with("2e12")->device.peakFloatFlopsPerSecond, 2e12);
  EXPECT_NE(with("0").error().message.find("key 'peak_flops_per_second' expects a number above 0"), std::string::npos);
}

TEST(Cluster, refuses_rates_that_no_link_has) {
  auto with = [](const std::string &link) {
    auto read = parseCluster(R"({"nodes": 1, "devices_per_node": 4, "links": {"intra": )" + link + "}}");
    return read ? "" : read.error().message;
  };
  EXPECT_NE(with(R"({"GB_per_s": 1e300})").find("expects a rate from 1e-9 to below 1e9"), std::string::npos);
  EXPECT_NE(with(R"({"us": 1e300})").find("expects a latency below 1e12"), std::string::npos);
  EXPECT_NE(with(R"({"sends": [{"MB": 1, "GB_per_s": 1e300}]})").find("expects sizes and rates from 1 byte to below 1e9 GB"),
            std::string::npos);
}

TEST(Cluster, nccl_is_of_gpus_or_as_the_file_says) {
  auto with = [](const std::string &rest) {
    return parseCluster(R"({"nodes": 1, "devices_per_node": 2)" + rest + "}");
  };
  EXPECT_FALSE(with("")->nccl);
  EXPECT_FALSE(with(R"(, "device": "h200")")->nccl->nvls);
  EXPECT_EQ(with(R"(, "device": "h200")")->nccl->maxBlocks, 32);
  EXPECT_EQ(with(R"(, "nccl": {"nvls": false, "max_blocks": 16})")->nccl->maxBlocks, 16);
  auto problem = [&](const std::string &nccl) {
    auto read = with(R"(, "device": "h200", "nccl": )" + nccl);
    return read ? "" : read.error().message;
  };
  EXPECT_EQ(problem(R"({"nvls": true})"),
            "cluster key 'nccl' has nvls true, whose memory is only known where it was measured; name a profile taken "
            "with --nvls on as 'profile', or set it to false");
  EXPECT_NE(problem(R"({"max_blocks": 33})").find("cluster key 'nccl' key 'max_blocks' expects"), std::string::npos)
      << problem(R"({"max_blocks": 33})");
  EXPECT_NE(problem(R"({"max_blocks": 0})").find("key 'max_blocks'"), std::string::npos);
  EXPECT_NE(problem(R"({"nvls": 1})").find("key 'nvls' expects"), std::string::npos) << problem(R"({"nvls": 1})");
  EXPECT_NE(problem(R"({"channels": 1})").find("cluster key 'nccl'"), std::string::npos);
}

TEST(Cluster, a_plan_records_nccl_and_has_no_more_than_its_cluster) {
  Cluster gpus = *hostCluster(2, 0, "h200");
  Plan plan;
  EXPECT_FALSE(recordNccl(gpus, plan));
  EXPECT_FALSE(plan.nccl->nvls);
  plan.nccl->maxBlocks = 16;
  EXPECT_FALSE(recordNccl(gpus, plan));
  EXPECT_EQ(plan.nccl->maxBlocks, 16); // its own
  plan.nccl->nvls = true;
  EXPECT_NE(recordNccl(gpus, plan)
                ->message.find("plan key 'nccl' has nvls true, but the cluster has not; give one with "
                               "--cluster that has"),
            std::string::npos);
  gpus.nccl->nvls = true;
  EXPECT_FALSE(recordNccl(gpus, plan));
}

TEST(Cluster, refuses_what_is_no_size) {
  for (const char *text : {"-1", "\"much\"", "{\"context\": -1}", "{\"nccl\": 1}"}) {
    auto read = parseCluster(cluster(text));
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().message.find("reserved_bytes_per_device"), std::string::npos) << read.error().message;
  }
}

} // namespace
