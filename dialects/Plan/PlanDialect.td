// The plan dialect (placeholder).
#ifndef GALVATRON_DIALECTS_PLAN_DIALECT_TD
#define GALVATRON_DIALECTS_PLAN_DIALECT_TD

include "mlir/IR/OpBase.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let summary = "placeholder";
  let cppNamespace = "::galvatron::plan";
}

class Plan_Op<string mnemonic, list<Trait> traits = []> : Op<Plan_Dialect, mnemonic, traits>;

#endif // GALVATRON_DIALECTS_PLAN_DIALECT_TD
