//===- Bfloat16.h - the upper half of a float, rounded to nearest even ---------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_BFLOAT16_H
#define GALVATRON_RUNTIME_KERNELS_BFLOAT16_H

#include <bit>
#include <cstdint>

namespace galvatron {

/// Storage only: arithmetic is done in float.
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

} // namespace galvatron

#endif
