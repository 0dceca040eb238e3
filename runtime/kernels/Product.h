//===- Product.h - a matrix product with batch loops, as gvrt_matmul is told of it -------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_PRODUCT_H
#define GALVATRON_RUNTIME_KERNELS_PRODUCT_H

#include "runtime/kernels/Attributes.h"

#include <vector>

namespace galvatron {

/// c[m,n] (+)= Σk a[m,k]·b[k,n] for every value of the batch loops; strides in elements.
struct Product {
  struct BatchLoop {
    int64_t extent, a, b, c;
  };
  int64_t type, cType, m, n, k, am, ak, bk, bn, cm, cn;
  bool accumulate;
  std::vector<BatchLoop> batch;
};

/// The loop of the product that a batch loop runs on in, or null.
inline int64_t *continuedBy(const Product::BatchLoop &loop, Product &p) {
  if (loop.b == 0 && loop.a == p.m * p.am && loop.c == p.m * p.cm)
    return &p.m;
  if (loop.a == 0 && loop.b == p.n * p.bn && loop.c == p.n * p.cn)
    return &p.n;
  if (loop.c == 0 && loop.a == p.k * p.ak && loop.b == p.k * p.bk)
    return &p.k;
  return nullptr;
}

/// Batch loops that continue one of the three loops of the product become part of it (a Linear over
/// [batch, seq, hidden] is one product), again until none does; loops of one value go.
inline void foldBatch(Product &p) {
  for (size_t i = 0; i < p.batch.size();) {
    Product::BatchLoop loop = p.batch[i];
    int64_t *extent = loop.extent == 1 ? nullptr : continuedBy(loop, p);
    if (!extent && loop.extent != 1) {
      ++i;
      continue;
    }
    if (extent)
      *extent *= loop.extent;
    p.batch.erase(p.batch.begin() + i);
    i = 0;
  }
}

/// gvrt_matmul's attributes, folded.
inline Product readProduct(const int64_t *attribute) {
  Attributes read(attribute);
  Product p;
  for (int64_t *word : {&p.type, &p.cType, &p.m, &p.n, &p.k, &p.am, &p.ak, &p.bk, &p.bn, &p.cm, &p.cn})
    *word = read.integer();
  p.accumulate = read.integer();
  int64_t numBatch = read.integer();
  for (int64_t i = 0; i < numBatch; ++i) {
    const int64_t *words = read.list(4);
    p.batch.push_back({words[0], words[1], words[2], words[3]});
  }
  foldBatch(p);
  return p;
}

} // namespace galvatron

#endif
