//===- HeadStrides.h - where attention's heads lie --------------------------------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_HEADSTRIDES_H
#define GALVATRON_RUNTIME_KERNELS_HEADSTRIDES_H

#include <cstdint>

namespace galvatron {

/// Strides of one tensor over [batch, head, position], in elements.
struct HeadStrides {
  int64_t batch, head, position;

  int64_t at(int64_t b, int64_t n, int64_t s) const { return b * batch + n * head + s * position; }
};

} // namespace galvatron

#endif
