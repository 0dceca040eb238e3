//===- PlainMatmul.h - products with any strides, without a library -----------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_PLAINMATMUL_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_PLAINMATMUL_H

#include "runtime/kernels/Product.h"

namespace galvatron::cuda {

/// A thread for each result; for what no library call can express, and products too small for one.
void multiplyPlain(gvrt_context *context, const Product &product, const void *a, const void *b, void *c);

/// c[m,n] = bias[n] + addend[m,n], both of the type of c, either null; rows are `cm` apart.
void addPlain(gvrt_context *context, const Product &product, const void *bias, const void *addend, void *c);

} // namespace galvatron::cuda

#endif
