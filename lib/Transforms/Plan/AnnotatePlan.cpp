// A plan by hand: from a file, or one strategy for all layers. Everything that can be wrong with a plan
// is found by lib/Search, which other tools share; this pass gives it the model's layers and turns its
// answer into attributes.
#include "galvatron/Transforms/Passes.h"

#include "dialects/Plan/Plan.h"
#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Placement/Placements.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Support/Files.h"

namespace galvatron {
#define GEN_PASS_DEF_ANNOTATEPLANPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

/// Either end goes to the first or last stage, blocks in equal numbers to all.
void spreadOverStages(search::Plan &plan) {
  int64_t blocks = llvm::count_if(
      plan.layers, [](const search::PlannedLayer &layer) { return layer.role == search::LayerRole::Block; });
  int64_t perStage = std::max<int64_t>(1, blocks / plan.pipeline), block = 0;
  for (search::PlannedLayer &layer : plan.layers) {
    if (layer.role == search::LayerRole::Head)
      layer.stage = plan.pipeline - 1;
    else if (layer.role == search::LayerRole::Block)
      layer.stage = int(std::min<int64_t>(block++ / perStage, plan.pipeline - 1));
  }
}

struct AnnotatePlanPass : galvatron::impl::AnnotatePlanPassBase<AnnotatePlanPass> {
  using Base::Base;

  void runOnOperation() override {
    FailureOr<ModelLayers> model = collectLayers(getOperation());
    if (failed(model))
      return signalPassFailure();
    search::Result<search::Plan> planned = planFile.empty() ? makeUniformPlan(*model) : readPlanFile(*model);
    if (!planned) {
      getOperation().emitError(planned.error().message);
      return signalPassFailure();
    }
    annotatePlan(*model, *planned);
    // What is to be padded is checked when it is.
    SmallVector<graph::CallOp> whole, padded;
    for (graph::CallOp call : model->calls)
      (call->getAttrOfType<plan::StrategyAttr>(plan::kStrategyAttrName).getPad() ? padded : whole).push_back(call);
    if (failed(checkStrategies(getOperation(), whole, planned->canSayPad)) ||
        (!padded.empty() && failed(checkPaddedStrategies(getOperation(), padded))))
      return signalPassFailure();
    numLayers += model->layers.size();
  }

  search::Result<search::Plan> readPlanFile(const ModelLayers &model) {
    std::string error;
    std::optional<std::string> text = readTextFile(planFile, error, kMaxTextBytes, "the plan ");
    if (!text)
      return search::Error{error};
    search::PlanTarget target{model.layers, ranks, model.globalBatch, /*supportedOnly=*/true};
    search::Result<search::Plan> plan = search::parsePlan(*text, target);
    if (!plan)
      return plan;
    if (search::Result<bool> fits = checkPlannedLayers(model, *plan); !fits)
      return fits.error();
    return plan;
  }

  search::Result<search::Plan> makeUniformPlan(const ModelLayers &model) {
    if (pp < 1 || tp < 1 || dp < 1)
      return search::Error{"expects degrees of at least 1, but got pp " + std::to_string(pp) + ", tp " +
                           std::to_string(tp) + ", dp " + std::to_string(dp)};
    search::Plan uniform;
    auto known = search::parseSchedule(schedule.getValue());
    if (!known || *known == search::Schedule::Interleaved)
      return search::Error{"expects schedule gpipe or 1f1b, but got '" + schedule + "'"};
    uniform.schedule = *known;
    uniform.pipeline = int(pp);
    uniform.ranks = pp * tp * dp;
    if (ranks && ranks != uniform.ranks)
      return search::Error{"expects pp x tp x dp to be the " + std::to_string(ranks) + " ranks, but got " +
                           std::to_string(uniform.ranks)};
    uniform.globalBatch = model.globalBatch;
    uniform.microBatches = int(microBatches);
    for (const search::Layer &layer : model.layers) {
      bool isLayer = layer.role == search::LayerRole::Block;
      search::Strategy strategy{.tp = int(tp), .recompute = recompute && isLayer};
      uniform.layers.push_back({layer.path, layer.layerType, layer.role, strategy, int(dp), 0});
    }
    spreadOverStages(uniform);
    if (search::Result<bool> valid = search::validatePlan(uniform, /*supportedOnly=*/true); !valid)
      return valid.error();
    return uniform;
  }
};

} // namespace
