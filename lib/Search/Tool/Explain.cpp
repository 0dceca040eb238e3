//===- Explain.cpp - Reasons as text --------------------------------------===//

#include "Explain.h"

#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Solver/ProfileReason.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <optional>

namespace galvatron::search {

namespace {
[[gnu::format(printf, 1, 2)]] std::string format(const char *pattern, ...) {
  char text[512];
  va_list list;
  va_start(list, pattern);
  std::vsnprintf(text, sizeof text, pattern, list);
  va_end(list);
  return text;
}

bool sameChoice(const PlannedLayer &a, const PlannedLayer &b) {
  return a.layerType == b.layerType && a.strategy == b.strategy && a.dp == b.dp && a.stage == b.stage;
}

/// Messages that are smaller by a factor take as long as on faster links.
class FasterLinks : public CommunicationModel {
public:
  FasterLinks(const CommunicationModel &model, double factor) : model(model), factor(factor) {}
  double seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const override {
    return model.seconds(kind, bytes / factor, group);
  }
  double sendSeconds(double bytes, int distance) const override { return model.sendSeconds(bytes / factor, distance); }
  double sendSecondsFrom(std::int64_t first, std::int64_t count, double bytes, int distance) const override {
    return model.sendSecondsFrom(first, count, bytes / factor, distance);
  }

private:
  const CommunicationModel &model;
  double factor;
};

/// Every link of the cluster faster by a factor.
Cluster withFasterLinks(Cluster cluster, double factor) {
  std::vector<Link *> links = {&cluster.intra, &cluster.inter};
  for (Link &link : cluster.interOfNode)
    links.push_back(&link);
  for (Link *link : links) {
    link->bytesPerSecond *= factor;
    for (auto &point : link->sends)
      point.second *= factor;
  }
  if (cluster.device.tables)
    cluster.device.tables = cluster.device.tables->withFasterLinks(factor);
  return cluster;
}
} // namespace

std::string explainText(const Plan &plan) {
  std::string text = format("%lld ranks, pipeline %d (%s), global batch %lld in %d micro-batches: %.6g s a step, "
                            "%.6g samples/s\n",
                            (long long)plan.ranks, plan.pipeline, std::string(scheduleName(plan.schedule)).c_str(),
                            (long long)plan.globalBatch, plan.microBatches, plan.predictedStepSeconds,
                            double(plan.globalBatch) / plan.predictedStepSeconds);
  text += "stage  layers                        strategy                     ms per micro-batch: "
          "fwd    bwd recomp   comm  move | step ms | MiB: state  saved scratch\n";
  for (std::size_t first = 0; first < plan.layers.size();) {
    std::size_t end = first + 1;
    while (end < plan.layers.size() && sameChoice(plan.layers[first], plan.layers[end]))
      ++end;
    const PlannedLayer &layer = plan.layers[first];
    std::string name = layer.path;
    if (end - first > 1)
      name = format("%zu x %s … %s", end - first, layer.path.c_str(), plan.layers[end - 1].path.c_str());
    text += format("%5d  %-28s %-28s", layer.stage, name.c_str(), describe(layer.strategy, layer.dp).c_str());
    if (first < plan.reasons.layers.size()) {
      const LayerReason &why = plan.reasons.layers[first];
      const double mib = 1 << 20;
      text += format(" %21.3f %6.3f %6.3f %6.3f %5.3f | %7.3f | %10.1f %6.1f %7.1f", why.forwardSeconds * 1e3,
                     why.backwardSeconds * 1e3, why.recomputeSeconds * 1e3, why.communicationSeconds * 1e3,
                     why.redistributionSeconds * 1e3, why.stepSeconds * 1e3, double(why.stateBytes) / mib,
                     double(why.activationBytes) / mib, double(why.scratchBytes) / mib);
    }
    text += "\n";
    if (first < plan.reasons.layers.size())
      for (const LayerReason::Alternative &other : plan.reasons.layers[first].alternatives)
        text += format("         instead %-28s: %s (%+.3g ms, %+.1f MiB)\n", describe(other.strategy, other.dp).c_str(),
                       other.lostBy.c_str(), other.extraSeconds * 1e3, double(other.extraBytes) / (1 << 20));
    first = end;
  }
  text += explainProfile(plan);
  for (const std::string &note : plan.reasons.notes)
    text += note + "\n";
  return text;
}

std::string explainReference(const ReferenceModel &model, const ReferenceSolution &solution) {
  const ReferencePlan &plan = *solution.plan;
  std::string text = format("batch %d in %d chunks, pp %d, ends %s, gather buffer for tp %d: %.9g s, "
                            "%.9g samples/s\n",
                            plan.batch, plan.chunks, plan.stages, notation(plan.ends).c_str(), plan.bufferTp,
                            solution.price.iterationSeconds, solution.price.throughput);
  std::size_t layer = 0;
  for (int stage = 0; stage < plan.stages; ++stage) {
    std::size_t end = layer + plan.layersOfStage[stage];
    while (layer < end) {
      std::size_t run = layer;
      while (run < end && plan.layers[run] == plan.layers[layer])
        ++run;
      const ReferenceStrategy &s = plan.layers[layer];
      // The search has priced these; they cannot fail.
      SecondsPair seconds = *model.layerSeconds(s, plan.batch, plan.chunks);
      MegabytePair memory = *model.layerMemory(s, plan.batch, plan.chunks, stage);
      text += format("stage %d  %3zu x %-14s %9.4f ms (+ %.4f ms gradient sync a step)  %8.1f MB "
                     "states %8.1f MB activations\n",
                     stage, run - layer, notation(s).c_str(), seconds.noSync * 1e3,
                     (seconds.withSync - seconds.noSync) * 1e3, memory.states, memory.activation);
      layer = run;
    }
    text += format("stage %d uses %.0f MB of %d MB (overhead included)\n", stage, solution.price.memoryUsedMB[stage],
                   model.args().memoryGB * 1024);
  }
  text += format("opened %zu of %zu candidates, the rest cannot be better; %zu nodes, %.3g s\n", solution.opened,
                 solution.candidates, solution.nodes, solution.searchSeconds);
  return text;
}

void addWhatMoreBuys(const Problem &problem, Plan &plan, double spent, const SolveOptions &searched) {
  if (spent > 10)
    return;
  SolveOptions options = searched;
  options.progress = nullptr;
  options.explain = false;
  options.timeLimitSeconds = 20;
  auto gain = [&](const Problem &changed, const char *what, double &share) {
    Result<Solution> solution = solve(changed, options);
    if (!solution || !solution->plan || solution->interrupted)
      return;
    // Where a search had to be inexact it may end a little above the other.
    double saved = plan.predictedStepSeconds - solution->plan->predictedStepSeconds;
    share = std::max(0.0, saved / plan.predictedStepSeconds);
    plan.reasons.notes.push_back(format("10 %% more %s would buy %.2f %%", what, 100 * share));
  };
  Problem more = problem;
  more.cluster.memoryBytesPerDevice += more.cluster.memoryBytesPerDevice / 10;
  gain(more, "memory", plan.reasons.moreMemoryBuys);
  Problem faster = problem;
  faster.cluster = withFasterLinks(problem.cluster, 1.1);
  std::optional<FasterLinks> model;
  if (problem.communication)
    faster.communication = &model.emplace(*problem.communication, 1.1);
  gain(faster, "bandwidth", plan.reasons.moreBandwidthBuys);
}

} // namespace galvatron::search
