//===- Plan.h - The search's answer ------------------------------*- C++ -*-===//
//
// A plan says for every layer of a model which stage runs it and how the
// stage's ranks divide it. Formats/PlanFile.h reads and writes it.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_PLAN_H
#define GALVATRON_SEARCH_MODEL_PLAN_H

#include "galvatron/Search/Model/Problem.h"
#include "galvatron/Search/Model/Timetable.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

struct PlannedLayer {
  std::string path;
  std::string layerType;
  LayerRole role = LayerRole::Block;
  Strategy strategy;
  int dp = 1;
  int stage = 0;
  /// Without `strategy.recompute`: values that backward recomputes, by name
  /// (`strategy.values` numbers them; in a plan the names count).
  std::vector<std::string> recomputeValues = {};
  std::string block = {}; ///< as `Layer::block`
  /// Which of its stage's parts it belongs to; nothing: as its stage says it.
  std::optional<int> chunk = {};
  /// Whether weights have a backward of their own; nothing: the compiler chooses.
  std::optional<bool> splitBackward = {};
  /// That, or what the compiler chooses, under a schedule that splits backwards: all but what ends in the loss.
  bool isBackwardSplit() const { return splitBackward.value_or(role != LayerRole::Head); }
};

/// Where a rank's predicted memory goes, per stage (all ranks of a stage need
/// the same).
struct StageMemory {
  std::int64_t stateBytes = 0, activationBytes = 0, scratchBytes = 0, overheadBytes = 0;
  std::int64_t total() const { return stateBytes + activationBytes + scratchBytes + overheadBytes; }
};

/// A layer's share of the prediction, and the choices that lost.
struct LayerReason {
  double forwardSeconds = 0, backwardSeconds = 0, recomputeSeconds = 0, communicationSeconds = 0,
         redistributionSeconds = 0, stepSeconds = 0;
  std::int64_t stateBytes = 0, activationBytes = 0, scratchBytes = 0;
  struct Alternative {
    Strategy strategy;
    int dp = 1;
    double extraSeconds = 0;     ///< of the step, against the choice
    std::int64_t extraBytes = 0; ///< of the stage's peak, may be negative
    std::string lostBy;          ///< "does not fit by 1.2 GiB", "0.4 ms"
  };
  std::vector<Alternative> alternatives; ///< best first
};

/// A plan that a compiler lowered to know its memory.
struct LoweredPlan {
  std::string plan;                ///< in words
  double seconds = 0;              ///< of a step, predicted
  std::int64_t estimatedBytes = 0; ///< of the fullest rank
  std::int64_t bytes = 0;          ///< the same, exact; 0: it could not be lowered
  std::string lostBy;              ///< "takes 1.2 GiB too much", "0.4 ms a step"; empty: it is the choice
};

/// How far the price was measured.
struct ProfileReason {
  std::string file, fingerprint;
  double measuredShare = 0;           ///< of the step's seconds: measured bodies and messages, or between measured ones
  std::vector<std::string> estimated; ///< the rest, by what
};

/// Why this plan: filled by the search, empty for plans read from a file.
struct Reasons {
  std::vector<LayerReason> layers;
  int slowestStage = 0, fullestStage = 0;
  double bubble = 0;          ///< idle share of the timetable
  std::int64_t freeBytes = 0; ///< on the fullest stage
  /// A layer that would be faster if more memory were there; empty: none.
  std::string memoryBindsAt;
  /// Share of the step that 10 % more would save; negative: not asked.
  double moreMemoryBuys = -1, moreBandwidthBuys = -1;
  /// Nothing: there was no profile.
  std::optional<ProfileReason> profile;
  /// By rising seconds; empty where nothing was lowered.
  std::vector<LoweredPlan> lowered;
  /// Lines for people: which constraint binds, what lost, what more would buy.
  std::vector<std::string> notes;
};

/// A timetable lists each of them, for every layer of a stage; beyond, it has hundreds of megabytes.
inline constexpr std::int64_t kMostMicroBatches = 1 << 16;

struct Plan {
  std::int64_t ranks = 1;
  int pipeline = 1;
  int virtualStages = 1; ///< parts a stage; more than 1 when interleaved, 2 under zb-v
  Schedule schedule = Schedule::OneFOneB;
  std::int64_t globalBatch = 1;
  int microBatches = 1;
  /// Axes of a stage's ranks, slowest first; empty: as follows from the strategies
  /// (dialects/Plan/Ranks.h).
  plan::Mesh mesh = {};
  std::vector<PlannedLayer> layers;
  /// Whether the format that the plan was read from has a word for padding.
  bool canSayPad = true;

  /// Of what a rank plans itself; predicted, or after lowering exact. Empty when unknown.
  std::vector<std::int64_t> peakBytesPerRank;
  /// What the rank's device has in use beside that (OverheadBytes). Empty when unknown.
  std::vector<std::int64_t> overheadBytesPerRank;
  /// How its ranks run NCCL; none where the cluster's devices know none.
  std::optional<NcclSettings> nccl;
  double predictedStepSeconds = 0;
  /// The same of the lowered program, simulated entry by entry (Check/StepSimulator.h); 0: unknown.
  double simulatedStepSeconds = 0;
  /// What the step is about, whatever the plan, and what one device could compute at most; 0: unknown.
  double modelFlopsPerStep = 0, peakFlopsPerSecond = 0;
  /// Of the cluster that it is priced on: so many ranks in a row share a host. For `launch`; 0: unknown.
  std::int64_t devicesPerNode = 0;
  std::vector<StageMemory> stageMemory;
  /// By layer type: names that `recompute_values` may have. Of a compiler's plan; written for people.
  std::map<std::string, std::vector<std::string>> recomputableValues = {};
  Reasons reasons;

  std::int64_t ranksPerStage() const { return ranks / pipeline; }
  /// `mesh`, or what follows.
  plan::Mesh rankMesh() const;
  PipelineShape shape() const { return {schedule, pipeline, virtualStages, microBatches}; }
  /// What plan.json calls predicted: by simulation, where the plan was lowered.
  double predictedSeconds() const { return simulatedStepSeconds > 0 ? simulatedStepSeconds : predictedStepSeconds; }
  /// Part of every layer: stage numbers rise one by one from 0 to pipeline - 1,
  /// and begin again with each virtual stage, or under zb-v fall again.
  std::vector<int> partOfLayers() const;
  std::vector<int> layersPerStage() const;

private:
  void cutTurn(std::vector<int> &parts) const;
};

/// Bits of a layer's `recomputeValues`, of the names that there are. Fails where one is unknown, with all of them.
Result<std::uint32_t> getValueBits(const PlannedLayer &layer, const std::vector<std::string> &names);

/// Degrees divide ranks and batch, stages are contiguous, numbers positive.
/// Every plan that is read or that the search returns satisfies it.
Result<bool> validatePlan(const Plan &plan, bool supportedOnly = false, bool unevenBatch = false);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_PLAN_H
