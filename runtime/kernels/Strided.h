//===- Strided.h - loops over two tensors with any strides ------------------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_STRIDED_H
#define GALVATRON_RUNTIME_KERNELS_STRIDED_H

#include <cstdint>
#include <vector>

namespace galvatron {

/// One loop over x and y; strides in elements.
struct StridedLoop {
  int64_t extent, x, y;
};

/// The loops of `rank` dimensions (extents, then x's strides, then y's), without extents of 1, neighbours merged where
/// both tensors run on.
std::vector<StridedLoop> mergedLoops(int64_t rank, const int64_t *extent, const int64_t *x, const int64_t *y);
void mergeLoops(std::vector<StridedLoop> &loops);

/// y[…] = x[…] for elements of 1, 2, 4 or 8 bytes.
void copyStrided(const void *x, void *y, int64_t elementBytes, std::vector<StridedLoop> loops);

} // namespace galvatron

#endif
