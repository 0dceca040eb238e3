//===- Loops.h - the hot loops, for the instruction set of this machine ------===//
//
// Row- and block-level loops beneath the functions of Functions.def. `loops()` is a table of one instruction set's
// versions, chosen once. Matrices are row-major; `ld` is the distance of rows in elements.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_LOOPS_H
#define GALVATRON_RUNTIME_KERNELS_LOOPS_H

#include <stdint.h>

namespace galvatron {

struct Loops {
  const char *name;

  // Sums and maxima.
  float (*sum)(const float *x, int64_t count);
  float (*max)(const float *x, int64_t count);
  double (*squareSum)(const float *x, int64_t count);
  float (*dot)(const float *x, const float *y, int64_t count);
  /// y[c] += Σ over rows of x[r,c], in blocks of rows.
  void (*addRows)(const float *x, int64_t ld, float *y, int64_t rows, int64_t columns);
  /// y[c] = max(y[c], x[r,c])
  void (*maxRows)(const float *x, int64_t ld, float *y, int64_t rows, int64_t columns);
  /// y += x
  void (*add)(const float *x, float *y, int64_t count);
  /// y *= factor
  void (*scale)(float *y, float factor, int64_t count);

  // Norms; kind 0 rms, 1 layer. weight and bias may be null.
  void (*norm)(const float *x, const float *weight, const float *bias, float *y, float *mean, float *rstd, int64_t rows,
               int64_t columns, int kind, double epsilon, float offset);
  void (*normBackward)(const float *dy, const float *x, const float *weight, const float *mean, const float *rstd,
                       float *dx, int64_t rows, int64_t columns, int kind, float offset);
  /// dw[c] += Σ dy[r,c]·(x[r,c] - mean[r])·rstd[r]
  void (*normWeightBackward)(const float *dy, const float *x, const float *mean, const float *rstd, float *dw,
                             int64_t rows, int64_t columns);

  // Softmax and the loss, a row at a time.
  void (*softmax)(const float *x, float *y, int64_t columns);
  void (*softmaxBackward)(const float *dy, const float *y, float *dx, int64_t columns);
  float (*sumExp)(const float *x, float max, int64_t columns);
  /// y = factor·exp(x - max)
  void (*scaledExp)(const float *x, float max, float factor, float *y, int64_t columns);

  // Attention, on one row of a block of scores.
  /// s = cap·tanh(s / cap); t, where not null, gets the tanh.
  void (*softcap)(float *s, float *t, float cap, int64_t count);
  /// s = exp(s - max), or 0 where that is 0; returns Σ s.
  float (*expInPlace)(float *s, float max, int64_t count);
  /// ds = p·(dp·keep - delta)·(1 - t²) in place of dp; keep (dropout's factors) and t (softcap's tanh) may be null.
  void (*scoreGradient)(const float *p, float *dp, const float *keep, const float *t, float delta, int64_t count);
  /// y = x·w
  void (*multiply)(const float *x, const float *w, float *y, int64_t count);

  /// Rotates one row: pairs (x[i·step], x[i·step + distance]) for i < frequencies; half has step 1, distance
  /// frequencies; interleaved step 2, distance 1. Elements after the rotated ones are copied.
  void (*rotate)(const float *x, float *y, const float *cosine, const float *sine, int64_t frequencies, int64_t columns,
                 int style);

  /// keep[i] = kept ? factor : 0 for elements first + i of the stream (api/CounterRandom.h).
  void (*dropFactors)(uint64_t key, uint64_t high, uint64_t first, uint32_t threshold, float factor, float *keep,
                      int64_t count);

  // Optimizers, as torch.optim computes them in f32; other1 is 1 - beta1, other2 1 - beta2, rounded once.
  void (*adamw)(float *parameter, const float *gradient, float *first, float *second, int64_t count, float scale,
                float decay, float other1, float beta2, float other2, float eps, float stepSize, float rootBias2);
  void (*sgd)(float *parameter, const float *gradient, int64_t count, float scale, float lr, float decay);
};

const Loops &loops();

/// Every instruction set's table that this machine can run, best first, up to null; for tests.
const Loops *const *supportedLoops();

} // namespace galvatron

#endif
