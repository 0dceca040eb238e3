//===- Problem.cpp - Anchors of the interfaces; the supported space -------===//

#include "galvatron/Search/Model/Problem.h"

#include <cstdlib>

namespace galvatron::search {

CostSource::~CostSource() = default;
CommunicationModel::~CommunicationModel() = default;

std::vector<std::string> CostSource::recomputableValues(const Layer &layer) const { return layer.recomputableValues; }

std::vector<Strategy> CostSource::settle(const Layer &, const Strategy &strategy, int) const { return {strategy}; }

double CommunicationModel::sendSecondsFrom(std::int64_t, std::int64_t, double bytesPerRank, int distance) const {
  return sendSeconds(bytesPerRank, std::abs(distance));
}

SearchSpace SearchSpace::supported() {
  // Derived from the one table: a kind of parallelism is on offer when a
  // strategy that uses only it is supported.
  SearchSpace space;
  auto runs = [](plan::StrategyValues values) { return plan::whyUnsupported(values).empty(); };
#define STRATEGY_DEGREE(FIELD, NAME, KEY, ORDER, WANTS, SPACE, ...) space.SPACE = runs({.FIELD = 2});
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, WANTS, SPACE, ...) space.SPACE = runs({.FIELD = 2});
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, WANTS, SPACE, ...) space.SPACE = runs({.FIELD = 1});
#define STRATEGY_SET(FIELD, NAME, KEY, SPACE, ...) space.SPACE = runs({.FIELD = 1});
#include "dialects/Plan/Strategy.def"
  space.plainTensor = space.tensor;
  space.zeroLevels = 1;
  for (int level = 1; level <= 3; ++level)
    if (runs({.zero = level}))
      space.zeroLevels |= 1u << level;
  return space;
}

} // namespace galvatron::search
