//===- PlanAttributes.td - strategies and pipelines -----------------------===//
#ifndef GALVATRON_DIALECTS_PLAN_ATTRIBUTES
#define GALVATRON_DIALECTS_PLAN_ATTRIBUTES

include "PlanDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Plan_Schedule : I32EnumAttr<"Schedule", "the order of a pipeline's micro-batches", [
    I32EnumAttrCase<"GPipe", 0, "gpipe">, I32EnumAttrCase<"OneFOneB", 1, "1f1b">,
    I32EnumAttrCase<"Interleaved", 2, "interleaved">, I32EnumAttrCase<"ZeroBubble", 3, "zb-h1">, I32EnumAttrCase<"ZeroBubbleV", 4, "zb-v">]> {
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
    One key for each row of dialects/Plan/Strategy.def, which says what each means; what is not in use is left out. The
    product of the degrees (dp × cp × ulysses × tp) is the number of devices of a stage. `zero` is the ZeRO level (0 to
    3). `recompute`: keep only the layer's inputs and recompute the rest in backward. `recompute_values`: without it, bit k stands for
    the k-th name of the layer's `plan.values`, a value that backward recomputes. Devices of a stage are
    numbered with dp slowest, then cp, ulysses, tp fastest (dialects/Plan/Ranks.h).

    Example: `#plan.strategy<dp = 2, tp = 2>`, `#plan.strategy<tp = 4, recompute = true>`
  }];
  let parameters = (ins "::galvatron::plan::StrategyValues":$values);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
#define STRATEGY_REST(FIELD, NAME, ...) int64_t get##NAME() const { return getValues().FIELD; }
#define STRATEGY_DEGREE(FIELD, NAME, ...) int64_t get##NAME() const { return getValues().FIELD; }
#define STRATEGY_PART(FIELD, NAME, ...) int64_t get##NAME() const { return getValues().FIELD; }
#define STRATEGY_FLAG(FIELD, NAME, ...) bool get##NAME() const { return getValues().FIELD; }
#define STRATEGY_ASKED(FIELD, NAME, ...) bool get##NAME() const { return getValues().FIELD; }
#define STRATEGY_LEVEL(FIELD, NAME, ...) int64_t get##NAME() const { return getValues().FIELD; }
#define STRATEGY_CHOICE(FIELD, NAME, ...) int64_t get##NAME() const { return getValues().FIELD; }
#include "dialects/Plan/Strategy.def"
  }];
}

def Plan_PipelineAttr : AttrDef<Plan_Dialect, "Pipeline"> {
  let mnemonic = "pipeline";
  let summary = "stages, devices of each, micro-batches and their order";
  let description = [{
    `devices` is the number of devices of one stage; ranks = stages × devices, stage slowest. The device mesh, which all
    stages share, has one axis for each prime factor of `devices`, major to minor. `mesh` is their order, which follows
    from the layers' strategies (dialects/Plan/Ranks.h); without it they ascend: 8 is 2×2×2, 6 is 2×3.

    `virtual_stages` above 1 is how many parts of the model a stage has (schedule "interleaved": of `stages` stages
    number s has the parts s, stages + s, 2·stages + s …; "zb-v": two, s and 2·stages - 1 - s).

    Example: `#plan.pipeline<stages = 2, devices = 2, micro_batches = 4, schedule = "1f1b">`,
    `#plan.pipeline<stages = 2, devices = 1, micro_batches = 4, schedule = "interleaved", virtual_stages = 3>`,
    `#plan.pipeline<stages = 1, devices = 12, micro_batches = 1, schedule = "gpipe", mesh = [3, 2, 2]>`
  }];
  let parameters = (ins "int64_t":$stages, "int64_t":$devices, "int64_t":$micro_batches,
                        Plan_ScheduleParameter:$schedule, DefaultValuedParameter<"int64_t", "1">:$virtual_stages,
                        OptionalParameter<"::mlir::DenseI64ArrayAttr">:$mesh);
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

#endif
