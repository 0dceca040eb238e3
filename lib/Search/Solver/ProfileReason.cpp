//===- ProfileReason.cpp - How far a plan's price was measured ------------===//

#include "galvatron/Search/Solver/ProfileReason.h"

#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Model/MeasuredBodies.h"
#include "galvatron/Search/Solver/Solver.h"

#include <algorithm>
#include <cstdio>
#include <set>

namespace galvatron::search {

namespace {

/// Measured messages take no time; notes which were not.
class WithoutMeasured : public CommunicationModel {
public:
  explicit WithoutMeasured(const Cluster &cluster)
      : links(cluster), tables(*cluster.device.tables), devicesPerNode(cluster.devicesPerNode),
        isUneven(!cluster.interOfNode.empty()) {}

  double seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const override {
    if (group.size() <= 1 || bytes <= 0)
      return 0;
    std::optional<MachineTables::Message> message;
    if (membersWithin(group, devicesPerNode) == group.size() || !isUneven)
      message = tables.message(kind, bytes, group, devicesPerNode);
    std::string where = std::string(measuredName(kind)) + " of " + std::to_string(group.size()) + " ranks, stride " +
                        std::to_string(group.stride());
    return judge(message, where) ? 0 : links.seconds(kind, bytes, group);
  }
  double sendSeconds(double bytes, int distance) const override {
    if (bytes <= 0)
      return 0;
    bool isWithin = distance < devicesPerNode;
    std::optional<MachineTables::Message> message;
    if (isWithin || !isUneven)
      message = tables.send(bytes, distance, isWithin);
    return judge(message, "send to a rank " + std::to_string(distance) + " away") ? 0
                                                                                  : links.sendSeconds(bytes, distance);
  }

  /// By what the plan's messages were priced that were not measured.
  mutable std::set<std::string> estimated;

private:
  bool judge(const std::optional<MachineTables::Message> &message, const std::string &where) const {
    if (!message)
      estimated.insert(where + ": not measured, by the links' rates");
    else if (!message->isMeasured)
      estimated.insert(where + ": beyond the measured sizes");
    return message && message->isMeasured;
  }

  LinkModel links;
  const MachineTables &tables;
  std::int64_t devicesPerNode;
  bool isUneven;
};

/// Measured bodies take no time; notes which were not.
class WithoutBodies : public CostSource {
public:
  WithoutBodies(const CostSource &costs, const DeviceKind &device, const std::string &byKernels)
      : costs(costs), hasUpdates(device.updateBytesPerSecond > 0), byKernels(byKernels) {}

  Result<LayerCost> cost(const CostQuery &query) const override {
    Result<LayerCost> cost = costs.cost(query);
    if (!cost)
      return cost;
    drop(cost->forwardSeconds, cost->forwardSource, query, "forward");
    drop(cost->backwardSeconds, cost->backwardSource, query, "backward");
    drop(cost->recomputeSeconds, cost->recomputeSource, query, "recomputation");
    if (cost->forwardSource == PriceSource::Measured && hasUpdates)
      cost->updateSeconds = 0;
    return cost;
  }
  std::vector<std::string> recomputableValues(const Layer &layer) const override {
    return costs.recomputableValues(layer);
  }
  std::vector<Strategy> settle(const Layer &layer, const Strategy &strategy, int microBatches) const override {
    return costs.settle(layer, strategy, microBatches);
  }
  bool settlesAny() const override { return costs.settlesAny(); }

  /// By what bodies were priced that were not measured.
  mutable std::set<std::string> estimated;

private:
  void drop(double &seconds, PriceSource source, const CostQuery &query, const char *part) const {
    if (seconds <= 0)
      return;
    std::string what = std::string(part) + " of '" + query.layer->layerType + "' with " +
                       describe(bodyStrategy(query.strategy), 1) + ", " +
                       std::to_string(query.microBatchSamples / query.dp) + " samples: ";
    if (source == PriceSource::Measured)
      seconds = 0;
    else if (source == PriceSource::Extrapolated)
      estimated.insert(what + "beyond what was measured");
    else if (source == PriceSource::OtherCode)
      estimated.insert(what + "its shape or code is not what was measured, so " + byKernels);
    else if (part == std::string("recomputation"))
      estimated.insert(what + "of single values, as forward of them");
    else
      estimated.insert(what + "not measured, so " + byKernels);
  }

  const CostSource &costs;
  bool hasUpdates;
  std::string byKernels;
};

std::string ofKernels(const MachineTables &tables) {
  std::string missing;
  for (auto [isEmpty, name] : {std::pair{tables.products().isEmpty(), "gemm"},
                               {tables.attention(false).isEmpty() || tables.attention(true).isEmpty(), "attention"},
                               {tables.elementwise().isEmpty(), "elementwise"}})
    if (isEmpty)
      missing += (missing.empty() ? "" : ", ") + std::string(name);
  return "by the rates or, by galvatron-opt, kernel by kernel from the tables" +
         (missing.empty() ? "" : "; by general rates of the device: " + missing);
}
} // namespace

void addProfileReason(const Problem &problem, Plan &plan) {
  if (problem.communication)
    return;
  const std::shared_ptr<const MachineTables> &tables = problem.cluster.device.tables;
  if (!tables) {
    plan.reasons.notes.push_back("prices: no profile; rates of " + problem.cluster.device.name +
                                 " in general (galvatron-profile measures this machine)");
    return;
  }
  WithoutMeasured rest(problem.cluster);
  std::string byKernels = ofKernels(*tables);
  WithoutBodies bodies(*problem.costs, problem.cluster.device, byKernels);
  Problem without = problem;
  without.communication = &rest;
  without.costs = &bodies;
  ProfileReason reason{tables->file(), tables->fingerprint(), 0, {}};
  if (Result<Plan> priced = evaluatePlan(without, plan); priced && plan.predictedStepSeconds > 0)
    reason.measuredShare = std::clamp(1 - priced->predictedStepSeconds / plan.predictedStepSeconds, 0.0, 1.0);
  else
    reason.estimated.push_back("everything: the plan has no price without what was measured");
  if (problem.cluster.device.bodies)
    reason.estimated.insert(reason.estimated.end(), bodies.estimated.begin(), bodies.estimated.end());
  else
    reason.estimated.push_back("bodies of layers: " + byKernels);
  reason.estimated.insert(reason.estimated.end(), rest.estimated.begin(), rest.estimated.end());
  if (problem.cluster.ranks() > tables->ranks())
    reason.estimated.push_back("messages of " + std::to_string(problem.cluster.ranks()) +
                               " ranks at once: " + std::to_string(tables->ranks()) + " were measured");
  if (tables->wasBusy())
    reason.estimated.push_back("everything: others used the machine while it was measured (--allow-busy)");
  plan.reasons.profile = std::move(reason);
}

std::string explainProfile(const Plan &plan) {
  if (!plan.reasons.profile)
    return "";
  const ProfileReason &profile = *plan.reasons.profile;
  char share[32];
  std::snprintf(share, sizeof share, "%.1f %%", 100 * profile.measuredShare);
  std::string text = "prices: profile '" + profile.file + "' (fingerprint " + profile.fingerprint + "), " + share +
                     " of the step measured; estimated:\n";
  for (const std::string &what : profile.estimated)
    text += "  " + what + "\n";
  return text;
}

} // namespace galvatron::search
