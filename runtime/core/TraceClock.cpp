//===- TraceClock.cpp - one clock for all ranks --------------------------------------------------===//
#include "runtime/core/TraceClock.h"

#include <chrono>

namespace galvatron {
namespace {

constexpr int kRounds = 100, kTag = 7915;

/// Rank 0's side with one other rank.
ClockReading askRank(int rank) {
  ClockReading best;
  for (int round = 0; round < kRounds; ++round) {
    int64_t there = 0, sent = traceTime();
    MPI_Send(nullptr, 0, MPI_BYTE, rank, kTag, MPI_COMM_WORLD);
    MPI_Recv(&there, sizeof there, MPI_BYTE, rank, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    int64_t back = traceTime();
    double error = 0.5 * (double)(back - sent);
    if (round == 0 || error < best.error)
      best = {there, (double)(sent - there) + error, error};
  }
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
  for (int round = 0; round < kRounds; ++round) {
    MPI_Recv(nullptr, 0, MPI_BYTE, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    int64_t now = traceTime();
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
