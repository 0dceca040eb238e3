//===- Random.cpp - dropout and iota: values that follow from global positions ----------------===//
#include "runtime/api/Functions.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/Rows.h"

using namespace galvatron;

namespace galvatron {

GlobalRows::GlobalRows(const PositionMap &positions, int64_t rank, const int64_t *extent) : rank(rank) {
  for (int64_t d = 0; d < rank; ++d) {
    index.push_back(positions.indices(d));
    local.push_back(extent[d]);
  }
  stride.assign(rank, 1);
  for (int64_t d = rank - 2; d >= 0; --d)
    stride[d] = stride[d + 1] * positions.globalExtent(d + 1);
}

int64_t GlobalRows::base(int64_t row) const {
  int64_t result = 0;
  for (int64_t d = rank - 2; d >= 0; --d) {
    result += index[d][row % local[d]] * stride[d];
    row /= local[d];
  }
  return result;
}

int64_t GlobalRows::rows() const {
  int64_t count = 1;
  for (int64_t d = 0; d + 1 < rank; ++d)
    count *= local[d];
  return count;
}

int64_t GlobalRows::run(int64_t column) const {
  const std::vector<int64_t> &columns = index[rank - 1];
  int64_t end = column + 1;
  while (end < (int64_t)columns.size() && columns[end] == columns[end - 1] + 1)
    ++end;
  return end - column;
}

void dropoutFactors(const random::Stream &stream, double p, const GlobalRows &rows, int64_t base, int64_t column,
                    int64_t count, float *factors) {
  uint32_t threshold = random::dropThreshold(p);
  float factor = (float)(1.0 / (1.0 - p));
  for (int64_t done = 0; done < count;) {
    int64_t now = std::min(rows.run(column + done), count - done);
    loops().dropFactors(stream.key, stream.high, base + rows.column(column + done), threshold, factor, factors + done,
                        now);
    done += now;
  }
}

} // namespace galvatron

void gvrt_dropout(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  read.floats(context);
  double p = context->dropoutOf(read.real());
  int64_t id = read.integer(), rank = read.integer();
  const int64_t *extent = read.list(rank);
  GlobalRows rows(read.positions(*context, rank), rank, extent);
  random::Stream stream = random::dropoutStream(context->seed, context->step, context->layer, id);
  auto *x = static_cast<const float *>(buffer[0]);
  auto *y = static_cast<float *>(buffer[1]);
  int64_t columns = rank ? extent[rank - 1] : 1;
  float *factors = context->workspace.floats(columns);
  for (int64_t r = 0, count = rows.rows(); r < count; ++r, x += columns, y += columns) {
    dropoutFactors(stream, p, rows, rows.base(r), 0, columns, factors);
    loops().multiply(x, factors, y, columns);
  }
}

void gvrt_iota(gvrt_context *context, void *const *buffer, const int64_t *attribute) {
  Attributes read(attribute);
  int64_t type = read.integer(), dim = read.integer(), rank = read.integer();
  GVRT_CHECK(context, type == GVRT_F32 || type == GVRT_I64,
             "expects f32 or i64 (type 0 or 1) on this device, but got type " << type);
  const int64_t *extent = read.list(rank);
  std::vector<int64_t> index = read.positions(*context, rank).indices(dim);
  int64_t outer = 1, inner = 1;
  for (int64_t d = 0; d < dim; ++d)
    outer *= extent[d];
  for (int64_t d = dim + 1; d < rank; ++d)
    inner *= extent[d];
  auto *floats = static_cast<float *>(buffer[0]);
  auto *integers = static_cast<int64_t *>(buffer[0]);
  for (int64_t o = 0, e = 0; o < outer; ++o)
    for (int64_t value : index)
      for (int64_t i = 0; i < inner; ++i, ++e)
        if (type == GVRT_F32)
          floats[e] = (float)value;
        else
          integers[e] = value;
}
