//===- RowLoops.cpp - sums, norms, softmax and loss, row by row ---------------------===//
#include "runtime/kernels/loops/RowLoops.h"
#include "runtime/kernels/loops/Vector.h"

namespace galvatron::GALVATRON_ISA {

float sum(const float *x, int64_t count) {
  return sumOver(
      count, [&](int64_t i) { return load(x + i); }, [&](int64_t i, int64_t n) { return loadSome(x + i, n, 0); });
}

float max(const float *x, int64_t count) {
  Floats result = splat(-__builtin_inff());
  Floats isNan = {};
  forLanes(count, [&](int64_t i, int64_t n) {
    Floats v = n == kLanes ? load(x + i) : loadSome(x + i, n, -__builtin_inff());
    result = max(v, result);
    isNan = v == v ? isNan : v;
  });
  float nan = sumLanes(isNan); // NaN if any element was
  return nan == nan ? maxLanes(result) : nan;
}

double squareSum(const float *x, int64_t count) {
  // f32 products summed in f64: blocks of a few hundred in f32 would lose the digits that make the norm independent of
  // how a parameter is cut.
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (int k = 0; k < kLanes; ++k)
      lanes[k] += (double)x[i + k] * (double)x[i + k];
  double result = 0;
  for (; i < count; ++i)
    result += (double)x[i] * (double)x[i];
  for (int k = 0; k < kLanes; ++k)
    result += lanes[k];
  return result;
}

float dot(const float *x, const float *y, int64_t count) {
  return sumOver(
      count, [&](int64_t i) { return load(x + i) * load(y + i); },
      [&](int64_t i, int64_t n) { return loadSome(x + i, n, 0) * loadSome(y + i, n, 0); });
}

// Blocks of rows bound the rounding of long sums and keep the column's accumulator in registers.
constexpr int64_t kRowBlock = 64;

void addRows(const float *x, int64_t ld, float *y, int64_t rows, int64_t columns) {
  for (int64_t first = 0; first < rows; first += kRowBlock) {
    int64_t end = first + kRowBlock < rows ? first + kRowBlock : rows;
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      Floats s = {};
      for (int64_t r = first; r < end; ++r)
        s += load(x + r * ld + c);
      store(y + c, load(y + c) + s);
    }
    for (; c < columns; ++c) {
      float s = 0;
      for (int64_t r = first; r < end; ++r)
        s += x[r * ld + c];
      y[c] += s;
    }
  }
}

void maxRows(const float *x, int64_t ld, float *y, int64_t rows, int64_t columns) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) {
      float v = x[r * ld + c];
      y[c] = v > y[c] || v != v ? v : y[c];
    }
}

void add(const float *__restrict x, float *__restrict y, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    y[i] += x[i];
}

void scale(float *y, float factor, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    y[i] *= factor;
}

void multiply(const float *x, const float *w, float *y, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    y[i] = x[i] * w[i];
}

void norm(const float *x, const float *weight, const float *bias, float *y, float *mean, float *rstd, int64_t rows,
          int64_t columns, int kind, double epsilon, float offset) {
  for (int64_t r = 0; r < rows; ++r, x += columns, y += columns) {
    float m = kind == 1 ? sum(x, columns) / (float)columns : 0.0f;
    float squares = sumOver(
        columns,
        [&](int64_t i) {
          Floats d = load(x + i) - m;
          return d * d;
        },
        [&](int64_t i, int64_t n) {
          Floats d = loadSome(x + i, n, m) - m;
          return d * d;
        });
    float s = (float)(1.0 / __builtin_sqrt((double)squares / (double)columns + epsilon));
    mean[r] = m;
    rstd[r] = s;
    forLanes(columns, [&](int64_t i, int64_t n) {
      bool full = n == kLanes;
      Floats v = ((full ? load(x + i) : loadSome(x + i, n, 0)) - m) * s;
      if (weight)
        v = v * ((full ? load(weight + i) : loadSome(weight + i, n, 0)) + offset);
      if (bias)
        v = v + (full ? load(bias + i) : loadSome(bias + i, n, 0));
      full ? store(y + i, v) : storeSome(y + i, v, n);
    });
  }
}

void normBackward(const float *dy, const float *x, const float *weight, const float *mean, const float *rstd, float *dx,
                  int64_t rows, int64_t columns, int kind, float offset) {
  for (int64_t r = 0; r < rows; ++r, x += columns, dy += columns, dx += columns) {
    float m = mean[r], s = rstd[r];
    Floats sumG = {}, sumGx = {};
    auto gradient = [&](int64_t i, int64_t n) {
      Floats g = n == kLanes ? load(dy + i) : loadSome(dy + i, n, 0);
      return weight ? g * ((n == kLanes ? load(weight + i) : loadSome(weight + i, n, 0)) + offset) : g;
    };
    auto normalized = [&](int64_t i, int64_t n) {
      return ((n == kLanes ? load(x + i) : loadSome(x + i, n, m)) - m) * s;
    };
    forLanes(columns, [&](int64_t i, int64_t n) {
      Floats g = gradient(i, n);
      sumG += g;
      sumGx += g * normalized(i, n);
    });
    float meanG = kind == 1 ? sumLanes(sumG) / (float)columns : 0.0f;
    float meanGx = sumLanes(sumGx) / (float)columns;
    forLanes(columns, [&](int64_t i, int64_t n) {
      Floats v = (gradient(i, n) - meanG - normalized(i, n) * meanGx) * s;
      n == kLanes ? store(dx + i, v) : storeSome(dx + i, v, n);
    });
  }
}

void normWeightBackward(const float *dy, const float *x, const float *mean, const float *rstd, float *dw, int64_t rows,
                        int64_t columns) {
  for (int64_t first = 0; first < rows; first += kRowBlock) {
    int64_t end = first + kRowBlock < rows ? first + kRowBlock : rows;
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) {
      Floats s = {};
      for (int64_t r = first; r < end; ++r)
        s += load(dy + r * columns + c) * ((load(x + r * columns + c) - mean[r]) * rstd[r]);
      store(dw + c, load(dw + c) + s);
    }
    for (; c < columns; ++c) {
      float s = 0;
      for (int64_t r = first; r < end; ++r)
        s += dy[r * columns + c] * ((x[r * columns + c] - mean[r]) * rstd[r]);
      dw[c] += s;
    }
  }
}

float sumExp(const float *x, float m, int64_t columns) {
  return sumOver(
      columns, [&](int64_t i) { return exp(load(x + i) - m); },
      [&](int64_t i, int64_t n) { return exp(loadSome(x + i, n, -__builtin_inff()) - m); });
}

void scaledExp(const float *x, float m, float factor, float *y, int64_t columns) {
  forLanes(columns, [&](int64_t i, int64_t n) {
    if (n == kLanes)
      store(y + i, exp(load(x + i) - m) * factor);
    else
      storeSome(y + i, exp(loadSome(x + i, n, 0) - m) * factor, n);
  });
}

void softmax(const float *x, float *y, int64_t columns) {
  float m = max(x, columns);
  scaledExp(x, m, 1.0f / sumExp(x, m, columns), y, columns);
}

void softmaxBackward(const float *dy, const float *y, float *dx, int64_t columns) {
  float d = dot(dy, y, columns);
  for (int64_t i = 0; i < columns; ++i)
    dx[i] = y[i] * (dy[i] - d);
}

} // namespace galvatron::GALVATRON_ISA
