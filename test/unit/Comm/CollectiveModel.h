//===- CollectiveModel.h - what every rank must get from a collective, without communicating ------------===//
//
// Each rank knows what all contribute: small whole numbers by rank and element, so that sums are exact in every type
// and order. Used for MPI (test/unit/Comm) and NCCL (test/unit/Cuda).
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_TEST_UNIT_COMM_COLLECTIVEMODEL_H
#define GALVATRON_TEST_UNIT_COMM_COLLECTIVEMODEL_H

#include "runtime/core/Context.h"
#include "runtime/kernels/HalfTypes.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace galvatron::test {

/// Element e of a rank's contribution.
inline float element(int rank, int64_t e) { return (float)((rank * 37 + e * 11) % 101); }

template <typename T> std::vector<T> contribution(int rank, int64_t count) {
  std::vector<T> x(count);
  for (int64_t e = 0; e < count; ++e)
    x[e] = (T)element(rank, e);
  return x;
}

/// Element e of all contributions' sum (kind 0) or maximum (1).
inline float reduced(const Group &group, int64_t kind, int64_t e) {
  float result = kind ? -1 : 0;
  for (int rank : group.ranks)
    result = kind ? std::max(result, element(rank, e)) : result + element(rank, e);
  return result;
}

inline std::vector<float> allReduced(const Group &group, int64_t kind, int64_t count) {
  std::vector<float> y(count);
  for (int64_t e = 0; e < count; ++e)
    y[e] = reduced(group, kind, e);
  return y;
}

/// Whether pieces lie in the opposite order at odd outer indices.
constexpr int64_t kPlain = 0, kMirrored = 1;

/// The place of the piece of position r, or the position whose piece is at place r.
inline int64_t placeOf(int64_t r, int64_t outerIndex, int64_t size, int64_t mirrored) {
  return mirrored && outerIndex % 2 ? size - 1 - r : r;
}

/// [outer][inner] of every rank, as [outer][group][inner].
inline std::vector<float> allGathered(const Group &group, int64_t outer, int64_t inner, int64_t mirrored = kPlain) {
  std::vector<float> y;
  int64_t size = group.ranks.size();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t r = 0; r < size; ++r)
      for (int64_t i = 0; i < inner; ++i)
        y.push_back(element(group.ranks[placeOf(r, o, size, mirrored)], o * inner + i));
  return y;
}

/// The sum of [outer][group][inner], of which this rank gets its [outer][inner].
inline std::vector<float> reduceScattered(const Group &group, int64_t outer, int64_t inner, int64_t mirrored = kPlain) {
  std::vector<float> y;
  int64_t size = group.ranks.size();
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t i = 0; i < inner; ++i)
      y.push_back(reduced(group, 0, (o * size + placeOf(group.position, o, size, mirrored)) * inner + i));
  return y;
}

/// What every rank holds before is a piece of one global tensor, cut on dimension `concat`; afterwards on `split`.
struct AllToAll {
  std::vector<int64_t> extents; // of x
  int64_t split, splitOuter, concat, concatOuter;

  int64_t total() const { return extents[0] * extents[1] * extents[2]; }
  std::vector<int64_t> attributes(int64_t group, int64_t type, int64_t handle) const {
    return {group, type, 3, extents[0], extents[1], extents[2], split, splitOuter, concat, concatOuter, handle};
  }
  std::vector<float> result(const Group &group) const {
    int64_t size = group.ranks.size();
    std::vector<int64_t> piece = extents, shape = extents;
    piece[split] /= size;
    shape[split] /= size;
    shape[concat] *= size;
    int64_t splitRest = piece[split] / splitOuter, concatRest = piece[concat] / concatOuter;
    std::vector<float> y(total(), -1);
    for (int64_t r = 0; r < size; ++r)
      for (int64_t e = 0; e < total() / size; ++e) {
        int64_t index[3] = {e / (piece[1] * piece[2]), e / piece[2] % piece[1], e % piece[2]};
        auto at = [&](const std::vector<int64_t> &of, int64_t dim, int64_t rest, int64_t position) {
          int64_t i[3] = {index[0], index[1], index[2]};
          i[dim] = (i[dim] / rest * size + position) * rest + i[dim] % rest;
          return (i[0] * of[1] + i[1]) * of[2] + i[2];
        };
        y[at(shape, concat, concatRest, r)] = element(group.ranks[r], at(extents, split, splitRest, group.position));
      }
    return y;
  }
};

inline std::ostream &operator<<(std::ostream &out, const AllToAll &call) {
  return out << "split " << call.split << "/" << call.splitOuter << " concat " << call.concat << "/"
             << call.concatOuter;
}

/// All pairs of dimensions; in x [3, 6, last] every dimension is divisible by 3 and, where split, by size·3.
inline std::vector<AllToAll> allToAlls(int64_t size, int64_t last) {
  std::vector<AllToAll> calls;
  for (int64_t split : {0, 1, 2})
    for (int64_t concat : {0, 1, 2})
      for (int64_t splitOuter : {1, 3})
        for (int64_t concatOuter : {1, 3}) {
          AllToAll call{{3, 6, last}, split, splitOuter, concat, concatOuter};
          call.extents[split] *= size * (split == concat ? 3 : 1);
          calls.push_back(call);
        }
  return calls;
}

/// Tells the first element that differs.
template <typename T> void expectSame(const std::vector<T> &result, const std::vector<float> &expected) {
  ASSERT_EQ(result.size(), expected.size());
  for (size_t e = 0; e < result.size(); ++e)
    ASSERT_EQ((float)result[e], expected[e]) << "element " << e << " of " << result.size();
}

} // namespace galvatron::test

#endif
