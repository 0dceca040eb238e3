//===- Slices.h - a local piece as runs of elements of the global tensor --------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_SLICES_H
#define GALVATRON_RUNTIME_CHECKPOINT_SLICES_H

#include "runtime/core/Context.h"
#include "runtime/core/Manifest.h"

#include <functional>

namespace galvatron {

/// Elements local … local + count - 1 of the piece are elements global … global + count - 1 of the tensor, both
/// row-major.
struct Slice {
  int64_t local, global, count;
};

/// Calls visit for the fewest slices that make up what this rank updates of its piece (`count` elements from `begin`
/// on, where `local` is 0) but for padding, in local order, until one fails.
Status forSlices(const gvrt_context &context, const ParameterInfo &parameter,
                 const std::function<Status(const Slice &)> &visit);

} // namespace galvatron

#endif
