//===- Positions.cuh - position maps in kernels --------------------------------------===//
//
// The device's form of core/PositionMap.h: the coordinates and the micro-batch are filled in on the host, neighbouring
// sub-axes of one kind are merged, and what is left travels as a kernel's parameter.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_POSITIONS_CUH
#define GALVATRON_RUNTIME_CUDA_KERNELS_POSITIONS_CUH

#include "runtime/core/Check.h"
#include "runtime/core/PositionMap.h"

#include <cuda_runtime_api.h> // __host__, __device__

namespace galvatron::cuda {

/// One dimension. No two neighbouring sub-axes are of one kind: local (value -1), fixed, or fixed and mirrored.
struct Positions {
  static constexpr int kMaxSubAxes = 8;
  struct SubAxis {
    int64_t extent, value;
    bool mirrored;

    /// The index of a fixed one after `before`, the index of the last that is not mirrored.
    __host__ __device__ int64_t place(int64_t before) const { return mirrored && before & 1 ? extent - 1 - value : value; }
  };
  SubAxis subAxis[kMaxSubAxes];
  int subAxes = 0;
  int64_t global = 1, local = 1;

  __host__ __device__ bool isIdentity() const { return local == global; }

  /// Extent of the innermost sub-axis where it is local: so many indices follow one another globally.
  __host__ __device__ int64_t run() const {
    return subAxes == 0 ? 1 : subAxis[subAxes - 1].value < 0 ? subAxis[subAxes - 1].extent : 1;
  }

  __host__ __device__ int64_t toGlobal(int64_t index) const {
    if (isIdentity())
      return index;
    int64_t result = 0, below = local, before = 0;
    for (int i = 0; i < subAxes; ++i) {
      int64_t value = subAxis[i].place(before);
      if (subAxis[i].value < 0) {
        below /= subAxis[i].extent;
        value = index / below;
        index %= below;
      }
      if (!subAxis[i].mirrored)
        before = value;
      result = result * subAxis[i].extent + value;
    }
    return result;
  }

  /// -1 where another device holds it, or where it is no index at all.
  __host__ __device__ int64_t toLocal(int64_t index) const {
    if (index < 0 || index >= global)
      return -1;
    if (isIdentity())
      return index;
    int64_t result = 0, below = global, before = 0;
    for (int i = 0; i < subAxes; ++i) {
      below /= subAxis[i].extent;
      int64_t value = index / below;
      index %= below;
      if (subAxis[i].value < 0)
        result = result * subAxis[i].extent + value;
      else if (subAxis[i].place(before) != value)
        return -1;
      if (!subAxis[i].mirrored)
        before = value;
    }
    return result;
  }
};

/// Reads one dimension's words and moves after them.
inline Positions readPositions(gvrt_context *context, const int64_t *&words) {
  Positions result;
  int64_t subAxes = *words++;
  for (int64_t i = 0; i < subAxes; ++i, words += 2) {
    int64_t extent = words[0], value = PositionMap::valueOf(context->coordinates, context->microBatch, extent, words[1]);
    bool isLocal = value == PositionMap::kLocal, mirrored = isMirrored(words[1]);
    result.global *= extent;
    if (isLocal)
      result.local *= extent;
    if (extent == 1)
      continue;
    Positions::SubAxis *last = result.subAxes ? &result.subAxis[result.subAxes - 1] : nullptr;
    if (last && (last->value < 0) == isLocal && last->mirrored == mirrored) {
      last->value = isLocal ? -1 : last->value * extent + value;
      last->extent *= extent;
      continue;
    }
    GVRT_CHECK(context, result.subAxes < Positions::kMaxSubAxes,
               "expects a dimension cut into at most " << Positions::kMaxSubAxes << " alternating sub-axes");
    result.subAxis[result.subAxes++] = {extent, value, mirrored};
  }
  return result;
}

/// The maps of all dimensions of one tensor.
struct TensorPositions {
  static constexpr int kMaxRank = 6;
  Positions dim[kMaxRank];
  int rank = 0;
  bool isWhole = true; // the local tensor is the global one: nothing to divide

  /// Row-major number in the global tensor of element `index` of the local one.
  __host__ __device__ int64_t toGlobal(int64_t index) const {
    if (isWhole)
      return index;
    int64_t result = 0, place = 1;
    for (int d = rank - 1; d >= 0; --d) {
      result += dim[d].toGlobal(index % dim[d].local) * place;
      index /= dim[d].local;
      place *= dim[d].global;
    }
    return result;
  }
  /// So many elements follow one another in both tensors, from every multiple of it.
  __host__ __device__ int64_t run() const { return rank == 0 ? 1 : dim[rank - 1].run(); }
};

inline TensorPositions readTensorPositions(gvrt_context *context, const int64_t *words, int64_t rank) {
  GVRT_CHECK(context, rank <= TensorPositions::kMaxRank,
             "expects at most " << TensorPositions::kMaxRank << " dimensions, but got " << rank);
  TensorPositions result;
  result.rank = (int)rank;
  for (int64_t d = 0; d < rank; ++d) {
    result.dim[d] = readPositions(context, words);
    result.isWhole = result.isWhole && result.dim[d].isIdentity();
  }
  return result;
}

} // namespace galvatron::cuda

#endif
