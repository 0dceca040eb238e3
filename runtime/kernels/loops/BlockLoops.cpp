//===- BlockLoops.cpp - attention's rows, rotations, dropout and optimizers ----------===//
#include "runtime/kernels/loops/RowLoops.h"
#include "runtime/kernels/loops/Vector.h"

namespace galvatron::GALVATRON_ISA {

void softcap(float *s, float *t, float cap, int64_t count) {
  float inverse = 1.0f / cap;
  forLanes(count, [&](int64_t i, int64_t n) {
    Floats v = tanh((n == kLanes ? load(s + i) : loadSome(s + i, n, 0)) * inverse);
    if (t)
      n == kLanes ? store(t + i, v) : storeSome(t + i, v, n);
    n == kLanes ? store(s + i, v * cap) : storeSome(s + i, v * cap, n);
  });
}

float expInPlace(float *s, float m, int64_t count) {
  Floats total = {};
  forLanes(count, [&](int64_t i, int64_t n) {
    Floats v = exp((n == kLanes ? load(s + i) : loadSome(s + i, n, -__builtin_inff())) - m);
    total += v;
    n == kLanes ? store(s + i, v) : storeSome(s + i, v, n);
  });
  return sumLanes(total);
}

void scoreGradient(const float *p, float *dp, const float *keep, const float *t, float delta, int64_t count) {
  if (keep)
    for (int64_t i = 0; i < count; ++i)
      dp[i] *= keep[i];
  for (int64_t i = 0; i < count; ++i)
    dp[i] = p[i] * (dp[i] - delta);
  if (t)
    for (int64_t i = 0; i < count; ++i)
      dp[i] *= 1.0f - t[i] * t[i];
}

void rotate(const float *__restrict x, float *__restrict y, const float *__restrict cosine,
            const float *__restrict sine, int64_t frequencies, int64_t columns, int style) {
  if (style == 0) {
    for (int64_t i = 0; i < frequencies; ++i) {
      float a = x[i], b = x[i + frequencies];
      y[i] = a * cosine[i] - b * sine[i];
      y[i + frequencies] = b * cosine[i] + a * sine[i];
    }
  } else {
    for (int64_t i = 0; i < frequencies; ++i) {
      float a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = a * cosine[i] - b * sine[i];
      y[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
  }
  for (int64_t i = 2 * frequencies; i < columns; ++i)
    y[i] = x[i];
}

void dropFactors(uint64_t key, uint64_t high, uint64_t first, uint32_t threshold, float factor, float *keep,
                 int64_t count) {
  // Word w of block b is element 4·b + w. A tile of blocks at a time, so that the rounds run over vectors.
  constexpr int kTile = 32;
  uint32_t words[4 * kTile];
  uint64_t end = first + count;
  for (uint64_t block = first / 4; 4 * block < end; block += kTile) {
    uint32_t c0[kTile], c1[kTile], c2[kTile], c3[kTile];
    for (int i = 0; i < kTile; ++i) {
      c0[i] = (uint32_t)(block + i);
      c1[i] = (uint32_t)((block + i) >> 32);
      c2[i] = (uint32_t)high;
      c3[i] = (uint32_t)(high >> 32);
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; ++round) {
      for (int i = 0; i < kTile; ++i) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0[i], p1 = (uint64_t)0xCD9E8D57u * c2[i];
        c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
        c1[i] = (uint32_t)p1;
        c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
        c3[i] = (uint32_t)p0;
      }
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < kTile; ++i) {
      words[4 * i] = c0[i];
      words[4 * i + 1] = c1[i];
      words[4 * i + 2] = c2[i];
      words[4 * i + 3] = c3[i];
    }
    uint64_t begin = 4 * block > first ? 4 * block : first;
    uint64_t stop = 4 * (block + kTile) < end ? 4 * (block + kTile) : end;
    for (uint64_t e = begin; e < stop; ++e)
      keep[e - first] = words[e - 4 * block] >= threshold ? factor : 0.0f;
  }
}

void adamw(float *__restrict parameter, const float *__restrict gradient, float *__restrict first,
           float *__restrict second, int64_t count, float scale, float decay, float other1, float beta2, float other2,
           float eps, float stepSize, float rootBias2) {
  for (int64_t i = 0; i < count; ++i) {
    float g = gradient[i] * scale;
    float p = parameter[i] * decay;
    float m = first[i] + (g - first[i]) * other1;
    float v = second[i] * beta2 + other2 * g * g;
    first[i] = m;
    second[i] = v;
    parameter[i] = p - stepSize * m / (__builtin_sqrtf(v) / rootBias2 + eps);
  }
}

void sgd(float *__restrict parameter, const float *__restrict gradient, int64_t count, float scale, float lr,
         float decay) {
  for (int64_t i = 0; i < count; ++i)
    parameter[i] -= lr * (gradient[i] * scale + decay * parameter[i]);
}

extern const Loops kLoops;
const Loops kLoops = {GALVATRON_ISA_NAME,
                      sum,
                      max,
                      squareSum,
                      dot,
                      addRows,
                      maxRows,
                      add,
                      scale,
                      norm,
                      normBackward,
                      normWeightBackward,
                      softmax,
                      softmaxBackward,
                      sumExp,
                      scaledExp,
                      softcap,
                      expInPlace,
                      scoreGradient,
                      multiply,
                      rotate,
                      dropFactors,
                      adamw,
                      sgd};

} // namespace galvatron::GALVATRON_ISA
