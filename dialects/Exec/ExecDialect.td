// The exec dialect (placeholder).
#ifndef GALVATRON_DIALECTS_EXEC_DIALECT_TD
#define GALVATRON_DIALECTS_EXEC_DIALECT_TD

include "mlir/IR/OpBase.td"

def Exec_Dialect : Dialect {
  let name = "exec";
  let summary = "placeholder";
  let cppNamespace = "::galvatron::exec";
}

class Exec_Op<string mnemonic, list<Trait> traits = []> : Op<Exec_Dialect, mnemonic, traits>;

#endif // GALVATRON_DIALECTS_EXEC_DIALECT_TD
