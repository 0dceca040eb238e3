//===- Attributes.h - reads a function's constants in order -----------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_ATTRIBUTES_H
#define GALVATRON_RUNTIME_KERNELS_ATTRIBUTES_H

#include "runtime/core/Check.h"
#include "runtime/core/Context.h"
#include "runtime/core/PositionMap.h"

#include <bit>

namespace galvatron {

class Attributes {
public:
  explicit Attributes(const int64_t *words) : words(words) {}

  int64_t integer() { return *words++; }
  double real() { return std::bit_cast<double>(*words++); }
  /// The code of an element type that must be f32: whatever else a kernel of this device is to read, the compiler
  /// converts.
  void floats(gvrt_context *context) {
    int64_t type = integer();
    GVRT_CHECK(context, type == GVRT_F32, "expects f32 data (type 0) on this device, but got type " << type);
  }
  /// `count` integers in a row.
  const int64_t *list(int64_t count) {
    const int64_t *result = words;
    words += count;
    return result;
  }
  /// The position map that ends the attributes.
  PositionMap positions(const gvrt_context &context, int64_t rank) const {
    return PositionMap(context.coordinates, context.microBatch, words, rank);
  }

private:
  const int64_t *words;
};

} // namespace galvatron

#endif
