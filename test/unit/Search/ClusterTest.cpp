// What a rank's device has in use beside its plan, as cluster files say it.
#include "galvatron/Search/Model/Cluster.h"

#include "galvatron/Search/Formats/ClusterFile.h"

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
      R"({"context": 1000000, "library": 100000, "group": 1000, "direction": 10, "peer": 7, "sums": 1, "mapping": 100, "call": 3})"));
  ASSERT_TRUE(read) << read.error().message;
  const OverheadBytes &overhead = read->device.overhead;
  EXPECT_EQ(overhead.of({}, 4ll << 30), 1000000);
  EXPECT_EQ(overhead.of({.groups = {2}}, 0), 1101000);
  EXPECT_EQ(overhead.of({.groups = {4, 2}, .isForSums = true}, 0), 1102001);
  EXPECT_EQ(overhead.of({.groups = {}, .channels = 2, .isForSums = true}, 0), 1100021);
  EXPECT_EQ(overhead.of({.groups = {4}, .peers = 3}, 0), 1101021);
  EXPECT_EQ(overhead.of({.groups = {4}, .calls = 5}, 0), 1101015);
  EXPECT_EQ(overhead.of({.groups = {2}}, 3ll << 29), 1101000 + 150); // one and a half GiB
  EXPECT_EQ(read->device.overheadBytes, 1100000);                    // under any plan for four ranks
}

TEST(Cluster, missing_parts_are_those_of_the_kind) {
  auto read = parseCluster(cluster(R"({"context": 5})"));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->device.overhead.context, 5);
  EXPECT_EQ(read->device.overhead.library, findDeviceKind("h200")->overhead.library);
  EXPECT_GT(findDeviceKind("h200")->overhead.group, 0);
  EXPECT_EQ(findDeviceKind("cpu")->overhead.of({.groups = {2}, .channels = 1, .peers = 1, .calls = 1, .isForSums = true}, 1), 0);
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
  EXPECT_NE(with(R"({"GB_per_s": 1e300})").find("expects a rate below 1e9"), std::string::npos);
  EXPECT_NE(with(R"({"us": 1e300})").find("expects a latency below 1e12"), std::string::npos);
  EXPECT_NE(with(R"({"sends": [{"MB": 1, "GB_per_s": 1e300}]})").find("expects sizes and rates below 1e9 GB"),
            std::string::npos);
}

TEST(Cluster, refuses_what_is_no_size) {
  for (const char *text : {"-1", "\"much\"", "{\"context\": -1}", "{\"nccl\": 1}"}) {
    auto read = parseCluster(cluster(text));
    ASSERT_FALSE(read) << text;
    EXPECT_NE(read.error().message.find("reserved_bytes_per_device"), std::string::npos) << read.error().message;
  }
}

} // namespace
