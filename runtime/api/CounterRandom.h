// Random numbers by counter: a pure function of what they are for, never of who draws them when.
//
// Dropout bits and initial values must be the same under every plan, in recomputation and on every
// device, so nothing here has state: a *stream* is named (seed, step, layer and op for dropout; seed
// and parameter name for initial values) and its element e is computed on its own, e being the
// row-major index in the *global* tensor. The generator is Philox4x32-10 (Salmon et al., Parallel
// Random Numbers: As Easy as 1, 2, 3, 2011), whose key and upper counter half carry the stream's name.
//
// No dependencies: the compiler's reference evaluator, the runtime and device code include this file.
// Integers are bit-exact everywhere. `uniform` is exact in double; `normal` uses the host's log, cos
// and sin in double: initial values are drawn on hosts.
#ifndef GALVATRON_RUNTIME_API_COUNTERRANDOM_H
#define GALVATRON_RUNTIME_API_COUNTERRANDOM_H

#include <cmath>
#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define GALVATRON_HOST_DEVICE __host__ __device__
#else
#define GALVATRON_HOST_DEVICE
#endif

namespace galvatron::random {

/// Four independent words, one call of the generator.
struct Block {
  uint32_t word[4];
};

/// Philox4x32-10. Known answer: all zeros → 6627e8d5 e169c58d bc57ac4c 9b00dbd8.
GALVATRON_HOST_DEVICE inline Block philox(uint64_t counterLow, uint64_t counterHigh, uint64_t key) {
  uint32_t c0 = (uint32_t)counterLow, c1 = (uint32_t)(counterLow >> 32);
  uint32_t c2 = (uint32_t)counterHigh, c3 = (uint32_t)(counterHigh >> 32);
  uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; ++round) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// splitmix64's finalizer: every input bit reaches every output bit.
GALVATRON_HOST_DEVICE inline uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// FNV-1a of a name, e.g. of a layer's path or a parameter's canonical name.
inline uint64_t hashName(const char *text, size_t length) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < length; ++i)
    hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
  return hash;
}

/// A named sequence of random numbers with random access.
struct Stream {
  uint64_t key, high;

  /// 32 bits for element e: word e % 4 of block e / 4.
  GALVATRON_HOST_DEVICE uint32_t bits(uint64_t e) const { return philox(e / 4, high, key).word[e % 4]; }

  /// Uniform in [0, 1) with 53 bits: half e % 2 of block e / 2.
  GALVATRON_HOST_DEVICE double uniform(uint64_t e) const {
    Block block = philox(e / 2, high, key);
    return toUnit(block, e % 2);
  }

  /// Standard normal by Box and Muller: elements 2i and 2i+1 are the two values of block i.
  double normal(uint64_t e) const {
    Pair pair = normals(e / 2);
    return e % 2 ? pair.odd : pair.even;
  }

  /// Both normals of block i, for half the price of drawing them one by one.
  struct Pair {
    double even, odd;
  };
  Pair normals(uint64_t i) const {
    Block block = philox(i, high, key);
    double radius = std::sqrt(-2.0 * std::log(1.0 - toUnit(block, 0)));
    double angle = 6.283185307179586476925 * toUnit(block, 1);
    return {radius * std::cos(angle), radius * std::sin(angle)};
  }

private:
  GALVATRON_HOST_DEVICE static double toUnit(const Block &block, unsigned half) {
    uint64_t word = (uint64_t)block.word[2 * half + 1] << 32 | block.word[2 * half];
    return (double)(word >> 11) * (1.0 / 9007199254740992.0); // 2^-53
  }
};

/// The stream of dropout op `id` in the layer with this path's hash (`hashName(path)`; a path names a
/// layer under every plan, a number would not) at training step `step`, counted from 1.
GALVATRON_HOST_DEVICE inline Stream dropoutStream(uint64_t seed, uint64_t step, uint64_t layer, uint64_t id) {
  return {mix(mix(seed) ^ step), mix(mix(layer) ^ id)};
}

/// An element is kept iff its bits reach this threshold, p·2³²; p in [0, 1).
GALVATRON_HOST_DEVICE inline uint32_t dropThreshold(double p) { return (uint32_t)(p * 4294967296.0); }

/// Whether dropout with probability p keeps global element e.
GALVATRON_HOST_DEVICE inline bool keeps(const Stream &stream, uint64_t e, double p) {
  return stream.bits(e) >= dropThreshold(p);
}

/// The stream of a parameter's initial values; `name` is its canonical (first) name's hash.
inline Stream initialStream(uint64_t seed, uint64_t name) { return {mix(mix(~seed) ^ name), mix(name)}; }

enum class Distribution { Constant, Uniform, Normal };

/// Element e of a parameter: Constant a; Uniform in [a, b); Normal with mean a and deviation b.
inline float initialValue(const Stream &stream, uint64_t e, Distribution kind, double a, double b) {
  switch (kind) {
  case Distribution::Uniform:
    return (float)(a + (b - a) * stream.uniform(e));
  case Distribution::Normal:
    return (float)(a + b * stream.normal(e));
  case Distribution::Constant:
    break;
  }
  return (float)a;
}

/// `out[i]` becomes the initial value of element `first + i`.
inline void initialValues(const Stream &stream, uint64_t first, size_t count, Distribution kind, double a, double b,
                          float *out) {
  size_t i = 0;
  if (kind == Distribution::Normal) {
    if (first % 2 && count)
      out[i++] = initialValue(stream, first, kind, a, b);
    for (; i + 1 < count; i += 2) {
      Stream::Pair pair = stream.normals((first + i) / 2);
      out[i] = (float)(a + b * pair.even);
      out[i + 1] = (float)(a + b * pair.odd);
    }
  }
  for (; i < count; ++i)
    out[i] = initialValue(stream, first + i, kind, a, b);
}

} // namespace galvatron::random

#endif // GALVATRON_RUNTIME_API_COUNTERRANDOM_H
