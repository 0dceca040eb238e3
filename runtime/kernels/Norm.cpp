//===- Norm.cpp - norms and softmax over contiguous rows --------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/Loops.h"

#include <cstring>

using namespace galvatron;

static const float *in(void *const *buffer, int i) { return static_cast<const float *>(buffer[i]); }
static float *out(void *const *buffer, int i) { return static_cast<float *>(buffer[i]); }

void gvrt_norm(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer(), kind = read.integer();
  double epsilon = read.real(), offset = read.real();
  loops().norm(in(buffer, 0), in(buffer, 1), in(buffer, 2), out(buffer, 3), out(buffer, 4), out(buffer, 5), rows,
               columns, kind, epsilon, offset);
}

void gvrt_norm_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer(), kind = read.integer();
  loops().normBackward(in(buffer, 0), in(buffer, 1), in(buffer, 2), in(buffer, 3), in(buffer, 4), out(buffer, 5), rows,
                       columns, kind, read.real());
}

void gvrt_norm_weight_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer(), accumulate = read.integer();
  float *dw = out(buffer, 4);
  if (!accumulate)
    std::memset(dw, 0, columns * sizeof(float));
  loops().normWeightBackward(in(buffer, 0), in(buffer, 1), in(buffer, 2), in(buffer, 3), dw, rows, columns);
}

void gvrt_softmax(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer();
  for (int64_t r = 0; r < rows; ++r)
    loops().softmax(in(buffer, 0) + r * columns, out(buffer, 1) + r * columns, columns);
}

void gvrt_softmax_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer();
  for (int64_t r = 0; r < rows; ++r)
    loops().softmaxBackward(in(buffer, 0) + r * columns, in(buffer, 1) + r * columns, out(buffer, 2) + r * columns,
                            columns);
}
