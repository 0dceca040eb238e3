//===- PlanDialect.td - how the step is divided ---------------------------===//
#ifndef GALVATRON_DIALECTS_PLAN_DIALECT
#define GALVATRON_DIALECTS_PLAN_DIALECT

include "mlir/IR/OpBase.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::galvatron::plan";
  let summary = "How a training step is divided: cluster, pipeline, strategies";
  let description = [{
    Attributes only. `plan.pipeline` (a `#plan.pipeline`) stands on the module; `plan.strategy` (a
    `#plan.strategy`) and `plan.stage` (an integer) on each `graph.call`.
  }];
  let useDefaultAttributePrinterParser = 1;
}

#endif
