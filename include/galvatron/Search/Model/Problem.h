//===- Problem.h - What the search is asked ---------------------*- C++ -*-===//
//
// A problem is a cluster, a global batch, the layers of a model in execution
// order, and a source of costs. The source is what differs between callers:
// the compiler answers from the IR (`ProgramCosts`), `ShapeCosts` from layer
// shapes, `ProfiledCosts` from measured profiles. The search asks per (layer type,
// strategy, micro-batch), never per layer: layers of a type are alike.
//
//   layers    embedding │ layer 0 │ layer 1 │ … │ norm + head + loss
//   stages   ├──── stage 0 ────────┤├──── stage 1 ────────────────┤
//
// Units of measure: seconds, bytes, samples. "Per device" throughout.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_PROBLEM_H
#define GALVATRON_SEARCH_MODEL_PROBLEM_H

#include "galvatron/Search/Model/Cluster.h"
#include "galvatron/Search/Model/Strategy.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace galvatron::search {

/// Which part of a model a layer is. The reference's plan format gives one
/// strategy to all layers by number and one to both ends (`vtp`, `vsp`).
enum class LayerRole { Embedding, Block, Head };

struct Layer {
  std::string path;      ///< module path, unique: "model.layers.3"
  std::string layerType; ///< layers of one type are equal
  LayerRole role = LayerRole::Block;
  /// Of a compiler's program: names of the values that backward can recompute one by one.
  std::vector<std::string> recomputableValues = {};
  /// Of half a layer: the path of the whole, whose other half is the layer before or after. Both run on one stage.
  std::string block = {};
};

/// A parameter used by two layers (tied embeddings). When the layers are on
/// different stages both hold it, and its gradient is summed over both once.
struct TiedParameter {
  int firstLayer = 0, secondLayer = 0;
  std::int64_t bytes = 0; ///< whole, in the reduction type, before tp
};

enum class CollectiveKind { AllReduce, AllGather, ReduceScatter, AllToAll, SendReceive };

/// The ranks that take part, by what divides them. Which those are is in
/// dialects/Plan/Ranks.h.
enum class Group {
  Tensor,      ///< tp ranks
  Ulysses,     ///< ulysses ranks
  Context,     ///< cp ranks
  Expert,      ///< ep ranks of the dp group
  Data,        ///< dp ranks
  Shard,       ///< dp × cp × ulysses ranks: gradients and ZeRO
  ExpertShard, ///< of those, the 1 / ep that hold the same experts
};

/// A collective as the body of a layer issues it.
struct Collective {
  CollectiveKind kind = CollectiveKind::AllReduce;
  Group group = Group::Tensor;
  /// Bytes of the whole (unsharded) value on one rank: an all-gather's result,
  /// a reduce-scatter's operand, an all-to-all's local operand.
  std::int64_t bytes = 0;
  int count = 1;
  /// May be overlapped with the layer's compute (on hardware that overlaps).
  bool overlappable = false;
  /// Where no `group` has a name for them: the ranks along these axes of the mesh of ascending sizes, as the strategy
  /// takes them when it is not strided. Empty: those of `group`.
  std::vector<int> axes = {};
};

/// What one layer costs one device under one strategy.
struct LayerCost {
  /// Compute of one micro-batch. `recompute` is what backward recomputes, 0
  /// unless the strategy recomputes.
  double forwardSeconds = 0, backwardSeconds = 0, recomputeSeconds = 0;
  /// Of `backwardSeconds`, what only the weights' gradients need: a zero-bubble
  /// schedule may put it off. 0: backward cannot be cut in two.
  double weightSeconds = 0;
  /// Communication of one micro-batch (recomputed collectives in backward).
  std::vector<Collective> forwardCollectives, backwardCollectives;
  /// Communication once a step: gradient sums, parameter gathers.
  std::vector<Collective> stepCollectives;
  /// Optimizer update and gradient norm, once a step.
  double updateSeconds = 0;

  std::int64_t stateBytes = 0; ///< parameters, gradients, optimizer state
  /// Of `stateBytes`, what belongs to a parameter tied to an earlier layer; it
  /// is counted only when that layer is on another stage.
  std::int64_t tiedStateBytes = 0;
  /// Kept from forward to backward, for each micro-batch in flight.
  std::int64_t savedBytes = 0;
  /// Kept from backward to the gradients of weights where these are put off: what they read of forward and of backward.
  std::int64_t weightSavedBytes = 0;
  /// Working memory beyond that, while the layer runs.
  std::int64_t scratchBytes = 0;
  /// Of states and what is kept, what every program of the layer has at once when backward begins: states that outlast
  /// a step, and the values. 0: nothing is certain.
  std::int64_t certainBytes = 0;
  /// Bytes of the value passed to the next layer, of one micro-batch, over all
  /// ranks of the stage (a rank holds 1 / (dp · sequenceCut()) of it).
  std::int64_t boundaryBytes = 0;
};

/// How a cost is asked for.
struct CostQuery {
  const Layer *layer = nullptr;
  Strategy strategy;
  int dp = 1;
  /// Samples of one micro-batch over all ranks; dp divides it.
  std::int64_t microBatchSamples = 1;
  int microBatches = 1;
};

