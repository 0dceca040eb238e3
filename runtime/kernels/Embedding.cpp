//===- Embedding.cpp - rows of a table by index --------------------------------------===//
//
// A table cut by rows: each device handles the ids whose rows it holds and leaves zeros, so that the sum over devices
// is the whole.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/api/Functions.h"
#include "runtime/core/Check.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/Loops.h"

#include <cstring>

using namespace galvatron;

/// Row of the local table that id `id` reads, or -1 where another device holds it.
static int64_t localRow(gvrt_context *context, const PositionMap &rows, int64_t id) {
  GVRT_CHECK(context, id >= 0 && id < rows.globalExtent(0),
             "expects token ids below " << rows.globalExtent(0) << ", but got " << id);
  return rows.isIdentity(0) ? id : rows.toLocal(0, id);
}

void gvrt_embedding(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  read.integer(); // rows of the local table: the position map has them
  int64_t columns = read.integer(), numIds = read.integer();
  PositionMap rows = read.positions(*context, 1);
  auto *table = static_cast<const float *>(buffer[0]);
  auto *ids = static_cast<const int64_t *>(buffer[1]);
  auto *y = static_cast<float *>(buffer[2]);
  for (int64_t i = 0; i < numIds; ++i, y += columns) {
    int64_t row = localRow(context, rows, ids[i]);
    if (row < 0)
      std::memset(y, 0, columns * sizeof(float));
    else
      std::memcpy(y, table + row * columns, columns * sizeof(float));
  }
}

void gvrt_embedding_backward(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  int64_t tableRows = read.integer(), columns = read.integer(), numIds = read.integer(), accumulate = read.integer();
  PositionMap rows = read.positions(*context, 1);
  auto *dy = static_cast<const float *>(buffer[0]);
  auto *ids = static_cast<const int64_t *>(buffer[1]);
  auto *table = static_cast<float *>(buffer[2]);
  if (!accumulate)
    std::memset(table, 0, tableRows * columns * sizeof(float));
  for (int64_t i = 0; i < numIds; ++i, dy += columns)
    if (int64_t row = localRow(context, rows, ids[i]); row >= 0)
      loops().add(dy, table + row * columns, columns);
}
