// A better plan than the best of whole layers: attention and feed-forward of the blocks with a strategy each.
#ifndef GALVATRON_DRIVER_HALVESSEARCH_H
#define GALVATRON_DRIVER_HALVESSEARCH_H

#include "MainJobOptions.h"
#include "PhaseRunner.h"

#include "galvatron/Search/Model/Plan.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace galvatron {

/// What a search over halves ends with.
struct HalvesFound {
  /// After phase plan, its blocks cut in two, with `plan` on it, which is faster and fits; null: there is none.
  mlir::OwningOpRef<mlir::ModuleOp> module;
  search::Plan plan;
  std::string note; ///< for `--explain`: what became of it
};

/// Looks around `whole`, the best plan of whole layers, of one stage and with its exact bytes: from its strategies for
/// both halves of each block on, each half may take degrees one step away, as long as that pays. `imported`: the
/// program after phase import. None where no block can be cut into attention and feed-forward.
HalvesFound searchHalves(mlir::ModuleOp imported, const search::Plan &whole, const search::Cluster &cluster,
                         const MainJobOptions &options, PhaseRunner &phases);

} // namespace galvatron

#endif // GALVATRON_DRIVER_HALVESSEARCH_H
