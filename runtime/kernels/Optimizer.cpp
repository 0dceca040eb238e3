//===- Optimizer.cpp - updates of one parameter's piece, as torch.optim computes them -----------===//
//
// Scalars are formed in double and rounded once, like torch's scalar arguments of f32 tensors.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/HalfTypes.h"
#include "runtime/kernels/Loops.h"

#include <cmath>

using namespace galvatron;

/// The parameter that bodies read, where it is not the master itself.
static void writeCopy(const void *parameter, int64_t copyType, void *copy, int64_t count) {
  if (!copy)
    return;
  withHalf(copyType, [&]<typename T>(T) {
    for (int64_t i = 0; i < count; ++i)
      static_cast<T *>(copy)[i] = T(static_cast<const float *>(parameter)[i]);
  });
}

void gvrt_square_sum(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  *static_cast<double *>(buffer[1]) += loops().squareSum(static_cast<const float *>(buffer[0]), attribute[0]);
}

void gvrt_adamw(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t count = read.integer(), copyType = read.integer();
  double scale = read.real(), lr = read.real(), beta1 = read.real(), beta2 = read.real(), eps = read.real(),
         weightDecay = read.real();
  int64_t step = read.integer();
  double bias1 = 1 - std::pow(beta1, step), bias2 = 1 - std::pow(beta2, step);
  loops().adamw(static_cast<float *>(buffer[0]), static_cast<const float *>(buffer[1]), static_cast<float *>(buffer[2]),
                static_cast<float *>(buffer[3]), count, scale, 1 - lr * weightDecay, 1 - beta1, beta2, 1 - beta2, eps,
                lr / bias1, std::sqrt(bias2));
  writeCopy(buffer[0], copyType, buffer[4], count);
}

void gvrt_sgd(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t count = read.integer(), copyType = read.integer();
  double scale = read.real(), lr = read.real(), weightDecay = read.real();
  loops().sgd(static_cast<float *>(buffer[0]), static_cast<const float *>(buffer[1]), count, scale, lr, weightDecay);
  writeCopy(buffer[0], copyType, buffer[2], count);
}
