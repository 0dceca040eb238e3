//===- StageCosts.h - What units cost on a stage ----------------*- C++ -*-===//
//
// Private to lib/Search. Turns the answers of a cost source into the few
// numbers that the search adds up, for one setting (pipeline degree,
// micro-batches): time of a micro-batch, tail of a step, memory, and the layout
// of the boundary value, whose change between neighbours costs time.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_LIB_SEARCH_STAGECOSTS_H
#define GALVATRON_LIB_SEARCH_STAGECOSTS_H

#include "galvatron/Search/LinkModel.h"
#include "galvatron/Search/Problem.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

/// How the ranks of a stage share a boundary value [batch, sequence, hidden].
struct Layout {
  int batch = 1;    ///< parts of the batch: dp
  int context = 1;  ///< parts of the sequence that cp deals (permuted when > 1)
  int sequence = 1; ///< further parts of the sequence: ulysses, Megatron-SP
  auto operator<=>(const Layout &) const = default;
  int parts() const { return batch * context * sequence; }
};

Layout layoutOf(const Strategy &strategy, int dp);

/// A strategy for a unit type in a setting, priced.
struct Option {
  Strategy strategy;
  int dp = 1;
  int layout = 0; ///< index into Setting::layouts
  // One micro-batch, communication included: what is hidden is subtracted.
  double forward = 0, backward = 0;
  double computeForward = 0, computeBackward = 0, recompute = 0, communication = 0;
  double tail = 0; ///< once a step
  std::int64_t state = 0, saved = 0, scratch = 0, boundary = 0;
  double time() const { return forward + backward; }
};

/// One (pipeline degree, micro-batch count) with everything priced.
class Setting {
public:
  /// Nothing priced yet.
  static Setting bare(const Problem &problem, int stages, int microBatches);
  /// Prices all strategies the space offers. Error: a unit type without any.
  static Result<Setting> make(const Problem &problem, int stages, int microBatches);

  /// Prices one strategy of one unit; error from the cost source.
  Result<Option> price(int unit, const Strategy &strategy, int dp);

  const Problem *problem = nullptr;
  int stages = 1, microBatches = 1;
  std::int64_t stageRanks = 1, microBatchSamples = 1;
  std::vector<int> typeOf;                  ///< by unit
  std::vector<int> exampleOf;               ///< by type: its first unit
  std::vector<std::vector<Option>> options; ///< by type
  std::vector<Layout> layouts;
  std::string refusal; ///< last reason why a strategy was refused

  /// Seconds (forward and backward) to change `boundary` bytes between layouts.
  double redistribution(int from, int to, std::int64_t boundary) const;
  /// Seconds (both directions) to hand a micro-batch to the next stage.
  double handOver(int layout, std::int64_t boundary) const;
  /// Drops options that another one beats wherever it stands. After this the
  /// set of layouts is fixed.
  void dropDominated();

private:
  int layoutIndex(const Layout &layout);
  double collectives(const std::vector<Collective> &list, const Option &option, double compute) const;
  double redistributionOf(const Layout &from, const Layout &to, double bytes) const;
  void dropWithinLayouts();
  void dropAcrossLayouts();
  /// All pairs of layouts, for one size of the boundary value.
  const std::vector<double> &redistributionTable(std::int64_t boundary) const;
  mutable std::map<std::int64_t, std::vector<double>> tables;
  bool fixedLayouts = false;

  std::shared_ptr<const CommunicationModel> links;
  const CommunicationModel &communication() const;
};

/// Micro-batches in flight on a stage.
int inFlight(Schedule schedule, int stages, int stage, int microBatches);

/// Strategies the space offers on `stageRanks` ranks for micro-batches of
/// `samples` samples.
std::vector<std::pair<Strategy, int>> offeredStrategies(const SearchSpace &space, std::int64_t stageRanks,
                                                        std::int64_t samples);

} // namespace galvatron::search

#endif // GALVATRON_LIB_SEARCH_STAGECOSTS_H
