// The contract of phase plan. The rules themselves are `search::validatePlan`, the same that a plan
// file is held to.
#include "galvatron/Transforms/Passes.h"

#include "galvatron/Costs/ModelLayers.h"

namespace galvatron {
#define GEN_PASS_DEF_VERIFYPLANPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

struct VerifyPlanPass : galvatron::impl::VerifyPlanPassBase<VerifyPlanPass> {
  using Base::Base;

  void runOnOperation() override {
    FailureOr<ModelLayers> model = collectLayers(getOperation());
    if (failed(model))
      return signalPassFailure();
    FailureOr<search::Plan> plan = readAnnotatedPlan(*model);
    if (failed(plan))
      return signalPassFailure();
    if (search::Result<bool> valid = search::validatePlan(*plan, /*supportedOnly=*/true); !valid) {
      model->step.emitOpError(valid.error().message);
      return signalPassFailure();
    }
    numLayers += model->layers.size();
    markAllAnalysesPreserved();
  }
};

} // namespace
