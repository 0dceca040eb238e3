//===- LateGather.cpp - every rank's text, without waiting for the slowest -------------------------===//
#include "runtime/core/LateGather.h"

namespace galvatron {

void LateGather::open() { MPI_Comm_dup(MPI_COMM_WORLD, &communicator); }

void LateGather::begin(std::string text) {
  int ranks;
  MPI_Comm_size(communicator, &ranks);
  own = std::move(text);
  size = (int)own.size();
  sizes.assign(ranks, 0);
  hasSizes = false;
  MPI_Iallgather(&size, 1, MPI_INT, sizes.data(), 1, MPI_INT, communicator, &request);
}

bool LateGather::isDone() {
  int done = 0;
  MPI_Test(&request, &done, MPI_STATUS_IGNORE);
  if (!done)
    return false;
  if (!hasSizes) {
    hasSizes = true;
    starts.assign(sizes.size(), 0);
    for (size_t r = 1; r < sizes.size(); ++r)
      starts[r] = starts[r - 1] + sizes[r - 1];
    all.assign(starts.back() + sizes.back(), '\0');
    MPI_Iallgatherv(own.data(), size, MPI_CHAR, all.data(), sizes.data(), starts.data(), MPI_CHAR, communicator,
                    &request);
    return isDone();
  }
  result.clear();
  for (size_t r = 0; r < sizes.size(); ++r)
    result.push_back(all.substr(starts[r], sizes[r]));
  return true;
}

} // namespace galvatron
