//===- Loss.cpp - statistics and gradient of cross-entropy -----------------------------===//
//
// On local logits: where the vocabulary is cut, the maximum, the sum of exponentials and the target's logit of all
// devices are combined by collectives between these functions.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/core/Check.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/Loops.h"

#include <cstring>

using namespace galvatron;

/// Local column of a label; -1 where ignored or on another device.
static int64_t localColumn(gvrt_context *context, const PositionMap &columns, int64_t label, int64_t ignored) {
  if (label == ignored)
    return -1;
  GVRT_CHECK(context, label >= 0 && label < columns.globalExtent(0),
             "expects labels below " << columns.globalExtent(0) << ", but got " << label);
  return columns.isIdentity(0) ? label : columns.toLocal(0, label);
}

void gvrt_loss_scale(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  *static_cast<float *>(buffer[0]) = context->lossScale;
}

void gvrt_sum_exp(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer();
  auto *x = static_cast<const float *>(buffer[0]), *max = static_cast<const float *>(buffer[1]);
  auto *y = static_cast<float *>(buffer[2]);
  for (int64_t r = 0; r < rows; ++r)
    y[r] = loops().sumExp(x + r * columns, max[r], columns);
}

void gvrt_target_logit(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer(), ignored = read.integer();
  PositionMap positions = read.positions(*context, 1);
  auto *logits = static_cast<const float *>(buffer[0]);
  auto *labels = static_cast<const int64_t *>(buffer[1]);
  auto *y = static_cast<float *>(buffer[2]);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t column = localColumn(context, positions, labels[r], ignored);
    y[r] = column < 0 ? 0.0f : logits[r * columns + column];
  }
}

void gvrt_cross_entropy_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t rows = read.integer(), columns = read.integer(), ignored = read.integer();
  PositionMap positions = read.positions(*context, 1);
  auto *dy = static_cast<const float *>(buffer[0]), *logits = static_cast<const float *>(buffer[1]);
  auto *sumExp = static_cast<const float *>(buffer[2]), *max = static_cast<const float *>(buffer[3]);
  auto *labels = static_cast<const int64_t *>(buffer[4]);
  auto *dlogits = static_cast<float *>(buffer[5]);
  for (int64_t r = 0; r < rows; ++r) {
    float *row = dlogits + r * columns;
    if (labels[r] == ignored) {
      std::memset(row, 0, columns * sizeof(float));
      continue;
    }
    loops().scaledExp(logits + r * columns, max[r], dy[r] / sumExp[r], row, columns);
    if (int64_t column = localColumn(context, positions, labels[r], ignored); column >= 0)
      row[column] -= dy[r];
  }
}
