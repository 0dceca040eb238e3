//===- ColumnCut.h - how a reduction over rows is cut into blocks --------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_COLUMNCUT_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_COLUMNCUT_H

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace galvatron::cuda {

constexpr int kColumnThreads = 512;       // of a block: lanes side by side in a row × rows
constexpr int kBlocksAMultiprocessor = 2; // that its registers allow
constexpr int kMostRanges = 8;            // blocks of a cluster, on every device that has clusters

/// Strips of lanes · W columns, so many ranges of rows. `share`: how much of the device's time it uses, at most 1.
struct ColumnCut {
  int lanes;
  int64_t strips, ranges;
  double share;
};

/// The cut into at most kMostRanges ranges that keeps the device busiest: no multiprocessor without a block, no last
/// round of few blocks, no strip that is mostly empty. On 132 multiprocessors, W 8:
///
///   [16384, 1600]   25 strips of 8 lanes × 8 ranges        [16384, 6400]   25 strips of 32 lanes × 8 ranges
inline ColumnCut clusterCut(int multiprocessors, int64_t rows, int64_t columns, int W) {
  ColumnCut best{32, (columns + 32 * W - 1) / (32 * W), 1, 0};
  // Clusters lie within groups of multiprocessors and do not fill them to the last.
  double places = 0.85 * kBlocksAMultiprocessor * multiprocessors;
  for (int lanes : {32, 16, 8})
    for (int64_t ranges = kMostRanges; ranges >= 1; ranges /= 2) {
      int64_t strips = (columns + lanes * W - 1) / (lanes * W), rowThreads = kColumnThreads / lanes;
      if (ranges > 1 && rows < 4 * rowThreads * ranges) // four rows a thread
        continue;
      double blocks = (double)(strips * ranges), rounds = std::ceil(blocks / places);
      double busy = rounds > 1 ? blocks / (rounds * places) : std::min(1.0, blocks / multiprocessors);
      double used = busy * (double)columns / (double)(strips * lanes * W);
      if (used > best.share + 0.01)
        best = {lanes, strips, ranges, used};
    }
  return best;
}

} // namespace galvatron::cuda

#endif
