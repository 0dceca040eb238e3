// Ops of the plan dialect (placeholder).
#ifndef GALVATRON_DIALECTS_PLAN_OPS_TD
#define GALVATRON_DIALECTS_PLAN_OPS_TD

include "dialects/Plan/PlanDialect.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Plan_NothingOp : Plan_Op<"nothing", [Pure]> {
  let summary = "Does nothing";
  let assemblyFormat = "attr-dict";
}

#endif // GALVATRON_DIALECTS_PLAN_OPS_TD
