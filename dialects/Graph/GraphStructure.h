// Classes of the ops in GraphStructure.td: layers, their backward and calls, parameters.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHSTRUCTURE_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHSTRUCTURE_H

#include "dialects/Graph/GraphDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#define GET_OP_CLASSES
#include "dialects/Graph/GraphStructure.h.inc"

namespace galvatron::graph {

/// The function that a program is of, `@step`; null where a module has none.
mlir::func::FuncOp getStep(mlir::ModuleOp module);

/// The same with a body, or an error that says where to get one.
mlir::FailureOr<mlir::func::FuncOp> expectStep(mlir::ModuleOp module);

} // namespace galvatron::graph

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHSTRUCTURE_H