/// Answers the cost of a layer type under a strategy.
class CostSource {
public:
  virtual ~CostSource();
  /// The cost, or an error that says why this strategy cannot be had (a degree
  /// that does not divide the heads, a missing measurement). Called once per
  /// (layer type, strategy, dp, micro-batch); must not depend on anything else
  /// of the layer but its type. Thread-safe.
  virtual Result<LayerCost> cost(const CostQuery &query) const = 0;
  /// Names of the values of a layer that backward can recompute one by one
  /// (`Strategy::values`), at most 32. Default: the layer's own.
  virtual std::vector<std::string> recomputableValues(const Layer &layer) const;
  /// `strategy` with each way to settle what it leaves to choose that has a price of its own and may pay: how context
  /// parallelism works, when gradients are reduced. The likeliest first. Default: itself, left as it is.
  virtual std::vector<Strategy> settle(const Layer &layer, const Strategy &strategy, int microBatches) const;
  /// Whether `settle` ever gives several.
  virtual bool settlesAny() const { return false; }
};

/// Seconds of communication on a cluster. Separate from CostSource so that one
/// link model serves all sources.
class CommunicationModel {
public:
  virtual ~CommunicationModel();
  /// A collective of the ranks of a group, while the neighbouring groups do the
  /// same. `bytes` as in Collective.
  virtual double seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const = 0;
  /// One message from each rank of a stage to its peer in the next one, which
  /// is `distance` ranks away, while all ranks of the stage send.
  virtual double sendSeconds(double bytesPerRank, int distance) const = 0;
  /// The same for the stage of ranks [first, first + count), where links differ
  /// from place to place. Default: they do not.
  virtual double sendSecondsFrom(std::int64_t first, std::int64_t count, double bytesPerRank, int distance) const;
};

/// What may be chosen. Every field narrows; the default is everything.
struct SearchSpace {
  bool pipeline = true;
  /// By row of dialects/Plan/Strategy.def: whether it is offered, and its largest
  /// degree. `recomputeValues`: recomputation value by value beside all or nothing.
#define STRATEGY_REST(FIELD, NAME, KEY, ORDER, WANTS, SPACE, ...) bool SPACE = true;
#define STRATEGY_DEGREE(FIELD, NAME, KEY, ORDER, WANTS, SPACE, MOST, ...)                                              \
  bool SPACE = true;                                                                                                   \
  int MOST = 1 << 20;
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, WANTS, SPACE, MOST, ...)                                            \
  bool SPACE = true;                                                                                                   \
  int MOST = 1 << 20;
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, WANTS, SPACE, ...) bool SPACE = true;
#define STRATEGY_SET(FIELD, NAME, KEY, SPACE, ...) bool SPACE = true;
#include "dialects/Plan/Strategy.def"
  /// tp without Megatron-SP.
  bool plainTensor = true;
  /// Also in embedding and head.
  bool tensorInEnds = true, ulyssesInEnds = true;
  /// ZeRO levels on offer, bit k = level k.
  unsigned zeroLevels = 0b1111;
  int minPipeline = 1, maxPipeline = 1 << 20;
  std::vector<Schedule> schedules = {Schedule::OneFOneB, Schedule::GPipe, Schedule::Interleaved, Schedule::ZeroBubble,
                                     Schedule::ZeroBubbleV};
  /// Parts a stage when interleaved, up to which all numbers are searched; beyond, up to a layer a part, those that
  /// divide the layers.
  int maxVirtualStages = 8;
  /// 0: these; else exactly this many parts a stage, of schedules that have several.
  int virtualStages = 0;
  /// 0: all counts that divide the batch; else exactly this one.
  int microBatches = 0;
  /// 0: all; else exactly this many stages.
  int stages = 0;
  /// One strategy for all layers (the reference's fine_grained_mode 0); ends
  /// take the same degrees, without recomputation.
  bool uniform = false;
  /// Stages may hold different numbers of layers.
  bool unevenStages = true;

  /// Only what `whyUnsupported` lets through.
  static SearchSpace supported();
};

/// All that is asked of a search: the plan of a step of `globalBatch` samples of this model on this cluster, out of a
/// space, that takes the least time by these costs and whose ranks stay within the cluster's memory.
struct Problem {
  Cluster cluster;
  std::int64_t globalBatch = 1; ///< samples
  std::vector<Layer> layers;    ///< in execution order
  std::vector<TiedParameter> ties;
  SearchSpace space;
  /// Bytes that each stage takes beyond what its layers' costs say, or fewer: known of
  /// plans like those asked for. Empty, or one for each of `space.stages`.
  std::vector<std::int64_t> extraBytesOfStage = {};
  const CostSource *costs = nullptr;                 ///< not owned
  const CommunicationModel *communication = nullptr; ///< not owned; null: LinkModel
  /// Of the space, what a layer of this type may take with this dp; null: all of it.
  std::function<bool(const Layer &, const Strategy &, int dp)> offers = nullptr;
  std::int64_t ranks() const { return cluster.ranks(); }
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_PROBLEM_H
