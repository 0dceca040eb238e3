// Ops of the exec dialect (placeholder).
#ifndef GALVATRON_DIALECTS_EXEC_OPS_TD
#define GALVATRON_DIALECTS_EXEC_OPS_TD

include "dialects/Exec/ExecDialect.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Exec_NothingOp : Exec_Op<"nothing", [Pure]> {
  let summary = "Does nothing";
  let assemblyFormat = "attr-dict";
}

#endif // GALVATRON_DIALECTS_EXEC_OPS_TD
