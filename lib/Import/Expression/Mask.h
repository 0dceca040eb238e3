// Which attention mask an expression is.
#ifndef GALVATRON_IMPORT_EXPRESSION_MASK_H
#define GALVATRON_IMPORT_EXPRESSION_MASK_H

#include "Expression.h"

namespace galvatron::importer {

/// Query i, at position i + Sk - Sq, sees key j. Neither: every key.
struct Mask {
  bool causal = false; // keys at or before the query
  int64_t window = 0;  // w > 0: and fewer than w positions back
};

/// Recognises a bool mask (true: visible) or an additive one (0: visible, at most -1e4: hidden) whose
/// last two dimensions are queries and keys: exactly, from its comparisons of positions; otherwise from
/// its numbers, all of them up to 4 M, else 64 whole rows. Nothing for any other mask.
std::optional<Mask> recognizeMask(const ExpressionContext &context, ExpressionRef mask);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_EXPRESSION_MASK_H
