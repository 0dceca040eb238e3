//===- Norm.cu - norms and softmax over contiguous rows ---------------------------===//
//
// A block takes a row. It reads the row again for every pass over it: the row is in the first-level cache by then.
// Weight gradients are sums over rows: Columns.cuh.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/cuda/kernels/Columns.cuh"
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Vector.cuh"

using namespace galvatron;
using namespace galvatron::cuda;

namespace {

constexpr int kMostThreads = 512;

/// Calls f(column) for the first columns of the thread's pieces of a row.
template <int W, typename F> __device__ void forColumns(int64_t columns, F &&f) {
#pragma unroll 2
  for (int64_t c = (int64_t)threadIdx.x * W; c < columns; c += (int64_t)blockDim.x * W)
    f(c);
}

/// y = (x - mean)·rstd·(weight + offset) + bias; kind 0 (rms) has mean 0.
template <typename T, int W>
__global__ void __launch_bounds__(kMostThreads)
    norm(const T *x, const float *weight, const float *bias, T *y, float *mean, float *rstd, int64_t columns, int kind,
         double epsilon, float offset) {
  int64_t row = blockIdx.x;
  x += row * columns;
  y += row * columns;
  float m = 0;
  if (kind == 1) {
    float sum = 0;
    forColumns<W>(columns, [&](int64_t c) {
      float v[W];
      load<W>(x + c, v);
      for (int i = 0; i < W; ++i)
        sum += v[i];
    });
    m = reduceBlock<Sum>(sum) / (float)columns;
  }
  float squares = 0;
  forColumns<W>(columns, [&](int64_t c) {
    float v[W];
    load<W>(x + c, v);
    for (int i = 0; i < W; ++i)
      squares += (v[i] - m) * (v[i] - m);
  });
  squares = reduceBlock<Sum>(squares);
  float s = (float)(1.0 / sqrt((double)squares / (double)columns + epsilon));
  if (threadIdx.x == 0) {
    mean[row] = m;
    rstd[row] = s;
  }
  forColumns<W>(columns, [&](int64_t c) {
    float v[W], w[W], b[W];
    load<W>(x + c, v);
    if (weight)
      load<W>(weight + c, w);
    if (bias)
      load<W>(bias + c, b);
    for (int i = 0; i < W; ++i) {
      v[i] = (v[i] - m) * s;
      if (weight)
        v[i] *= w[i] + offset;
      if (bias)
        v[i] += b[i];
    }
    store<W>(y + c, v);
  });
}

/// With g = dy·(weight + offset) and n = (x - mean)·rstd: dx = (g - mean(g) - n·mean(g·n))·rstd; rms lacks mean(g).
template <typename T, int W>
__global__ void __launch_bounds__(kMostThreads)
    normBackward(const T *dy, const T *x, const float *weight, const float *mean, const float *rstd, T *dx,
                 int64_t columns, int kind, float offset) {
  int64_t row = blockIdx.x;
  dy += row * columns;
  x += row * columns;
  dx += row * columns;
  float m = mean[row], s = rstd[row], sumG = 0, sumGn = 0;
  auto read = [&](int64_t c, float (&g)[W], float (&n)[W]) {
    float w[W];
    load<W>(dy + c, g);
    load<W>(x + c, n);
    if (weight)
      load<W>(weight + c, w);
    for (int i = 0; i < W; ++i) {
      if (weight)
        g[i] *= w[i] + offset;
      n[i] = (n[i] - m) * s;
    }
  };
  forColumns<W>(columns, [&](int64_t c) {
    float g[W], n[W];
    read(c, g, n);
    for (int i = 0; i < W; ++i) {
      sumG += g[i];
      sumGn += g[i] * n[i];
    }
  });
  float meanG = kind == 1 ? reduceBlock<Sum>(sumG) / (float)columns : 0.0f;
  float meanGn = reduceBlock<Sum>(sumGn) / (float)columns;
  forColumns<W>(columns, [&](int64_t c) {
    float g[W], n[W];
    read(c, g, n);
    for (int i = 0; i < W; ++i)
      g[i] = (g[i] - meanG - n[i] * meanGn) * s;
    store<W>(dx + c, g);
  });
}

template <typename T, int W>
__global__ void __launch_bounds__(kMostThreads) softmax(const T *x, T *y, int64_t columns) {
  x += blockIdx.x * columns;
  y += blockIdx.x * columns;
  float m = Max::kStart, sum = 0;
  forColumns<W>(columns, [&](int64_t c) {
    float v[W];
    load<W>(x + c, v);
    for (int i = 0; i < W; ++i)
      m = Max::combine(m, v[i]);
  });
  m = reduceBlock<Max>(m);
  forColumns<W>(columns, [&](int64_t c) {
    float v[W];
    load<W>(x + c, v);
    for (int i = 0; i < W; ++i)
      sum += expf(v[i] - m);
  });
  float factor = 1.0f / reduceBlock<Sum>(sum);
  forColumns<W>(columns, [&](int64_t c) {
    float v[W];
    load<W>(x + c, v);
    for (int i = 0; i < W; ++i)
      v[i] = expf(v[i] - m) * factor;
    store<W>(y + c, v);
  });
}

/// dx = y·(dy - Σ dy·y)
template <typename T, int W>
__global__ void __launch_bounds__(kMostThreads) softmaxBackward(const T *dy, const T *y, T *dx, int64_t columns) {
  dy += blockIdx.x * columns;
  y += blockIdx.x * columns;
  dx += blockIdx.x * columns;
  float dot = 0;
  forColumns<W>(columns, [&](int64_t c) {
    float g[W], v[W];
    load<W>(dy + c, g);
    load<W>(y + c, v);
    for (int i = 0; i < W; ++i)
      dot += g[i] * v[i];
  });
  dot = reduceBlock<Sum>(dot);
  forColumns<W>(columns, [&](int64_t c) {
    float g[W], v[W];
    load<W>(dy + c, g);
    load<W>(y + c, v);
    for (int i = 0; i < W; ++i)
      g[i] = v[i] * (g[i] - dot);
    store<W>(dx + c, g);
  });
}

/// What a norm's weight gradient sums over rows: dy·(x - mean)·rstd.
template <typename T> struct WeightGradient {
  static constexpr int kRows = 4;
  const T *dy, *x;
  const float *mean, *rstd;
  int64_t columns;

  template <int W> struct Item {
    Packed<W, T> dy, x;
    float mean, rstd;
  };
  template <int W> __device__ void fetch(int64_t row, int64_t column, Item<W> &item) const {
    item.x.fetch(x + row * columns + column);
    item.dy.fetch(dy + row * columns + column);
    item.mean = mean[row];
    item.rstd = rstd[row];
  }
  template <int W> __device__ static void unpack(const Item<W> &item, float (&v)[W]) {
    float g[W];
    item.x.unpack(v);
    item.dy.unpack(g);
    for (int i = 0; i < W; ++i)
      v[i] = g[i] * ((v[i] - item.mean) * item.rstd);
  }
};

} // namespace

