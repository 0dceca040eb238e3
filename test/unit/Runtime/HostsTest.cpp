// What two hosts may see of one run's files.
#include "runtime/core/Hosts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace galvatron;

namespace {

TEST(Hosts, AMissingOrAnotherFileIsNamed) {
  auto message = [](const std::string &first, const std::string &other) {
    return compareHosts({"a", "a", "b"}, {first, first, other}).message;
  };
  EXPECT_EQ(message("/x\t1\n/y\t\n", "/x\t1\n/y\t\n"), "");
  EXPECT_EQ(message("/x\t1\n/y\t2\n", "/x\t1\n/y\t3\n"),
            "host b (rank 2) has another /y than host a; copy it there, or put it where all hosts see it");
  EXPECT_EQ(message("/y\t2\n", "/y\t\n"),
            "host b has no /y, which host a has; copy it there, or put it where all hosts see it");
  EXPECT_EQ(message("/y\t\n", "/y\t2\n"),
            "host a has no /y, which host b has; copy it there, or put it where all hosts see it");
  EXPECT_EQ(message("/lib/x\t2\n", "/other/x\t2\n"),
            "host b (rank 2) uses /other/x where host a uses /lib/x; put the same folder of the program at one path on "
            "all hosts");
}

} // namespace
