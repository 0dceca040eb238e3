// The dist dialect (placeholder).
#ifndef GALVATRON_DIALECTS_DIST_DIALECT_TD
#define GALVATRON_DIALECTS_DIST_DIALECT_TD

include "mlir/IR/OpBase.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let summary = "placeholder";
  let cppNamespace = "::galvatron::dist";
}

class Dist_Op<string mnemonic, list<Trait> traits = []> : Op<Dist_Dialect, mnemonic, traits>;

#endif // GALVATRON_DIALECTS_DIST_DIALECT_TD
