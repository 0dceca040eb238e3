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

/// Whether a note of MeasuredBodies is about a body that some layer of the plan runs.
bool isOfPlan(const std::string &text, const Plan &plan) {
  return std::any_of(plan.layers.begin(), plan.layers.end(), [&](const PlannedLayer &layer) {
    return text.find(bodyName(layer.layerType, layer.strategy) + ",") != std::string::npos;
  });
}
} // namespace

void addProfileReason(const Problem &problem, Plan &plan, const MakeCosts &makeCosts) {
  if (problem.communication)
    return;
  const std::shared_ptr<const MachineTables> &tables = problem.cluster.device.tables;
  if (!tables) {
    plan.reasons.notes.push_back("prices: no profile; rates of " + problem.cluster.device.name +
                                 " in general (galvatron-profile measures this machine)");
    return;
  }
  WithoutMeasured rest(problem.cluster);
  std::set<std::string> bodies;
  Problem without = problem;
  without.communication = &rest;
  std::shared_ptr<const CostSource> freeCosts;
  if (tables->bodies() && makeCosts) {
    auto free = std::make_shared<MachineTables>(*tables);
    free->setBodies(tables->bodies()->madeFree(bodies));
    without.cluster.device.tables = std::move(free);
    freeCosts = makeCosts(without.cluster);
    without.costs = freeCosts.get();
  }
  ProfileReason reason{tables->file(), tables->fingerprint(), 0, {}};
  if (Result<Plan> priced = evaluatePlan(without, plan); priced && plan.predictedStepSeconds > 0)
    reason.measuredShare = std::clamp(1 - priced->predictedStepSeconds / plan.predictedStepSeconds, 0.0, 1.0);
  else
    reason.estimated.push_back("everything: the plan has no price without what was measured");
  // Pricing a plan asks for what its layers might have done instead, too.
  std::erase_if(bodies, [&](const std::string &text) { return !isOfPlan(text, plan); });
  reason.estimated.insert(reason.estimated.end(), bodies.begin(), bodies.end());
  if (!freeCosts || !bodies.empty())
    reason.estimated.push_back("bodies of layers" + std::string(freeCosts ? " that were not measured" : "") + ": " +
                               ofKernels(*tables));
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
