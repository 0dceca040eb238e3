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
#include <string>

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

/// Some of the outer indices of an interleaved collective: those at which the pieces lie in the group's order, or in
/// the opposite one.
struct PieceHalf {
  int64_t first, count, step; // outer indices
  bool reversed;

  /// Where rank r's piece lies among `size`.
  int64_t place(int64_t r, int64_t size) const { return reversed ? size - 1 - r : r; }
};

/// All of them, or of a mirrored collective the even and the odd ones.
inline std::vector<PieceHalf> pieceHalves(int64_t outer, bool mirrored) {
  if (!mirrored)
    return {{0, outer, 1, false}};
  return {{0, outer / 2, 2, false}, {1, outer / 2, 2, true}};
}

/// Whose piece of a whole the rank at `position` of a group takes: its own, or, where there are sources, that of the
/// rank at sources[position].
inline int64_t pieceOf(const int64_t *sources, int64_t count, int64_t position) {
  return count > 0 ? sources[position] : position;
}

/// Whom a rank of a group sends to and receives from in a permute; itself if it keeps what it has.
struct Partners {
  int64_t source = 0, target = 0;
};

/// `sources[r]`: whose value rank r of the group gets. Returns a message where they are no permutation of the group.
inline std::string permutePartners(const int64_t *sources, int64_t count, int64_t size, int64_t position,
                                   Partners &partners) {
  std::vector<int64_t> targets(size, -1);
  for (int64_t r = 0; r < count && count == size; ++r)
    if (sources[r] >= 0 && sources[r] < size)
      targets[sources[r]] = r;
  if (std::count(targets.begin(), targets.end(), -1))
    return "expects sources that name each of " + std::to_string(size) + " ranks once";
  partners = {sources[position], targets[position]};
  return "";
}

/// Where an all_to_all's pieces lie: the loops over one of them, and the elements from rank r's to rank r + 1's.
struct AllToAllPieces {
  PieceLoops loops;
  int64_t xStep, yStep;
};

/// x's dimension splitDim is [splitOuter][group][rest]: piece r, its index in the group dropped, goes to rank r. In y
/// the dimension concatDim is [concatOuter][group][rest] of the piece's, the piece of rank r at index r. One worked
/// case, two ranks, x [2, 2], splitDim 1, concatDim 0, both outer 1:
///
///   rank 0 [a b / c d]   rank 1 [e f / g h]   ->   rank 0 [a / c / e / g]   rank 1 [b / d / f / h]
///
/// Returns what is wrong with the cuts, or nothing.
inline std::string allToAllPieces(int64_t rank, const int64_t *extents, int64_t size, int64_t splitDim,
                                  int64_t splitOuter, int64_t concatDim, int64_t concatOuter, AllToAllPieces &pieces) {
  std::vector<int64_t> pieceExtent(extents, extents + rank);
  pieceExtent[splitDim] /= size;
  std::vector<int64_t> xStride(rank, 1), yStride(rank, 1);
  for (int64_t d = rank - 2; d >= 0; --d) {
    xStride[d] = xStride[d + 1] * extents[d + 1];
    yStride[d] = yStride[d + 1] * pieceExtent[d + 1] * (d + 1 == concatDim ? size : 1);
  }
  int64_t splitRest = pieceExtent[splitDim] / splitOuter, concatRest = pieceExtent[concatDim] / concatOuter;
  for (int64_t d = 0; d < rank; ++d) {
    // Index i of the piece's dimension stands in x at (i / splitRest)·size·splitRest + i % splitRest, likewise in y:
    // cut the loop where either jumps.
    int64_t xRest = d == splitDim ? splitRest : pieceExtent[d], yRest = d == concatDim ? concatRest : pieceExtent[d];
    int64_t small = std::min(xRest, yRest), large = std::max(xRest, yRest);
    if (large % small != 0)
      return "expects cuts of dimension " + std::to_string(d) + " that nest, but got " + std::to_string(xRest) +
             " and " + std::to_string(yRest);
    auto jump = [&](int64_t index, int64_t rest, bool cut) {
      return cut ? index / rest * rest * size + index % rest : index;
    };
    auto loop = [&](int64_t extent, int64_t step) {
      pieces.loops.push_back(
          {extent, jump(step, xRest, d == splitDim) * xStride[d], jump(step, yRest, d == concatDim) * yStride[d]});
    };
    loop(pieceExtent[d] / large, large);
    loop(large / small, small);
    loop(small, 1);
  }
  pieces.xStep = splitRest * xStride[splitDim];
  pieces.yStep = concatRest * yStride[concatDim];
  return {};
}

} // namespace galvatron

#endif
