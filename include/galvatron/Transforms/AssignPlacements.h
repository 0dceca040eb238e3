// The placements of a planned step, for the pass and for whoever asks whether there are any.
#ifndef GALVATRON_TRANSFORMS_ASSIGNPLACEMENTS_H
#define GALVATRON_TRANSFORMS_ASSIGNPLACEMENTS_H

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {

/// What was made.
struct AssignedPlacements {
  unsigned numLayers = 0, numRedistributions = 0;
};

/// Gives every value of a planned module its placement, as `galvatron-assign-placements` says. Fails with a message
/// where the plan cannot be had; the module is then in no state to go on with.
mlir::FailureOr<AssignedPlacements> assignPlacements(mlir::ModuleOp module);

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_ASSIGNPLACEMENTS_H
