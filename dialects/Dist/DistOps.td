// Ops of the dist dialect (placeholder).
#ifndef GALVATRON_DIALECTS_DIST_OPS_TD
#define GALVATRON_DIALECTS_DIST_OPS_TD

include "dialects/Dist/DistDialect.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Dist_NothingOp : Dist_Op<"nothing", [Pure]> {
  let summary = "Does nothing";
  let assemblyFormat = "attr-dict";
}

#endif // GALVATRON_DIALECTS_DIST_OPS_TD
