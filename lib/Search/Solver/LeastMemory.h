//===- LeastMemory.h - The smallest budget with a plan ----------*- C++ -*-===//
//
// Private to lib/Search. What to say when nothing fits.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_LEASTMEMORY_H
#define GALVATRON_SEARCH_SOLVER_LEASTMEMORY_H

#include "Candidate.h"

#include <cstdint>
#include <limits>

namespace galvatron::search {

/// The least memory with which some plan of a candidate exists.
struct LeastMemory {
  std::int64_t bytes = std::numeric_limits<std::int64_t>::max();
  int stage = 0, layer = 0;
  const Option *option = nullptr;
  Choice choice; ///< the plan
};

/// Exact where stage borders are free: not for interleaved plans.
LeastMemory findLeastMemory(const Candidate &candidate);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_LEASTMEMORY_H
