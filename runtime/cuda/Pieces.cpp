//===- Pieces.cpp - strided copies for collectives whose pieces are not contiguous -----------------===//
#include "runtime/cuda/Pieces.h"

namespace galvatron::cuda {

PieceLoops merged(const PieceLoops &loops) {
  PieceLoops result;
  for (const StridedLoop &loop : loops) {
    if (loop.extent == 1)
      continue;
    if (!result.empty() && result.back().x == loop.x * loop.extent && result.back().y == loop.y * loop.extent)
      result.back() = {result.back().extent * loop.extent, loop.x, loop.y};
    else
      result.push_back(loop);
  }
  return result;
}

bool isContiguous(const PieceLoops &loops, bool x) {
  int64_t expected = 1;
  for (auto loop = loops.rbegin(); loop != loops.rend(); ++loop) {
    if (loop->extent == 1)
      continue;
    if ((x ? loop->x : loop->y) != expected)
      return false;
    expected *= loop->extent;
  }
  return true;
}

void copyPieces(gvrt_context *context, cudaStream_t stream, const void *x, void *y, int64_t elementBytes,
                const PieceLoops &pieces) {
  PieceLoops loops = merged(pieces);
  if (loops.empty() || loops.back().x != 1 || loops.back().y != 1)
    loops.push_back({1, 1, 1});
  GVRT_CHECK(context, loops.size() <= UnitLoops::kMaxDepth,
             "expects at most " << UnitLoops::kMaxDepth << " loops over pieces, but got " << loops.size());
  // The widest unit that every address is a multiple of.
  uint64_t all = reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y) | (loops.back().extent * elementBytes);
  for (size_t i = 0; i + 1 < loops.size(); ++i)
    all |= (loops[i].x | loops[i].y) * elementBytes;
  int64_t unit = std::min<int64_t>(16, all & -all);
  UnitLoops units;
  for (const StridedLoop &loop : loops) {
    bool last = units.depth + 1 == (int)loops.size();
    units.extent[units.depth] = last ? loop.extent * elementBytes / unit : loop.extent;
    units.x[units.depth] = last ? 1 : loop.x * elementBytes / unit;
    units.y[units.depth] = last ? 1 : loop.y * elementBytes / unit;
    units.total *= units.extent[units.depth++];
  }
  launchCopy(stream, x, y, unit, units, stateOf(context).multiprocessors * 8);
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace galvatron::cuda
