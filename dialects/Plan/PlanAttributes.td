//===- PlanAttributes.td - strategies and pipelines -----------------------===//
#ifndef GALVATRON_DIALECTS_PLAN_ATTRIBUTES
#define GALVATRON_DIALECTS_PLAN_ATTRIBUTES

include "PlanDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Plan_Schedule : I32EnumAttr<"Schedule", "the order of a pipeline's micro-batches", [
    I32EnumAttrCase<"GPipe", 0, "gpipe">, I32EnumAttrCase<"OneFOneB", 1, "1f1b">]> {
  let cppNamespace = "::galvatron::plan";
  let genSpecializedAttr = 0;
}
/// In quotes: 1f1b is not a keyword.
def Plan_ScheduleParameter : EnumParameter<Plan_Schedule> {
  let parser = "parseSchedule($_parser)";
  let printer = "$_printer << '\"' << stringifySchedule($_self) << '\"'";
}

def Plan_StrategyAttr : AttrDef<Plan_Dialect, "Strategy"> {
  let mnemonic = "strategy";
  let summary = "how one layer uses the devices of its stage";
  let description = [{
    Degrees; their product (dp × cp × ulysses × tp) is the number of devices of a stage. `zero` is the
    ZeRO level (0 to 3). `recompute`: keep only the layer's inputs and compute the rest again in
    backward. Devices of a stage are numbered with dp slowest, then cp, ulysses, tp fastest.

    Example: `#plan.strategy<dp = 2, tp = 2>`, `#plan.strategy<dp = 1, tp = 4, recompute = true>`
  }];
  let parameters = (ins
    DefaultValuedParameter<"int64_t", "1">:$dp, DefaultValuedParameter<"int64_t", "1">:$tp,
    DefaultValuedParameter<"bool", "false">:$megatronSp,
    DefaultValuedParameter<"int64_t", "1">:$ulysses, DefaultValuedParameter<"int64_t", "1">:$cp,
    DefaultValuedParameter<"int64_t", "1">:$ep, DefaultValuedParameter<"int64_t", "0">:$zero,
    DefaultValuedParameter<"bool", "false">:$recompute);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def Plan_PipelineAttr : AttrDef<Plan_Dialect, "Pipeline"> {
  let mnemonic = "pipeline";
  let summary = "stages, devices of each, micro-batches and their order";
  let description = [{
    `devices` is the number of devices of one stage; ranks = stages × devices, stage slowest. A stage's
    device grid has one axis for each prime factor of `devices`, largest primes last, major to minor:
    8 is 2×2×2, 6 is 2×3.

    Example: `#plan.pipeline<stages = 2, devices = 2, micro_batches = 4, schedule = "1f1b">`
  }];
  let parameters = (ins "int64_t":$stages, "int64_t":$devices, "int64_t":$micro_batches,
                        Plan_ScheduleParameter:$schedule);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif
