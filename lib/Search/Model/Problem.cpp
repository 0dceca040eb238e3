//===- Problem.cpp - Anchors of the interfaces; the supported space -------===//

#include "galvatron/Search/Model/Problem.h"

namespace galvatron::search {

CostSource::~CostSource() = default;
CommunicationModel::~CommunicationModel() = default;

std::vector<std::string> CostSource::recomputableValues(const Unit &) const { return {}; }

double CommunicationModel::sendSecondsFrom(std::int64_t, std::int64_t, double bytesPerRank, int distance) const {
  return sendSeconds(bytesPerRank, distance);
}

SearchSpace SearchSpace::supported() {
  // Derived from the one table: a kind of parallelism is on offer when a
  // strategy that uses only it is supported.
  SearchSpace space;
  auto runs = [](Strategy strategy) { return !whyUnsupported(strategy); };
  space.tensor = space.plainTensor = runs({.tp = 2});
  space.ulysses = runs({.ulysses = 2});
  space.context = runs({.cp = 2});
  space.expert = runs({.ep = 2});
  space.sequenceParallel = runs({.tp = 2, .sequenceParallel = true});
  space.recompute = runs({.recompute = true});
  space.strided = runs({.tp = 2, .strided = true});
  space.recomputeValues = runs({.values = 1});
  space.zeroLevels = 1;
  for (int level = 1; level <= 3; ++level)
    if (runs({.zero = level}))
      space.zeroLevels |= 1u << level;
  std::erase_if(space.schedules, [](Schedule schedule) { return whyUnsupported(schedule).has_value(); });
  return space;
}

} // namespace galvatron::search
