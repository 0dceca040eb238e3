//===- Strategy.h - How one unit of a model is divided ----------*- C++ -*-===//
//
// The alphabet of the search, and the one table of what the lowering can run
// today. A strategy belongs to one unit (embedding, a layer, the head) on the
// ranks of one pipeline stage; its data-parallel degree is what is left over.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_STRATEGY_H
#define GALVATRON_SEARCH_MODEL_STRATEGY_H

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace galvatron::search {

/// Order of ranks inside a stage, slowest first: dp, cp, tp, ulysses.
struct Strategy {
  int tp = 1;      ///< tensor parallel degree
  int ulysses = 1; ///< Ulysses sequence parallel degree
  int cp = 1;      ///< context parallel degree
  int ep = 1;      ///< expert parallel degree, inside dp
  /// Megatron sequence parallelism: with tp > 1, values outside of the
  /// tensor-parallel regions are cut over the sequence too.
  bool sequenceParallel = false;
  /// 0, or the ZeRO level: 1 optimizer state, 2 + gradients, 3 + parameters,
  /// sharded over dp × cp × ulysses.
  int zero = 0;
  /// Recompute the unit's forward values in backward.
  bool recompute = false;
  /// The ranks of a tensor group are as far apart as the stage allows (order,
  /// slowest first: tp, dp, cp, ulysses), so that those that share gradients are
  /// neighbours instead.
  bool strided = false;
  /// Without `recompute`: which of the unit's values backward makes again, bit k
  /// for the k-th name of `CostSource::recomputableValues`.
  std::uint32_t values = 0;

  auto operator<=>(const Strategy &) const = default;

  /// Ranks of one model replica inside the stage.
  int modelRanks() const { return tp * ulysses * cp; }
  /// Ranks over which ZeRO shards, given the data-parallel degree.
  int shardRanks(int dp) const { return dp * ulysses * cp; }
  /// Over how many ranks the sequence of a boundary value is cut.
  int sequenceCut() const { return (sequenceParallel ? tp : 1) * ulysses * cp; }
};

enum class Schedule { GPipe, OneFOneB, Interleaved, ZeroBubble };

/// "gpipe", "1f1b", "interleaved", "zb".
std::string_view scheduleName(Schedule schedule);
/// Reads the above; also "pipedream_flush", the reference's word for 1f1b.
std::optional<Schedule> parseSchedule(std::string_view name);

/// "tp=2 dp=4 sp zero3 recompute": only what differs from 1 or off.
std::string describe(const Strategy &strategy, int dp);

/// What `galvatron-opt --lower` can run today. This is the only place that
/// says so: the space "supported", plan reading for the lowering and
/// documentation all ask here. Returns the key in the way and the remedy, or
/// nothing when the strategy is supported.
std::optional<std::string> whyUnsupported(const Strategy &strategy);
std::optional<std::string> whyUnsupported(Schedule schedule);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_STRATEGY_H
