//===- Rows.h - rows of a local tensor and their elements' global numbers ----------------------===//
#ifndef GALVATRON_RUNTIME_KERNELS_ROWS_H
#define GALVATRON_RUNTIME_KERNELS_ROWS_H

#include "runtime/api/CounterRandom.h"
#include "runtime/core/PositionMap.h"
#include "runtime/kernels/Loops.h"

#include <algorithm>
#include <vector>

namespace galvatron {

/// Row-major numbers in the global tensor of a local tensor's elements, row by row (a row runs along the last
/// dimension).
class GlobalRows {
public:
  GlobalRows(const PositionMap &positions, int64_t rank, const int64_t *extent);

  int64_t rows() const;
  /// Number of the row's column 0 of the *global* tensor; `row` counts local rows in row-major order.
  int64_t base(int64_t row) const;
  /// Global column of a local one.
  int64_t column(int64_t local) const { return rank ? index[rank - 1][local] : 0; }
  /// How many local columns from `column` on follow one another globally too.
  int64_t run(int64_t column) const;

private:
  int64_t rank;
  std::vector<std::vector<int64_t>> index; // global index of each local one, per dimension
  std::vector<int64_t> local, stride;
};

/// Dropout's factors (0 or 1/(1-p)) for local columns column … column + count - 1 of the row with this base.
void dropoutFactors(const random::Stream &stream, double p, const GlobalRows &rows, int64_t base, int64_t column,
                    int64_t count, float *factors);

} // namespace galvatron

#endif
