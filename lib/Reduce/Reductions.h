// How programs of this project become smaller where whatever they are kept for allows it.
#ifndef GALVATRON_LIB_REDUCE_REDUCTIONS_H
#define GALVATRON_LIB_REDUCE_REDUCTIONS_H

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {

/// Whether `reduceOp` has something to do with it.
bool canReduce(mlir::Operation *op);

/// One step on one op, none of whose operands and uses are looked at but for:
///   a layer's call gives what it got, where the types are the same, so that equal layers thin out;
///   an op whose results are tensors of static shape becomes zeros of these types;
///   an op without results and regions that ends no block, and a symbol that nobody names, go.
void reduceOp(mlir::Operation *op);

/// Every stage loses the last of the micro-batches that their orders speak of, all at once; false: one is left.
bool dropMicroBatch(mlir::ModuleOp module);

/// What can be seen to be of no use: values that nobody reads, layers that nobody calls, constants that are there
/// twice.
void cleanUp(mlir::ModuleOp module);

} // namespace galvatron

#endif
