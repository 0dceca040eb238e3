// What a profile says of another host, and of the machine that it was taken on.
#include "galvatron/Search/Model/ProfileWarnings.h"

#include <cstdlib>
#include <fstream>
#include <gmock/gmock.h>

using namespace galvatron::search;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

namespace {

MachineProfile example() {
  MachineProfile profile;
  profile.fingerprint = {{"target", "cpu"}, {"device", "epyc"}, {"hosts", "a, b"}};
  profile.cluster = *hostCluster(2);
  profile.devices = {{0, "a", 0, 2600}, {1, "b", 0, 2600}};
  return profile;
}

using Here = std::map<std::string, std::string>;

TEST(ProfileWarnings, where_all_is_alike_there_are_none) {
  EXPECT_THAT(findWarnings(example(), "p.json", {{"device", "epyc"}, {"hosts", "b"}, {"clock_mhz", "2550"}}),
              IsEmpty());
  EXPECT_THAT(findWarnings(example(), "p.json", {}), IsEmpty());
  EXPECT_THAT(findWarnings(example(), "p.json", {{"driver", "550"}}), IsEmpty()) << "the profile says none";
}

TEST(ProfileWarnings, other_hosts_processors_and_clocks_are_named) {
  EXPECT_THAT(
      findWarnings(example(), "p.json", {{"device", "xeon"}, {"hosts", "c"}, {"clock_mhz", "1800.5"}}),
      ElementsAre("profile 'p.json': it was taken with device 'epyc', but here it is 'xeon'; what it predicts "
                  "holds there",
                  "profile 'p.json': it was taken with hosts 'a, b', but here it is 'c'; what it predicts holds "
                  "there",
                  "profile 'p.json': its devices ran at 2600 MHz, this host at 1800; what it predicts holds at "
                  "those clocks"));
}

TEST(ProfileWarnings, of_gpus_the_driver_counts_and_the_processor_does_not) {
  MachineProfile profile = example();
  profile.cluster.device = *findDeviceKind("h200");
  profile.fingerprint["driver"] = "550";
  EXPECT_THAT(findWarnings(profile, "p.json", {{"device", "xeon"}, {"driver", "570"}, {"clock_mhz", "1800"}}),
              ElementsAre(HasSubstr("it was taken with driver '550', but here it is '570'")));
}

/// Of the environment, then of files in order; what sizes no buffer is none of it.
TEST(ProfileWarnings, nccl_s_variables_that_change_memory_are_compared) {
  std::string folder = testing::TempDir();
  std::ofstream(folder + "/first.conf") << "# NCCL_PROTO=LL\nNCCL_BUFFSIZE = 1048576 \nNCCL_DEBUG=INFO\n";
  std::ofstream(folder + "/second.conf") << "NCCL_BUFFSIZE=2\nNCCL_PROTO=Simple\n";
  std::vector<std::string> files = {folder + "/first.conf", folder + "/second.conf", folder + "/absent.conf"};
  EXPECT_EQ(describeNcclMemory({}), "default");
  EXPECT_EQ(describeNcclMemory({files[0]}), "NCCL_BUFFSIZE=1048576");
  EXPECT_EQ(describeNcclMemory(files), "NCCL_BUFFSIZE=1048576 NCCL_PROTO=Simple");
  setenv("NCCL_BUFFSIZE", "4194304", 1);
  EXPECT_EQ(describeNcclMemory(files), "NCCL_BUFFSIZE=4194304 NCCL_PROTO=Simple");
  unsetenv("NCCL_BUFFSIZE");
  MachineProfile profile = example();
  profile.cluster.device = *findDeviceKind("h200");
  profile.fingerprint["nccl"] = "NCCL_BUFFSIZE=4194304";
  EXPECT_THAT(findWarnings(profile, "p.json", {{"nccl", "default"}}),
              ElementsAre(HasSubstr("it was taken with nccl 'NCCL_BUFFSIZE=4194304', but here it is 'default'")));
  EXPECT_THAT(findWarnings(profile, "p.json", {{"nccl", "NCCL_BUFFSIZE=4194304"}}), IsEmpty());
}

TEST(ProfileWarnings, what_was_wrong_when_it_was_taken_is_said) {
  MachineProfile profile = example();
  profile.devices[1].clockMhz = 1300;
  profile.stragglers = {{1, "b", 0, 0.4}};
  profile.wasBusy = true;
  EXPECT_THAT(
      findWarnings(profile, "p.json", {}),
      ElementsAre("profile 'p.json': rank 1 (host b, device 0) ran at 1300 MHz, the fastest at 2600; prices are "
                  "the slowest rank's",
                  "profile 'p.json': rank 1 (host b, device 0) took 40 % longer than the median; prices are the "
                  "slowest rank's",
                  HasSubstr("others used the machine while it was measured (--allow-busy)")));
}

TEST(ProfileWarnings, this_host_has_a_name) { EXPECT_FALSE(lookAtThisHost()["hosts"].empty()); }

} // namespace
