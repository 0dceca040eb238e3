// Ranks on hosts: which are a cluster, and what is said of those that are none.
#include "lib/Profile/Hosts.h"

#include <cstring>
#include <gtest/gtest.h>

using namespace galvatron::profile;

namespace {

HostFacts host(const char *name, const char *device = "epyc", std::int64_t memory = 1ll << 34) {
  HostFacts facts;
  std::strcpy(facts.host, name);
  std::strcpy(facts.device, device);
  facts.memoryBytes = memory;
  facts.cores = 2;
  return facts;
}

std::vector<std::string> libraries(const std::vector<HostFacts> &hosts) {
  return std::vector<std::string>(hosts.size(), "oneDNN");
}

std::string errorOf(const std::vector<HostFacts> &hosts, std::int64_t perNode = 0) {
  auto grid = placeRanks(hosts, libraries(hosts), perNode);
  return grid ? "" : grid.error().message;
}

TEST(Hosts, ranks_in_order_are_nodes) {
  std::vector<HostFacts> hosts = {host("a"), host("a"), host("b"), host("b")};
  auto grid = placeRanks(hosts, libraries(hosts), 0);
  ASSERT_TRUE(grid) << grid.error().message;
  EXPECT_EQ(grid->nodes, 2);
  EXPECT_EQ(grid->devicesPerNode, 2);
  EXPECT_TRUE(grid->warnings.empty());
  grid = placeRanks(hosts, libraries(hosts), 1);
  EXPECT_EQ(grid->nodes, 4);
}

TEST(Hosts, more_ranks_than_cores_are_warned_of) {
  std::vector<HostFacts> hosts(4, host("a"));
  auto grid = placeRanks(hosts, libraries(hosts), 0);
  ASSERT_EQ(grid->warnings.size(), 1u);
  EXPECT_NE(grid->warnings[0].find("has 4 ranks on 2 cores; what is predicted from such a profile is not promised"),
            std::string::npos)
      << grid->warnings[0];
}

TEST(Hosts, what_is_no_cluster_is_refused_with_both_figures) {
  const char *uneven = "expects ranks to fill hosts evenly and in order";
  EXPECT_NE(errorOf({host("a"), host("a"), host("b")}).find(uneven), std::string::npos);
  EXPECT_NE(errorOf({host("a"), host("b"), host("b")}).find(uneven), std::string::npos);
  EXPECT_NE(errorOf({host("a"), host("a"), host("b"), host("a")}).find(uneven), std::string::npos);
  EXPECT_NE(errorOf({host("a"), host("b", "xeon")}).find("one kind of device, but 'a' has 'epyc' and 'b' has 'xeon'"),
            std::string::npos);
  EXPECT_NE(errorOf({host("a"), host("b", "epyc", 1 << 30)})
                .find("expects hosts of equal memory, but 'a' has 17179869184 bytes and 'b' has 1073741824"),
            std::string::npos);
  EXPECT_NE(errorOf({host("a"), host("a")}, 3).find("--devices-per-node expects a divisor of the 2 ranks of a host"),
            std::string::npos);
  auto grid = placeRanks({host("a"), host("b")}, {"one", "two"}, 0);
  EXPECT_NE(grid.error().message.find("one device library on all hosts, but rank 0 has 'one' and rank 1 has 'two'"),
            std::string::npos);
}

TEST(Hosts, nccl_s_variables_are_alike_on_all_ranks) {
  EXPECT_FALSE(compareNccl({"default", "default"}));
  EXPECT_EQ(compareNccl({"default", "NCCL_BUFFSIZE=1"})->message,
            "expects NCCL's variables that change memory alike on all ranks, but rank 0 has 'default' and rank 1 has "
            "'NCCL_BUFFSIZE=1'; set them alike");
}

TEST(Hosts, busy_ones_are_named) {
  std::vector<HostFacts> hosts = {host("a"), host("b")};
  EXPECT_EQ(describeBusy(hosts, false), "");
  hosts[1].busyCores = 1.25;
  EXPECT_EQ(describeBusy(hosts, false), "host 'b' is busy: 1.2 of its 2 cores work for others; wait until they are "
                                        "through, or give --allow-busy (the profile then says so)");
  EXPECT_NE(describeBusy(hosts, true).find("; the profile is marked"), std::string::npos);
}

} // namespace
