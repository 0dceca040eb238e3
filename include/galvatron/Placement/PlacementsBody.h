//===- PlacementsBody.h - places every value of one layer -----------------===//
#ifndef GALVATRON_PLACEMENT_PLACEMENTSBODY_H
#define GALVATRON_PLACEMENT_PLACEMENTSBODY_H

#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Placement/Placements.h"

#include "mlir/IR/IRMapping.h"

namespace galvatron {

/// One layer type under one strategy.
struct BodyRequest {
  graph::LayerOp layer;
  std::string name;
  /// The home of each parameter, where another use of it has decided; else null, and its first reader
  /// in the forward decides.
  llvm::SmallVector<dist::PlacementAttr> homes;
  /// The gradient of each parameter, where its uses must agree on what is left partial; else null.
  llvm::SmallVector<dist::PlacementAttr> gradients;
  /// Whether result i is the step's loss: it may stay partial.
  llvm::SmallVector<bool> isLoss;
  /// Whether backward reads what forward has gathered, instead of gathering it again: it is then kept whole.
  bool keepsGathered = false;
  /// Whether keys and values of attention come round a ring: then these are never kept.
  bool isRing = false;
};

/// Clones the layer, with a placement as every tensor's encoding and a `dist.redistribute` wherever
/// a needed placement differs from the one at hand. The clone is inserted before the layer.
mlir::FailureOr<graph::LayerOp> assignBody(const BodyRequest &request, const Axes &axes, const LayerSubAxes &subAxes);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_PLACEMENTSBODY_H
