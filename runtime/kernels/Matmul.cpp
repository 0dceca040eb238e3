//===- Matmul.cpp - matrix products through oneDNN -------------------------------===//
//
// Strides are brought to a row-major product: each operand is normal or transposed by which of its strides is 1, a
// column-major result swaps the operands, and batch loops that continue M, N or K are folded into them (a Linear over
// [batch, seq, hidden] is one product). Left-over batch loops are walked. Strides that no library call can express go
// through plain loops.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/core/Check.h"
#include "runtime/kernels/Gemm.h"
#include "runtime/kernels/Product.h"

#include <algorithm>
#include <dnnl.h>
#include <utility>

namespace galvatron {

/// oneDNN 2.6 packs operands into buffers of its own that grow with m and n. Larger products go in blocks of this side,
/// so that its memory is bounded: measured over shapes up to 32768, the process grows by 41 MiB with 4096, by 34 MiB
/// with 3072 and by 21 MiB with 2048, which is a few percent slower.
constexpr int64_t kLargestSide = 3072;

static const float *rowOf(const Matrix &a, int64_t row) { return a.data + (a.transposed ? row : row * a.ld); }
static const float *columnOf(const Matrix &b, int64_t column) {
  return b.data + (b.transposed ? column * b.ld : column);
}

void gemm(gvrt_context *context, const Matrix &a, const Matrix &b, float *c, int64_t ldc, int64_t m, int64_t n,
          int64_t k, float alpha, float beta) {
  if (m > kLargestSide || n > kLargestSide) {
    for (int64_t i = 0; i < m; i += kLargestSide)
      for (int64_t j = 0; j < n; j += kLargestSide)
        gemm(context, {rowOf(a, i), a.ld, a.transposed}, {columnOf(b, j), b.ld, b.transposed}, c + i * ldc + j, ldc,
             std::min(kLargestSide, m - i), std::min(kLargestSide, n - j), k, alpha, beta);
    return;
  }
  dnnl_status_t status = dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', m, n, k, alpha, a.data, a.ld,
                                    b.data, b.ld, beta, c, ldc);
  GVRT_CHECK(context, status == dnnl_success,
             "dnnl_sgemm refuses a product of " << m << "x" << k << " and " << k << "x" << n << " (status " << status
                                                << ")");
}

} // namespace galvatron

using namespace galvatron;

namespace {

/// A `rows` × `columns` operand as the library takes it; false where neither stride allows it.
bool describe(const float *data, int64_t rows, int64_t columns, int64_t rowStride, int64_t columnStride,
              Matrix &matrix) {
  if ((columnStride == 1 || columns == 1) && (rowStride >= columns || rows == 1)) {
    matrix = {data, rows == 1 ? columns : rowStride, false};
    return true;
  }
  if ((rowStride == 1 || rows == 1) && (columnStride >= rows || columns == 1)) {
    matrix = {data, columns == 1 ? rows : columnStride, true};
    return true;
  }
  return false;
}

void multiplyPlain(const Product &p, const float *a, const float *b, float *c, bool accumulate) {
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < p.k; ++l)
        sum += a[i * p.am + l * p.ak] * b[l * p.bk + j * p.bn];
      float &out = c[i * p.cm + j * p.cn];
      out = accumulate ? out + sum : sum;
    }
}

void multiply(gvrt_context *context, const Product &p, const float *a, const float *b, float *c, bool accumulate) {
  Matrix left, right, result;
  float beta = accumulate ? 1.0f : 0.0f;
  if (describe(a, p.m, p.k, p.am, p.ak, left) && describe(b, p.k, p.n, p.bk, p.bn, right) &&
      describe(c, p.m, p.n, p.cm, p.cn, result)) {
    if (!result.transposed)
      return gemm(context, left, right, c, result.ld, p.m, p.n, p.k, 1.0f, beta);
    left.transposed = !left.transposed;
    right.transposed = !right.transposed;
    return gemm(context, right, left, c, result.ld, p.n, p.m, p.k, 1.0f, beta);
  }
  multiplyPlain(p, a, b, c, accumulate);
}

/// Walks the left-over batch loops; one along which the result does not move is a sum.
void multiplyBatch(gvrt_context *context, const Product &p, size_t depth, const float *a, const float *b, float *c,
                   bool accumulate) {
  if (depth == p.batch.size())
    return multiply(context, p, a, b, c, accumulate);
  const Product::BatchLoop &loop = p.batch[depth];
  for (int64_t i = 0; i < loop.extent; ++i)
    multiplyBatch(context, p, depth + 1, a + i * loop.a, b + i * loop.b, c + i * loop.c,
                  accumulate || (loop.c == 0 && i > 0));
}

} // namespace

void gvrt_matmul(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes types(attribute);
  types.floats(context); // of a and b
  types.floats(context); // of c
  Product p = readProduct(attribute);
  multiplyBatch(context, p, 0, static_cast<const float *>(buffer[0]), static_cast<const float *>(buffer[1]),
                static_cast<float *>(buffer[2]), p.accumulate);
}

void gvrt_matmul_add(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context); // of a and b
  read.floats(context); // of c
  Product p;
  for (int64_t *word : {&p.m, &p.n, &p.k, &p.am, &p.ak, &p.bk, &p.bn, &p.cm})
    *word = read.integer();
  p.cn = 1;
  const auto *bias = static_cast<const float *>(buffer[2]), *addend = static_cast<const float *>(buffer[3]);
  auto *c = static_cast<float *>(buffer[4]);
  for (int64_t i = 0; i < p.m; ++i)
    for (int64_t j = 0; j < p.n; ++j)
      c[i * p.cm + j] = (bias ? bias[j] : 0) + (addend ? addend[i * p.cm + j] : 0);
  multiply(context, p, static_cast<const float *>(buffer[0]), static_cast<const float *>(buffer[1]), c,
           /*accumulate=*/true);
}
