//===- PlainMatmul.cu - products with any strides, without a library ----------------------------===//
#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/PlainMatmul.h"
#include "runtime/cuda/kernels/Vector.cuh"

namespace galvatron::cuda {
namespace {

constexpr int kSide = 16;

struct Strides {
  int64_t m, n, k, am, ak, bk, bn, cm, cn;
};

template <typename T, typename C>
__global__ void __launch_bounds__(kSide *kSide) plainMatmul(const T *a, const T *b, C *c, Strides s, int64_t batchA,
                                                            int64_t batchB, int64_t batchC, bool accumulate) {
  int64_t column = (int64_t)blockIdx.x * kSide + threadIdx.x;
  a += blockIdx.z * batchA;
  b += blockIdx.z * batchB;
  c += blockIdx.z * batchC;
  for (int64_t row = (int64_t)blockIdx.y * kSide + threadIdx.y; row < s.m; row += (int64_t)gridDim.y * kSide) {
    if (column >= s.n)
      return;
    float sum = 0;
    for (int64_t l = 0; l < s.k; ++l)
      sum += widen(a[row * s.am + l * s.ak]) * widen(b[l * s.bk + column * s.bn]);
    C &out = c[row * s.cm + column * s.cn];
    out = narrow<C>(accumulate ? widen(out) + sum : sum);
  }
}

template <typename C> __global__ void plainAdd(const C *bias, const C *addend, C *c, int64_t m, int64_t n, int64_t cm) {
  int64_t column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= n)
    return;
  for (int64_t row = blockIdx.y; row < m; row += gridDim.y) {
    float sum = bias ? widen(bias[column]) : 0;
    if (addend)
      sum += widen(addend[row * cm + column]);
    c[row * cm + column] = narrow<C>(sum);
  }
}

template <typename T, typename C>
void walk(gvrt_context *context, const Product &p, size_t depth, const T *a, const T *b, C *c, bool accumulate) {
  // The innermost loop is the launch's third dimension unless it is a sum.
  if (depth + 1 < p.batch.size() ||
      (depth < p.batch.size() && (p.batch[depth].c == 0 || p.batch[depth].extent > 65535))) {
    const Product::BatchLoop &loop = p.batch[depth];
    for (int64_t i = 0; i < loop.extent; ++i)
      walk(context, p, depth + 1, a + i * loop.a, b + i * loop.b, c + i * loop.c, accumulate || (loop.c == 0 && i > 0));
    return;
  }
  Product::BatchLoop last = depth < p.batch.size() ? p.batch[depth] : Product::BatchLoop{1, 0, 0, 0};
  Strides s{p.m, p.n, p.k, p.am, p.ak, p.bk, p.bn, p.cm, p.cn};
  dim3 blocks(divideUp(p.n, kSide), std::min<int64_t>(divideUp(p.m, kSide), 65535), last.extent);
  plainMatmul<<<blocks, dim3(kSide, kSide), 0, stateOf(context).compute>>>(a, b, c, s, last.a, last.b, last.c,
                                                                           accumulate);
  GVRT_CUDA(context, cudaGetLastError());
}

} // namespace

void addPlain(gvrt_context *context, const Product &p, const void *bias, const void *addend, void *c) {
  withType(context, p.cType, [&](auto cType) {
    using C = decltype(cType);
    dim3 blocks(divideUp(p.n, 256), std::min<int64_t>(p.m, 65535));
    plainAdd<<<blocks, 256, 0, stateOf(context).compute>>>(static_cast<const C *>(bias), static_cast<const C *>(addend),
                                                           static_cast<C *>(c), p.m, p.n, p.cm);
  });
  GVRT_CUDA(context, cudaGetLastError());
}

void multiplyPlain(gvrt_context *context, const Product &p, const void *a, const void *b, void *c) {
  if (p.m == 0 || p.n == 0)
    return;
  withType(context, p.type, [&](auto type) {
    withType(context, p.cType, [&](auto cType) {
      using T = decltype(type);
      walk(context, p, 0, static_cast<const T *>(a), static_cast<const T *>(b), static_cast<decltype(cType) *>(c),
           p.accumulate);
    });
  });
}

} // namespace galvatron::cuda
