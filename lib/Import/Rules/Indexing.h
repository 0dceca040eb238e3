// Picking elements by position: what indexing, gathers and flips share.
#ifndef GALVATRON_IMPORT_RULES_INDEXING_H
#define GALVATRON_IMPORT_RULES_INDEXING_H

#include "Formula.h"

namespace galvatron::importer {

/// Rows of a table [V, …] by an index tensor of any shape: [index…, …]. Row `padding` gets no gradient.
Tensor rows(Call &call, const Tensor &table, const Tensor &ids, int64_t padding = -1);

/// Integers as single-precision numbers, in which data is looked up and added: exact below 2^24, so tokens, counts and
/// positions, and what only moves them or chooses among them; others are refused. Of a `sum`, only counts.
Tensor exactAsFloat(Call &call, const Tensor &x, bool sum = false);

/// x with dimension `dim` replaced by those of `ids`, whose elements are positions along it.
Tensor pick(Call &call, const Tensor &x, int64_t dim, const Tensor &ids);

/// The positions begin, begin + step, … along one dimension.
Tensor ramp(Call &call, int64_t count, int64_t begin, int64_t step);

/// Whether each element of `ids` is the position along a new dimension `dim` of extent `count`: the one-hot form
/// by which data picks elements of data. Batches stay apart in it, where rows of a table would mix them.
Tensor isPosition(Call &call, const Tensor &ids, int64_t dim, int64_t count);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_RULES_INDEXING_H
