//===- TraceClock.cpp - one clock for all ranks --------------------------------------------------===//
#include "runtime/core/TraceClock.h"

#include <chrono>

namespace galvatron {
namespace {

/// Exchanges with a rank: so many at least, then until one was as good as ranks of a machine have them, or time is up.
constexpr int kLeastRounds = 100, kTag = 7915;
constexpr int64_t kGoodError = 1000, kMostTime = 30'000'000; // nanoseconds

/// Rank 0's side with one other rank.
ClockReading askRank(int rank) {
  ClockReading best;
  int64_t begin = traceTime();
  for (int round = 0; round < kLeastRounds || (best.error > kGoodError && traceTime() - begin < kMostTime); ++round) {
    char more = 1;
    int64_t there = 0, sent = traceTime();
    MPI_Send(&more, 1, MPI_BYTE, rank, kTag, MPI_COMM_WORLD);
    MPI_Recv(&there, sizeof there, MPI_BYTE, rank, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    int64_t back = traceTime();
    double error = 0.5 * (double)(back - sent);
    if (round == 0 || error < best.error)
      best = {there, (double)(sent - there) + error, error};
  }
  char more = 0;
  MPI_Send(&more, 1, MPI_BYTE, rank, kTag, MPI_COMM_WORLD);
  return best;
}

} // namespace

int64_t traceTime() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

ClockReading exchangeClocks(const World &world) {
  Waiting waiting(world.watched(), "the clocks of all ranks");
  ClockReading own{traceTime(), 0, 0};
  if (world.rank() == 0) {
    for (int rank = 1; rank < world.size(); ++rank) {
      ClockReading reading = askRank(rank);
      MPI_Send(&reading, sizeof reading, MPI_BYTE, rank, kTag, MPI_COMM_WORLD);
    }
    return own;
  }
  while (true) {
    char more = 0;
    MPI_Recv(&more, 1, MPI_BYTE, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    int64_t now = traceTime();
    if (!more)
      break;
    MPI_Send(&now, sizeof now, MPI_BYTE, 0, kTag, MPI_COMM_WORLD);
  }
  MPI_Recv(&own, sizeof own, MPI_BYTE, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return own;
}

double alignTime(int64_t time, const ClockReading &before, const ClockReading &after) {
  double share = after.at > before.at ? (double)(time - before.at) / (double)(after.at - before.at) : 0;
  return (double)time + before.offset + (after.offset - before.offset) * share;
}

} // namespace galvatron
