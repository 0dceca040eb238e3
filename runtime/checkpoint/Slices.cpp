//===- Slices.cpp - a local piece as runs of elements of the global tensor --------------------===//
//
// Trailing dimensions that are whole on this rank belong to every run; the dimension in front of them is cut where its
// global indices jump; the ones before it are walked. Padding, which no tensor in a file has, is left out.
//
//===------------------------------------------------------------------------------------------===//
#include "runtime/checkpoint/Slices.h"

#include <algorithm>

namespace galvatron {

/// The whole local piece, whoever updates it.
static Status forPieceSlices(const gvrt_context &context, const ParameterInfo &parameter,
                             const std::function<Status(const Slice &)> &visit) {
  int64_t rank = parameter.shape.size();
  PositionMap map(context.coordinates, 0, parameter.placement.data(), rank);
  int64_t whole = 1, dims = rank; // dims: dimensions that are walked or cut
  while (dims > 0 && map.isIdentity(dims - 1) && parameter.paddedExtent(dims - 1) == parameter.shape[dims - 1])
    whole *= parameter.shape[--dims];
  if (dims == 0)
    return visit({0, 0, whole});
  std::vector<std::vector<int64_t>> index;
  int64_t rows = 1;
  for (int64_t d = 0; d < dims; ++d) {
    index.push_back(map.indices(d));
    for (int64_t &global : index[d])
      global = parameter.withoutPadding(d, global);
    if (d + 1 < dims)
      rows *= index[d].size();
  }
  const std::vector<int64_t> &cut = index.back();
  int64_t count = cut.size();
  for (int64_t row = 0; row < rows; ++row) {
    int64_t base = 0, rest = row, stride = parameter.shape[dims - 1];
    bool isPadding = false;
    for (int64_t d = dims - 2; d >= 0; --d) {
      int64_t global = index[d][rest % index[d].size()];
      isPadding |= global < 0;
      base += global * stride;
      rest /= index[d].size();
      stride *= parameter.shape[d];
    }
    for (int64_t begin = 0, end; begin < count && !isPadding; begin = end) {
      end = begin + 1;
      if (cut[begin] < 0)
        continue;
      while (end < count && cut[end] == cut[end - 1] + 1)
        ++end;
      Status status = visit({(row * count + begin) * whole, (base + cut[begin]) * whole, (end - begin) * whole});
      if (!status.ok())
        return status;
    }
  }
  return Status::success();
}

Status forSlices(const gvrt_context &context, const ParameterInfo &parameter,
                 const std::function<Status(const Slice &)> &visit) {
  return forPieceSlices(context, parameter, [&](const Slice &slice) {
    int64_t begin = std::max(slice.local, parameter.begin);
    int64_t end = std::min(slice.local + slice.count, parameter.begin + parameter.count);
    if (begin >= end)
      return Status::success();
    return visit({begin - parameter.begin, slice.global + begin - slice.local, end - begin});
  });
}

} // namespace galvatron
