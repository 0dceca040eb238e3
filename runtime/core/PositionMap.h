//===- PositionMap.h - where a local element stands in the global tensor ---===//
//
// A dimension of a global tensor is a list of sub-axes, major first; each sub-axis is held locally (all its values, in
// order), fixed by a mesh axis (one value: the device's coordinate) or by time (one value: the micro-batch). Example,
// batch 8 as
// [(2 micro-batch) (2 axis 0) (2 local)] on the device with coordinate 1 in micro-batch 0:
//
//   local 0 1  ->  global (0·2 + 1)·2 + {0, 1}  =  2 3
//
// A sub-axis may be mirrored: where the last one before it that is not stands at an odd index, the coordinate counts
// from the other end. And the coordinate may be that of the device some way back along the axis, whose keys came round
// a ring.
//
// The same words travel as attributes of functions (Functions.def, `map`) and as placements in the manifest.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_POSITIONMAP_H
#define GALVATRON_RUNTIME_CORE_POSITIONMAP_H

#include "runtime/api/MeshAxisWord.h"

#include <cstdint>
#include <vector>

namespace galvatron {

class PositionMap {
public:
  static constexpr int64_t kLocal = -1, kTime = -2;

  /// Reads `rank` dimensions of [number of sub-axes, (extent, mesh axis)…] from `words`.
  PositionMap(const std::vector<int64_t> &coordinates, int64_t microBatch, const int64_t *words, int64_t rank) {
    dimensions.resize(rank);
    for (Dimension &dimension : dimensions) {
      int64_t subAxes = *words++;
      for (int64_t i = 0; i < subAxes; ++i, words += 2) {
        int64_t extent = words[0];
        SubAxis subAxis{extent, valueOf(coordinates, microBatch, extent, words[1]), isMirrored(words[1])};
        dimension.subAxes.push_back(subAxis);
        dimension.global *= extent;
        if (subAxis.value == kLocal)
          dimension.local *= extent;
      }
    }
  }

  /// The index that this device and micro-batch have of a sub-axis, kLocal if all of them.
  static int64_t valueOf(const std::vector<int64_t> &coordinates, int64_t microBatch, int64_t extent, int64_t word) {
    if (word == kLocal)
      return kLocal;
    if (word == kTime)
      return microBatch;
    return (coordinates[meshAxisOf(word)] + extent - turnOf(word)) % extent;
  }

  int64_t globalExtent(int64_t dim) const { return dimensions[dim].global; }
  int64_t localExtent(int64_t dim) const { return dimensions[dim].local; }

  /// Global index of local index `local`.
  int64_t toGlobal(int64_t dim, int64_t local) const {
    int64_t global = 0, below = dimensions[dim].local, before = 0;
    for (const SubAxis &subAxis : dimensions[dim].subAxes) {
      int64_t value = subAxis.value;
      if (value == kLocal) {
        below /= subAxis.extent;
        value = local / below;
        local %= below;
      }
      value = subAxis.place(value, before);
      global = global * subAxis.extent + value;
    }
    return global;
  }

  /// Local index of global index `global` (0 <= global < globalExtent), or -1 where another device holds it.
  int64_t toLocal(int64_t dim, int64_t global) const {
    int64_t local = 0, below = dimensions[dim].global, before = 0;
    for (const SubAxis &subAxis : dimensions[dim].subAxes) {
      below /= subAxis.extent;
      int64_t value = global / below;
      global %= below;
      int64_t own = subAxis.place(subAxis.value, before);
      if (!subAxis.mirrored)
        before = value;
      if (subAxis.value == kLocal)
        local = local * subAxis.extent + value;
      else if (own != value)
        return -1;
    }
    return local;
  }

  /// Global indices of all local ones, in order.
  std::vector<int64_t> indices(int64_t dim) const {
    std::vector<int64_t> result(localExtent(dim));
    for (int64_t i = 0; i < (int64_t)result.size(); ++i)
      result[i] = toGlobal(dim, i);
    return result;
  }

  /// Whether local and global index are the same.
  bool isIdentity(int64_t dim) const { return dimensions[dim].local == dimensions[dim].global; }

private:
  struct SubAxis {
    int64_t extent, value; // value kLocal: all values
    bool mirrored;

    /// The index for a value, and what the mirrored ones that follow go by.
    int64_t place(int64_t value, int64_t &before) const {
      if (mirrored)
        return before % 2 != 0 ? extent - 1 - value : value;
      before = value;
      return value;
    }
  };
  struct Dimension {
    std::vector<SubAxis> subAxes;
    int64_t global = 1, local = 1;
  };
  std::vector<Dimension> dimensions;
};

} // namespace galvatron

#endif
