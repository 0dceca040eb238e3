//===- Strategy.h - How one layer of a model is divided ----------*- C++ -*-===//
//
// The alphabet of the search: the table of dialects/Plan/Strategy.def. A strategy
// belongs to one layer (embedding, a block, the head) on the ranks of one pipeline
// stage; its data-parallel degree is what is left over.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_STRATEGY_H
#define GALVATRON_SEARCH_MODEL_STRATEGY_H

#include "dialects/Plan/Ranks.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace galvatron::search {

/// What every member means is in the table; the order of ranks is in
/// dialects/Plan/Ranks.h.
struct Strategy {
#define STRATEGY_DEGREE(FIELD, ...) int FIELD = 1;
#define STRATEGY_PART(FIELD, ...) int FIELD = 1;
#define STRATEGY_FLAG(FIELD, ...) bool FIELD = false;
#define STRATEGY_ASKED(FIELD, ...) bool FIELD = false;
#define STRATEGY_LEVEL(FIELD, ...) int FIELD = 0;
#define STRATEGY_CHOICE(FIELD, ...) int FIELD = 0;
#define STRATEGY_SET(FIELD, ...) std::uint32_t FIELD = 0;
#include "dialects/Plan/Strategy.def"

  auto operator<=>(const Strategy &) const = default;

  /// Ranks of one model replica inside the stage.
  int modelRanks() const {
    int product = 1;
#define STRATEGY_DEGREE(FIELD, ...) product *= FIELD;
#include "dialects/Plan/Strategy.def"
    return product;
  }
  /// Ranks over which ZeRO shards, given the data-parallel degree.
  int shardRanks(int dp) const { return dp * ulysses * cp; }
  /// Over how many ranks the sequence of a boundary value is cut.
  int sequenceCut() const { return (sequenceParallel ? tp : 1) * ulysses * cp; }
};

/// The same as numbers of the table's rows, and back; the data-parallel degree is
/// apart here.
plan::StrategyValues valuesOf(const Strategy &strategy, int dp);
Strategy strategyOf(const plan::StrategyValues &values);

enum class Schedule {
  GPipe,
  OneFOneB,
  Interleaved,
  ZeroBubble,  ///< ZB-H1
  ZeroBubbleV, ///< ZB-V
};

/// "gpipe", "1f1b", "interleaved", "zb-h1", "zb-v".
std::string_view scheduleName(Schedule schedule);
/// Whether weights have a backward of their own.
inline bool splitsBackward(Schedule schedule) {
  return schedule == Schedule::ZeroBubble || schedule == Schedule::ZeroBubbleV;
}
/// Reads the above; also "pipedream_flush", the reference's word for 1f1b, and "zb", an older one for zb-h1.
std::optional<Schedule> parseSchedule(std::string_view name);

/// "dp=4 tp=2 sp zero3 recompute": only what differs from 1 or off.
std::string describe(const Strategy &strategy, int dp);

/// What `galvatron-opt --lower` can run today: the space "supported", plan reading
/// for the lowering and documentation all ask here. Returns the key in the way and
/// the remedy, or nothing when the strategy is supported.
std::optional<std::string> whyUnsupported(const Strategy &strategy);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_STRATEGY_H
