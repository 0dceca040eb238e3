//===- VerifyPlacements.h - what collectives make of placements -----------===//
//
// The part of verify-placements that speaks of moving data. It executes a collective on the index: a device's local
// tensor is, dimension by dimension, a list of sub-axes of the global index; a collective takes some out of the list
// and puts others in. That must give the result's placement. Nothing here is shared with what plans redistributions.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_TRANSFORMS_SHARD_VERIFYPLACEMENTS_H
#define GALVATRON_TRANSFORMS_SHARD_VERIFYPLACEMENTS_H

#include "dialects/Dist/Dist.h"

namespace galvatron {

/// Whether a collective of the dist dialect makes a value placed as `to` of one placed as `from`: of one that moves
/// several values, number `index`.
bool leadsTo(mlir::Operation *collective, dist::PlacementAttr from, dist::PlacementAttr to, unsigned index = 0);

/// Whether collectives along the axes of a mesh of these sizes can make a value placed as `to` of one placed as `from`,
/// of one global shape: reductions may only be done, not undone, and nothing moves between micro-batches.
bool isReachable(dist::PlacementAttr from, dist::PlacementAttr to, llvm::ArrayRef<int64_t> mesh);

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_SHARD_VERIFYPLACEMENTS_H
