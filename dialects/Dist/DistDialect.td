//===- DistDialect.td - what each device computes, on local shapes --------===//
#ifndef GALVATRON_DIALECTS_DIST_DIALECT
#define GALVATRON_DIALECTS_DIST_DIALECT

include "mlir/IR/OpBase.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let cppNamespace = "::galvatron::dist";
  let summary = "What each device computes, on local shapes: placements, collectives, stages";
  let description = [{
    The ranks of a pipeline stage form a mesh whose axes have prime size, major to minor. A tensor's
    *placement* maps each mesh axis to a sub-axis of one dimension, to nothing (replicated) or to a
    partial reduction. Redistribution is algebra per axis.
  }];
  let dependentDialects = ["::galvatron::graph::GraphDialect", "::galvatron::plan::PlanDialect"];
  let useDefaultAttributePrinterParser = 1;
  let extraClassDeclaration = [{
    void registerAttributes();
  }];
}

#endif
