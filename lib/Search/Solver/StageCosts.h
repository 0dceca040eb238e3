//===- StageCosts.h - What layers cost on a stage ----------------*- C++ -*-===//
//
// Private to lib/Search. Turns the answers of a cost source into the few
// numbers that the search adds up, for one setting (pipeline degree,
// micro-batches): time of a micro-batch, tail of a step, memory, and the layout
// of the boundary value, whose change between neighbours costs time.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_STAGECOSTS_H
#define GALVATRON_SEARCH_SOLVER_STAGECOSTS_H

#include "OptionHulls.h"

#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/Problem.h"

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace galvatron::search {

/// How the ranks of a stage share a boundary value [batch, sequence, hidden].
struct Layout {
  int batch = 1;        ///< parts of the batch: dp
  int context = 1;      ///< parts of the sequence that cp deals from both ends, or as the lowering will
  int sequence = 1;     ///< further parts of the sequence: ulysses, Megatron-SP, stretches of cp
  bool strided = false; ///< the parts of the batch lie on neighbours
  auto operator<=>(const Layout &) const = default;
  int parts() const { return batch * context * sequence; }
};

Layout layoutOf(const Strategy &strategy, int dp);

/// Groups of ranks in which collectives run, as bits by `Setting::groupIndex`: all, those whose ranks exchange pieces
/// one to one with all others, and those in which each sends to one and receives from one.
struct Communicators {
  std::uint64_t joined = 0, exchanging = 0, passing = 0;
  Communicators &operator|=(const Communicators &other) {
    joined |= other.joined, exchanging |= other.exchanging, passing |= other.passing;
    return *this;
  }
};

/// A strategy for a layer type in a setting, priced.
struct Option {
  Strategy strategy;
  int dp = 1;
  int layout = 0; ///< index into Setting::layouts
  // One micro-batch, communication included: what is hidden is subtracted.
  double forward = 0, backward = 0;
  double weight = 0; ///< of `backward`, what is put off under schedules that split it
  /// Whether weights' gradients are put off there; nothing: there are none.
  std::optional<bool> splits = {};
  /// For schedules that split backwards alone: keeps more for weights' gradients than forward does, which is in
  /// `saved`.
  bool keepsForWeights = false;
  double computeForward = 0, computeBackward = 0, recompute = 0, communication = 0;
  double tail = 0; ///< once a step
  std::int64_t state = 0, saved = 0, scratch = 0, boundary = 0;
  /// Of tail and state, what is not where layers that share a parameter are on one stage of several.
  double tiedTail = 0;
  std::int64_t tiedState = 0;
  std::int64_t certain = 0;      ///< as `LayerCost::certainBytes`
  Communicators communicators{}; ///< what libraries keep for these is in `scratch`
  double time() const { return forward + backward; }
};

/// Whether plans under the schedule may take it.
inline bool fitsSchedule(const Option &option, Schedule schedule) {
  return !option.keepsForWeights || splitsBackward(schedule);
}

/// What layers with a tied parameter have in common: it has one placement, and its states one level of ZeRO.
struct TiedStrategy {
  int tp = 1, zero = 0;
  bool strided = false, isReducedEach = false;
  auto operator<=>(const TiedStrategy &) const = default;
  static TiedStrategy of(const Strategy &strategy) {
    return {strategy.tp, strategy.zero, strategy.strided, plan::reducesEveryMicroBatch(valuesOf(strategy, 1))};
  }
};

/// By layer type.
using OptionLists = std::vector<std::vector<Option>>;

/// The ranks of each kind of group under a strategy, by `Group`.
using GroupShapes = std::array<plan::GroupShape, 7>;
GroupShapes groupsOf(const Strategy &strategy, int dp, const plan::Mesh &mesh);

/// The orders of a stage's ranks to search. Within a node all ranks are equally far, and ranks of one prime have one
/// order: one mesh, empty.
std::vector<plan::Mesh> offeredMeshes(const Problem &problem, std::int64_t stageRanks);

/// One (pipeline degree, micro-batch count, order of ranks) with everything priced.
class Setting {
public:
  /// Nothing priced yet. `mesh`: the order of a stage's ranks; empty: any, as links
  /// do not tell them apart.
  static Setting bare(const Problem &problem, int stages, int microBatches, plan::Mesh mesh);
  /// Prices all strategies the space offers and drops those that others beat.
  /// Error: a layer type without any.
  static Result<Setting> make(const Problem &problem, int stages, int microBatches, plan::Mesh mesh);

  /// Prices one strategy of one layer on stages of one class; error from the cost
  /// source. `split`: whether gradients of weights are put off; nothing: where they keep no more than forward does, so
  /// that it is no worse under any schedule.
  Result<Option> price(int layer, const Strategy &strategy, int dp, int stageClass = 0, std::optional<bool> split = {});

  /// `strategy` with what it leaves to choose settled, in each way that is worth a price.
  std::vector<Strategy> settle(int layer, const Strategy &strategy, int dp);

  const Problem *problem = nullptr;
  int stages = 1, microBatches = 1;
  std::int64_t stageRanks = 1, microBatchSamples = 1;
  plan::Mesh mesh;
  std::vector<int> typeOf;    ///< by layer
  std::vector<int> exampleOf; ///< by type: its first layer
  std::vector<bool> tied;     ///< by type: shares a parameter with another layer
  /// By class of stage (stages whose links are alike), then type. An index means
  /// the same strategy in every class. Copies of a setting share it.
  std::shared_ptr<std::vector<OptionLists>> options;
  /// Of `options`, and shared as they are: by layer type, micro-batches kept, whether layers may reunite, whether
  /// backwards are split, and what tied layers share.
  using HullKey = std::tuple<int, int, bool, bool, std::optional<TiedStrategy>>;
  std::shared_ptr<OptionHulls<HullKey>> hulls = std::make_shared<OptionHulls<HullKey>>();
  std::vector<int> classOf; ///< by stage
  std::vector<Layout> layouts;
  std::string refusal; ///< last reason why a strategy was refused

  /// Redistribution is priced as asked for from here on: for plans that bring
  /// layouts of their own.
  void forgetTables() {
    tables.reset();
    handOvers.clear();
  }

  int layers() const { return int(typeOf.size()); }
  const OptionLists &optionsOf(int stage) const { return (*options)[classOf[stage]]; }
  std::int64_t memoryBudget() const {
    return problem->cluster.memoryBytesPerDevice - problem->cluster.device.overheadBytes;
  }
  std::int64_t extraBytes(int stage) const {
    const std::vector<std::int64_t> &extra = problem->extraBytesOfStage;
    return int(extra.size()) == stages ? extra[stage] : 0;
  }
  /// For the layers of all stages together.
  double memoryOfAllStages() const {
    double bytes = double(memoryBudget()) * stages;
    for (int stage = 0; stage < stages; ++stage)
      bytes -= double(extraBytes(stage));
    return bytes;
  }

  /// What libraries keep for groups: each counts once, whatever the number of its collectives.
  std::int64_t bytesOf(const Communicators &communicators) const;

  /// Seconds (forward and backward) to change `boundary` bytes between layouts.
  double redistribution(int stageClass, int from, int to, std::int64_t boundary) const;
  /// Seconds (one direction) to hand a micro-batch from a stage to the next, or
  /// from the last to the first.
  double handOver(int stage, int layout, std::int64_t boundary) const;
  /// The same to the stage before.
  double handBack(int stage, int layout, std::int64_t boundary) const;

private:
  void makeClasses();
  void dropDominated();
  void dropWithinLayouts();
  void dropAcrossLayouts();
  void keepOnly(int type, const std::vector<int> &kept);
  using ContextWay = std::pair<int, int>; ///< cpKind, cpZigzag
  const std::vector<ContextWay> &contextWays(int layer, Strategy plain, int dp);
  bool isTimeWorthwhile(int layer, const Strategy &way, int dp);
  Strategy plainOf(Strategy strategy) const;
  std::vector<std::uint32_t> valueSets(int layer, std::size_t names, const Option &none);
  int layoutIndex(const Layout &layout);
  const GroupShapes &groupsOf(const Strategy &strategy, int dp);
  double collectives(const std::vector<Collective> &list, const GroupShapes &groups, const Option &option,
                     double compute, int stageClass);
  double stepSeconds(const LayerCost &cost, const GroupShapes &groups, const Option &option, int stageClass);
  Communicators communicatorsOf(const LayerCost &cost, const GroupShapes &groups, const Option &option);
  const plan::GroupShape &groupAlong(const std::vector<int> &axes, const Option &option);
  double redistributionOf(int stageClass, const Layout &from, const Layout &to, double bytes) const;
  /// All pairs of layouts, for one size of the boundary value.
  const std::vector<double> &redistributionTable(int stageClass, std::int64_t boundary) const;
  using Tables = std::vector<std::map<std::int64_t, std::vector<double>>>;
  std::shared_ptr<const Tables> tables; ///< by class; shared as `options` are

  using Degrees = std::array<int, 6>;
  static Degrees degreesOf(const Strategy &s, int dp) { return {s.tp, s.ulysses, s.cp, s.ep, dp, int(s.strided)}; }
  /// Answers to `contextWays` and `isTimeWorthwhile`, by type, strategy and dp.
  std::map<std::tuple<int, Strategy, int>, std::vector<ContextWay>> worthwhileWays;
  std::map<std::tuple<int, Strategy, int>, bool> worthwhileTimes;
  std::map<Degrees, GroupShapes> groups;
  std::map<std::pair<Degrees, std::vector<int>>, plan::GroupShape> groupsAlongAxes;
  std::vector<plan::GroupShape> groupIndex; ///< of the groups that run collectives
  /// By class of stage; one model for all where the problem brings its own.
  std::vector<std::shared_ptr<const CommunicationModel>> links;
  double handOverOf(int stage, const Layout &layout, double boundary) const;
  std::vector<int> handOverKind;     ///< by stage
  std::vector<int> handOverExamples; ///< by kind: a stage
  /// By kind and size of the boundary value, then layout.
  std::map<std::pair<int, std::int64_t>, std::vector<double>> handOvers;
  const CommunicationModel &communication(int stageClass) const {
    return problem->communication ? *problem->communication : *links[stageClass];
  }
};

/// Strategies the space offers on `stageRanks` ranks for micro-batches of
/// `samples` samples. Without `values` and `strided`, which depend on the layer
/// and the cluster.
std::vector<std::pair<Strategy, int>> offeredStrategies(const SearchSpace &space, std::int64_t stageRanks,
                                                        std::int64_t samples);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_STAGECOSTS_H
