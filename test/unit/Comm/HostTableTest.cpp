// Tables that the ranks of a host have once.
#include "runtime/data/HostTable.h"

#include <gtest/gtest.h>

#include <cstring>

using namespace galvatron;

namespace {

TEST(HostTable, IsFilledOnceAndTheSameForAll) {
  int rank, fills = 0, allFills;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  Progress progress;
  Host host(progress);
  constexpr int64_t kBytes = 100'000;
  std::shared_ptr<const char> first = host.makeTable(kBytes, [&](char *table) {
    std::memset(table, 1 + rank, kBytes);
    ++fills;
  });
  std::shared_ptr<const char> empty = host.makeTable(0, [](char *) {});
  MPI_Allreduce(&fills, &allFills, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  EXPECT_EQ(allFills, 1);
  EXPECT_EQ(fills, rank == 0);
  EXPECT_EQ(first.get()[0], 1); // the first rank's, and still there
  EXPECT_EQ(first.get()[kBytes - 1], 1);
}

} // namespace
