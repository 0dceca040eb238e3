// Runs of equal layers are one line: a model of 80 layers is read at a glance.
#include "PlanSummary.h"

#include "galvatron/Search/Solver/ProfileReason.h"

#include "llvm/ADT/StringExtras.h"

#include "llvm/Support/Format.h"
#include "llvm/Support/FormatVariadic.h"

using namespace galvatron;
using search::Plan;
using search::PlannedLayer;

static bool isAlike(const PlannedLayer &a, const PlannedLayer &b, bool sameType = true) {
  return (!sameType || a.layerType == b.layerType) && a.strategy == b.strategy && a.dp == b.dp && a.stage == b.stage;
}

/// Last layer of the run that begins at `first`, whatever the layers' types.
static size_t findRunEnd(const Plan &plan, size_t first) {
  size_t last = first;
  while (last + 1 < plan.layers.size() && isAlike(plan.layers[first], plan.layers[last + 1], /*sameType=*/false))
    ++last;
  return last;
}

namespace {
/// Layers that are alike, `stride` apart: 2 where layers are cut in two, whose first halves are a run, then the others.
struct Run {
  size_t first, count, stride;
};
} // namespace

static std::vector<Run> findRuns(const Plan &plan) {
  const auto &layers = plan.layers;
  std::vector<Run> runs;
  for (size_t first = 0; first < layers.size();) {
    bool isHalf =
        !layers[first].block.empty() && first + 1 < layers.size() && layers[first + 1].block == layers[first].block;
    size_t stride = isHalf ? 2 : 1, count = 1;
    auto isMore = [&](size_t half) {
      size_t next = first + count * stride + half;
      return next < layers.size() && isAlike(layers[first + half], layers[next]);
    };
    while (isMore(0) && isMore(stride - 1))
      ++count;
    for (size_t half = 0; half < stride; ++half)
      runs.push_back({first + half, count, stride});
    first += count * stride;
  }
  return runs;
}

static std::string describeRun(const Plan &plan, const Run &run) {
  const std::string &path = plan.layers[run.first].path;
  if (run.count == 1)
    return path;
  return path + " - " + plan.layers[run.first + (run.count - 1) * run.stride].path + " (" + std::to_string(run.count) +
         ")";
}

static std::string describeBytes(const Plan &plan, int stage) {
  size_t rank = size_t(stage) * plan.ranksPerStage();
  if (rank >= plan.peakBytesPerRank.size())
    return "";
  std::string text = search::formatBytes(double(plan.peakBytesPerRank[rank]));
  bool hasOverhead = rank < plan.overheadBytesPerRank.size() && plan.overheadBytesPerRank[rank];
  return hasOverhead ? text + " + " + search::formatBytes(double(plan.overheadBytesPerRank[rank])) + " overhead" : text;
}

static std::string count(int64_t n, llvm::StringRef noun) {
  return std::to_string(n) + " " + noun.str() + (n == 1 ? "" : noun.ends_with("h") ? "es" : "s");
}

static std::string describeShape(const Plan &plan) {
  std::string parts = plan.virtualStages > 1 ? " with " + count(plan.virtualStages, "part") + " a stage" : "";
  return count(plan.pipeline, "stage") + " x " + count(plan.ranksPerStage(), "rank") + ", " +
         std::string(search::scheduleName(plan.schedule)) + parts + ", " + count(plan.microBatches, "micro-batch");
}

std::string galvatron::describePlan(const Plan &plan) {
  std::string text = describeShape(plan) + ":";
  for (size_t first = 0; first < plan.layers.size();) {
    size_t last = findRunEnd(plan, first);
    const PlannedLayer &layer = plan.layers[first];
    if (first > 0)
      text += plan.layers[first - 1].stage == layer.stage ? "," : " |";
    text += " " + search::describe(layer.strategy, layer.dp);
    if (last > first)
      text += " (" + std::to_string(last - first + 1) + ")";
    first = last + 1;
  }
  return text;
}

void galvatron::printPlanSummary(const Plan &plan, llvm::raw_ostream &out) {
  out << describeShape(plan) << " of " << count(plan.globalBatch / plan.microBatches, "sample");
  if (double seconds = plan.predictedSeconds(); seconds > 0)
    out << llvm::format("; %.3g s a step predicted", seconds);
  out << "\n" << llvm::formatv("{0,-5}  {1,-44}  {2,-24}  {3}\n", "stage", "layers", "strategy", "bytes of a rank");
  int shownStage = -1;
  for (const Run &run : findRuns(plan)) {
    const PlannedLayer &layer = plan.layers[run.first];
    std::string bytes = layer.stage == shownStage ? "" : describeBytes(plan, layer.stage);
    std::string line = llvm::formatv("{0,-5}  {1,-44}  {2,-24}  {3}", layer.stage, describeRun(plan, run),
                                     search::describe(layer.strategy, layer.dp), bytes);
    out << llvm::StringRef(line).rtrim() << "\n";
    shownStage = layer.stage;
  }
}

void galvatron::printPlanReasons(const Plan &plan, llvm::raw_ostream &out) {
  const auto &layers = plan.reasons.layers;
  for (const Run &run : layers.size() == plan.layers.size() ? findRuns(plan) : std::vector<Run>()) {
    const search::LayerReason &why = layers[run.first];
    out << describeRun(plan, run)
        << llvm::formatv(": forward {0:f3} ms, backward {1:f3} ms, recompute {2:f3} ms, communication {3:f3} ms a "
                         "micro-batch; state {4}, activations {5}\n",
                         why.forwardSeconds * 1e3, why.backwardSeconds * 1e3, why.recomputeSeconds * 1e3,
                         why.communicationSeconds * 1e3, search::formatBytes(double(why.stateBytes)),
                         search::formatBytes(double(why.activationBytes)));
    for (const auto &other : why.alternatives)
      out << "  not " << search::describe(other.strategy, other.dp) << ": " << other.lostBy << "\n";
  }
  for (const auto &[layerType, names] : plan.recomputableValues)
    out << "recomputable values of " << layerType << ": " << llvm::join(names, ", ") << "\n";
  out << search::explainProfile(plan);
  for (const std::string &note : plan.reasons.notes)
    out << note << "\n";
  if (!plan.reasons.lowered.empty())
    out << "lowered for their memory (step, estimate of the fullest rank, what it takes):\n";
  for (const search::LoweredPlan &each : plan.reasons.lowered)
    out << llvm::format("  %.4g ms  ", each.seconds * 1e3) << search::formatBytes(double(each.estimatedBytes)) << "  "
        << (each.bytes ? search::formatBytes(double(each.bytes)) : "-") << "  " << each.plan << ": "
        << (each.lostBy.empty() ? "chosen" : each.lostBy) << "\n";
}
