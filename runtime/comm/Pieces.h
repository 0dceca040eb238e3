//===- Pieces.h - which part of a buffer each rank of a group owns --------------------------------------===//
//
// A collective that moves pieces sees its buffer as strided pieces of equal shape, one for each rank of the group.
// Pieces pass through the workspace, so a large collective goes in parts that fit there: `forParts` cuts the piece's
// loops.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_COMM_PIECES_H
#define GALVATRON_RUNTIME_COMM_PIECES_H

#include "runtime/kernels/Strided.h"

#include <algorithm>
#include <functional>

namespace galvatron {

/// Loops over one piece: extent, stride in x, stride in y.
using PieceLoops = std::vector<StridedLoop>;

inline int64_t numElements(const PieceLoops &loops) {
  int64_t count = 1;
  for (const StridedLoop &loop : loops)
    count *= loop.extent;
  return count;
}

/// Calls part(loops of the part, offset in x, offset in y) for parts of at most `limit` elements, in row-major order.
inline void forParts(const PieceLoops &loops, int64_t limit,
                     const std::function<void(const PieceLoops &, int64_t, int64_t)> &part) {
  int64_t below = 1;
  size_t depth = loops.size();
  while (depth > 0 && below * loops[depth - 1].extent <= limit)
    below *= loops[--depth].extent;
  if (depth == 0)
    return part(loops, 0, 0);
  // Loops above depth - 1 are walked one by one, that one in blocks, those below are whole.
  const StridedLoop &cut = loops[depth - 1];
  int64_t block = std::max<int64_t>(1, limit / below);
  PieceLoops rest(loops.begin() + depth - 1, loops.end());
  std::function<void(size_t, int64_t, int64_t)> walk = [&](size_t level, int64_t x, int64_t y) {
    if (level + 1 < depth) {
      for (int64_t i = 0; i < loops[level].extent; ++i)
        walk(level + 1, x + i * loops[level].x, y + i * loops[level].y);
      return;
    }
    for (int64_t i = 0; i < cut.extent; i += block) {
      rest[0].extent = std::min(block, cut.extent - i);
      part(rest, x + i * cut.x, y + i * cut.y);
    }
  };
  walk(0, 0, 0);
}

/// The same loops with one side contiguous, in row-major order.
inline PieceLoops packed(PieceLoops loops, bool packX) {
  int64_t stride = 1;
  for (auto loop = loops.rbegin(); loop != loops.rend(); ++loop) {
    (packX ? loop->x : loop->y) = stride;
    stride *= loop->extent;
  }
  return loops;
}

} // namespace galvatron

#endif
