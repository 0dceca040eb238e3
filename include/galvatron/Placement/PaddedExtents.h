//===- PaddedExtents.h - how far the axes of layers are padded ------------===//
//
// Heads, feed-forward widths, vocabularies and sequences that a degree does not divide, where plans ask for padding.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_PLACEMENT_PADDEDEXTENTS_H
#define GALVATRON_PLACEMENT_PADDEDEXTENTS_H

#include "galvatron/Placement/Placements.h"

#include <map>

namespace galvatron {

/// Extents of the axes of a layer that are padded, in place of their own.
using PaddedExtents = std::map<AxisId, int64_t>;

/// The parts into which each of the extents is cut so that the degree is their product and the padded extents, each
/// the next multiple of its parts, have the least product; among equals the outermost axis has the most parts. Keys and
/// values of 4 heads under queries of 12 (4 x 3): degree 8 gives 4 and 2, so 4 x 4; degree 5 gives 5 and 1, so 5 x 3.
llvm::SmallVector<int64_t> getParts(llvm::ArrayRef<int64_t> extents, int64_t degree);

/// For each call what is padded in its layer alone under its strategy. A tied parameter is padded to what all layers
/// that read it need, so one of them pads for all.
llvm::SmallVector<PaddedExtents> getPaddedExtents(mlir::ModuleOp module, const Axes &axes,
                                                  llvm::ArrayRef<graph::CallOp> calls);

/// The positions of all layers, and to how many they are padded: one number for the step, the next multiple of what
/// every layer needs that asks for padding or needs none. Empty where none needs it.
PaddedExtents getPaddedPositions(mlir::ModuleOp module, const Axes &axes, llvm::ArrayRef<graph::CallOp> calls);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_PADDEDEXTENTS_H
