//===- Pieces.h - strided copies for collectives whose pieces are not contiguous -------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_PIECES_H
#define GALVATRON_RUNTIME_CUDA_PIECES_H

#include "runtime/comm/Pieces.h"
#include "runtime/cuda/State.h"

namespace galvatron::cuda {

/// Drops loops of one element, joins neighbours that run on in both x and y.
PieceLoops merged(const PieceLoops &loops);
/// Whether the loops walk x (or y) from its start without a gap.
bool isContiguous(const PieceLoops &loops, bool x);

/// y[…] = x[…] on `stream`, strides in elements of 1, 2, 4 or 8 bytes.
void copyPieces(gvrt_context *context, cudaStream_t stream, const void *x, void *y, int64_t elementBytes,
                const PieceLoops &loops);

/// The kernel's form of the loops: units of 1, 2, 4, 8 or 16 bytes. At most kMaxDepth loops, outermost first.
struct UnitLoops {
  static constexpr int kMaxDepth = 8;
  int depth = 0;
  int64_t total = 1, extent[kMaxDepth], x[kMaxDepth], y[kMaxDepth];
};
/// Defined in Pieces.cu.
void launchCopy(cudaStream_t stream, const void *x, void *y, int64_t unitBytes, const UnitLoops &loops, int blocks);

} // namespace galvatron::cuda

#endif