void gvrt_norm(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer(), kind = read.integer();
  double epsilon = read.real(), offset = read.real();
  launchRows(context, type, rows, columns, {buffer[0], buffer[1], buffer[2], buffer[3]}, 2,
             [&](auto zero, auto width, int blocks, int threads, cudaStream_t stream) {
               using T = decltype(zero);
               norm<T, decltype(width)::value><<<blocks, threads, 0, stream>>>(
                   at<const T>(buffer, 0), at<const float>(buffer, 1), at<const float>(buffer, 2), at<T>(buffer, 3),
                   at<float>(buffer, 4), at<float>(buffer, 5), columns, (int)kind, epsilon, (float)offset);
             });
}

void gvrt_norm_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer(), kind = read.integer();
  double offset = read.real();
  launchRows(context, type, rows, columns, {buffer[0], buffer[1], buffer[2], buffer[5]}, 2,
             [&](auto zero, auto width, int blocks, int threads, cudaStream_t stream) {
               using T = decltype(zero);
               normBackward<T, decltype(width)::value><<<blocks, threads, 0, stream>>>(
                   at<const T>(buffer, 0), at<const T>(buffer, 1), at<const float>(buffer, 2),
                   at<const float>(buffer, 3), at<const float>(buffer, 4), at<T>(buffer, 5), columns, (int)kind,
                   (float)offset);
             });
}

void gvrt_norm_weight_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer(), accumulate = read.integer();
  withType(context, type, [&](auto zero) {
    using T = decltype(zero);
    WeightGradient<T> gradient{at<const T>(buffer, 0), at<const T>(buffer, 1), at<const float>(buffer, 2),
                               at<const float>(buffer, 3), columns};
    bool wide = aligned(16, buffer[0], buffer[1], columns * sizeof(T));
    withWidth<T>(wide, [&](auto width) {
      reduceColumns<Sum, decltype(width)::value>(context, gradient, rows, columns, at<float>(buffer, 4), accumulate);
    });
  });
}

void gvrt_softmax(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer();
  launchRows(context, type, rows, columns, {buffer[0], buffer[1]}, 2,
             [&](auto zero, auto width, int blocks, int threads, cudaStream_t stream) {
               using T = decltype(zero);
               softmax<T, decltype(width)::value>
                   <<<blocks, threads, 0, stream>>>(at<const T>(buffer, 0), at<T>(buffer, 1), columns);
             });
}

void gvrt_softmax_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), rows = read.integer(), columns = read.integer();
  launchRows(context, type, rows, columns, {buffer[0], buffer[1], buffer[2]}, 2,
             [&](auto zero, auto width, int blocks, int threads, cudaStream_t stream) {
               using T = decltype(zero);
               softmaxBackward<T, decltype(width)::value><<<blocks, threads, 0, stream>>>(
                   at<const T>(buffer, 0), at<const T>(buffer, 1), at<T>(buffer, 2), columns);
             });
}
