//===- NumpyRandom.h - what NumPy's RandomState draws -----------------------------------------===//
//
// Megatron shuffles with it, so an order that is to equal its own needs the same draws.
//
//===-------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_NUMPYRANDOM_H
#define GALVATRON_RUNTIME_DATA_NUMPYRANDOM_H

#include <cstdint>
#include <random>
#include <utility>

namespace galvatron {

class NumpyRandom {
public:
  /// RandomState(seed): MT19937, started as the standard's own.
  explicit NumpyRandom(uint32_t seed) : words(seed) {}

  /// RandomState.shuffle of an array of one dimension: from the end on, each element changes places with one that is
  /// not after it. Below 2^32 elements.
  template <typename T> void shuffle(T *values, int64_t count) {
    for (int64_t i = count - 1; i > 0; --i)
      std::swap(values[i], values[upTo(i)]);
  }

private:
  /// Uniform in 0 … most: bits below the next power of two, drawn again where they are beyond `most`.
  uint32_t upTo(uint32_t most) {
    uint32_t mask = most, value;
    for (int shift : {1, 2, 4, 8, 16})
      mask |= mask >> shift;
    do
      value = words() & mask;
    while (value > most);
    return value;
  }

  std::mt19937 words;
};

} // namespace galvatron

#endif
