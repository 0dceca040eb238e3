//===- Product.h - a matrix product with batch loops, as the library takes it --------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_PRODUCT_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_PRODUCT_H

#include "runtime/core/Context.h"

#include <vector>

namespace galvatron::cuda {

/// c[m,n] (+)= Σk a[m,k]·b[k,n] for every value of the batch loops; strides in elements.
struct Product {
  struct BatchLoop {
    int64_t extent, a, b, c;
  };
  int64_t type, cType, m, n, k, am, ak, bk, bn, cm, cn;
  bool accumulate;
  std::vector<BatchLoop> batch;
};

/// Batch loops that continue one of the three loops of the product become part of it: a Linear over
/// [batch, seq, hidden] is one product.
void foldBatch(Product &product);

/// Any strides, a thread for each result; for what no library call can express, and products too small for one.
void multiplyPlain(gvrt_context *context, const Product &product, const void *a, const void *b, void *c);

/// c[m,n] = bias[n] + addend[m,n], both of the type of c, either null; rows are `cm` apart.
void addPlain(gvrt_context *context, const Product &product, const void *bias, const void *addend, void *c);

} // namespace galvatron::cuda

#endif
