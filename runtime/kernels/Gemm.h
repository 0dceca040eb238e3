//===- Gemm.h - one row-major product -----------------------------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_GEMM_H
#define GALVATRON_RUNTIME_KERNELS_GEMM_H

#include "runtime/core/Context.h"

namespace galvatron {

/// An operand in row-major memory with `ld` elements between rows; `transposed` swaps its dimensions.
struct Matrix {
  const float *data;
  int64_t ld;
  bool transposed;
};

/// c[m,n] = alpha·a[m,k]·b[k,n] + beta·c; beta 0 does not read c.
void gemm(gvrt_context *context, const Matrix &a, const Matrix &b, float *c, int64_t ldc, int64_t m, int64_t n,
          int64_t k, float alpha, float beta);

} // namespace galvatron

#endif
