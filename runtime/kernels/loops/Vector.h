//===- Vector.h - one machine vector of floats ------------------------------===//
//
// Files in this folder are compiled once for each instruction set (GALVATRON_ISA names the namespace); Loops.cpp beside
// the folder picks a table at start. Compilers' vector extensions give the lanes, so g++ and clang make the same code.
// Nothing here may use a template or inline function of the standard library: the linker keeps one copy of those, which
// could be the one with instructions that this machine lacks.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_LOOPS_VECTOR_H
#define GALVATRON_RUNTIME_KERNELS_LOOPS_VECTOR_H

#include "runtime/kernels/Loops.h"

#define GALVATRON_INLINE static inline __attribute__((always_inline))

namespace galvatron::GALVATRON_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));

GALVATRON_INLINE Floats splat(float value) { return Floats{} + value; }

GALVATRON_INLINE Floats load(const float *p) {
  Floats v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

GALVATRON_INLINE void store(float *p, Floats v) { __builtin_memcpy(p, &v, sizeof v); }

/// The first n < kLanes elements; `fill` after them.
GALVATRON_INLINE Floats loadSome(const float *p, int64_t n, float fill) {
  float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i)
    lanes[i] = fill;
  for (int64_t i = 0; i < n; ++i)
    lanes[i] = p[i];
  return load(lanes);
}

GALVATRON_INLINE void storeSome(float *p, Floats v, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    p[i] = v[i];
}

GALVATRON_INLINE Floats max(Floats a, Floats b) { return a > b ? a : b; }

GALVATRON_INLINE float sumLanes(Floats v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width; width /= 2)
    for (int i = 0; i < width; ++i)
      lanes[i] += lanes[i + width];
  return lanes[0];
}

GALVATRON_INLINE float maxLanes(Floats v) {
  float result = v[0];
  for (int i = 1; i < kLanes; ++i)
    result = v[i] > result ? v[i] : result;
  return result;
}

/// Calls body(i, n) for i = 0, kLanes, …: n is kLanes but for a shorter last call.
template <typename Body> GALVATRON_INLINE void forLanes(int64_t count, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    body(i, (int64_t)kLanes);
  if (i < count)
    body(i, count - i);
}

/// Σ over i of term(i), term yielding a vector: four accumulators hide the latency of addition. `tail(i, n)` yields the
/// last n lanes, zero after them.
template <typename Term, typename Tail> GALVATRON_INLINE float sumOver(int64_t count, Term term, Tail tail) {
  Floats s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    s0 += term(i);
    s1 += term(i + kLanes);
    s2 += term(i + 2 * kLanes);
    s3 += term(i + 3 * kLanes);
  }
  for (; i + kLanes <= count; i += kLanes)
    s0 += term(i);
  if (i < count)
    s1 += tail(i, count - i);
  return sumLanes((s0 + s1) + (s2 + s3));
}

/// eˣ to about 1 ulp: x = n·ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 in r (Cephes' expf), times 2ⁿ. Below
/// -87.3 (normal range's end) 0; above 88.7 infinity; NaN stays.
GALVATRON_INLINE Floats exp(Floats x) {
  Floats clamped = x > 88.72284f ? splat(88.72284f) : x;
  Floats shifted = clamped * 1.44269504088896341f + 12582912.0f; // 1.5·2^23: rounds to nearest in the low bits
  Ints n = (Ints)shifted - (Ints)splat(12582912.0f);
  Floats rounded = shifted - 12582912.0f;
  Floats r = clamped - rounded * 0.693359375f;
  r = r - rounded * -2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2ⁿ in two factors, so that n = 128 does not overflow before the product.
  Ints half = n >> 1;
  Floats y = p * (Floats)((half + 127) << 23) * (Floats)((n - half + 127) << 23);
  y = x < -87.33654f ? Floats{} : y;
  return x > 88.72284f ? splat(__builtin_inff()) : y;
}

/// tanh x to a few ulp: an odd rational function on |x| < 7.9, ±1 beyond (Eigen's coefficients).
GALVATRON_INLINE Floats tanh(Floats x) {
  Floats c = x < -7.90531110763549805f ? splat(-7.90531110763549805f) : x;
  c = c > 7.90531110763549805f ? splat(7.90531110763549805f) : c;
  Floats s = c * c;
  Floats p = splat(-2.76076847742355e-16f);
  p = p * s + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Floats q = splat(1.19825839466702e-06f);
  q = q * s + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return c * p / q;
}

} // namespace galvatron::GALVATRON_ISA

#endif
