//===- HalfTypes.h - floats of 16 bits: bf16 and f16 ---------------------------------------===//
//
// Storage only: arithmetic is done in float. Conversions round to nearest, ties to even, and keep what is infinite or
// not a number; without branches, so that loops over them become vectors on any processor.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_HALFTYPES_H
#define GALVATRON_RUNTIME_KERNELS_HALFTYPES_H

#include "runtime/api/ElementType.h"

#include <bit>
#include <cstdint>

namespace galvatron {

/// The upper half of a float.
struct Bfloat16 {
  uint16_t bits = 0;

  Bfloat16() = default;
  explicit Bfloat16(float value) {
    uint32_t word = std::bit_cast<uint32_t>(value);
    // A tie goes to the even neighbour; not a number stays one, quietly.
    uint32_t rounded = (word + 0x7fff + (word >> 16 & 1)) >> 16;
    bits = value != value ? (word >> 16 | 0x40) : rounded;
  }
  explicit operator float() const { return std::bit_cast<float>((uint32_t)bits << 16); }
};

/// IEEE's binary16: 5 bits of exponent, 10 of mantissa; up to 65504, down to 2^-24 by subnormals.
struct Float16 {
  uint16_t bits = 0;

  Float16() = default;
  explicit Float16(float value) {
    uint32_t word = std::bit_cast<uint32_t>(value), sign = word & 0x80000000, size = word ^ sign;
    // Exponent 15 instead of 127; a carry of the mantissa is one of the exponent, up to infinity.
    uint32_t normal = (size + 0xc8000fff + (size >> 13 & 1)) >> 13;
    // Below 2^-14: added to 0.5, whose unit in the last place is 2^-24, the float is rounded to whole subnormals.
    uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3f000000;
    uint32_t special = size > 0x7f800000 ? 0x7e00 : 0x7c00; // from 2^16 on
    uint32_t rounded = size < 0x38800000 ? subnormal : size < 0x47800000 ? normal : special;
    bits = sign >> 16 | rounded;
  }
  explicit operator float() const {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, size = bits & 0x7fff;
    uint32_t normal = (size << 13) + 0x38000000, special = (size << 13) + 0x70000000;
    // A subnormal is its bits' number of 2^-24.
    uint32_t subnormal = std::bit_cast<uint32_t>((float)(int32_t)size * 0x1p-24f);
    return std::bit_cast<float>(sign | (size < 0x400 ? subnormal : size < 0x7c00 ? normal : special));
  }
};

/// Calls `f` with a value of the type, which is one of 16 bits.
template <typename F> void withHalf(int64_t type, F &&f) {
  if (type == GVRT_F16)
    f(Float16());
  else
    f(Bfloat16());
}

} // namespace galvatron

#endif
