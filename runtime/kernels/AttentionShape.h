//===- AttentionShape.h - attention's attributes and masks, shared by both directions --------===//
#ifndef GALVATRON_RUNTIME_KERNELS_ATTENTIONSHAPE_H
#define GALVATRON_RUNTIME_KERNELS_ATTENTIONSHAPE_H

#include "runtime/api/CounterRandom.h"
#include "runtime/kernels/Attributes.h"
#include "runtime/kernels/HeadStrides.h"
#include "runtime/kernels/Rows.h"

#include <optional>

namespace galvatron {

/// Block of scores that is in memory at once: queries × keys.
constexpr int64_t kQueryBlock = 128, kKeyBlock = 256;

struct AttentionShape {
  int64_t batch, heads, keyHeads, queries, keys, keySize, valueSize;
  double scale;
  bool causal;
  int64_t window;
  double softcap, dropout;
  int64_t id;
  HeadStrides q, k, v, y;
  int64_t biasStride[4];

  // Global position of each local query and key; queries end where keys end.
  std::vector<int64_t> queryPosition, keyPosition;
  bool ascending = true; // keys' positions
  // Documents of queries [batch, queries] and keys [batch, keys]; null: all are one.
  const int64_t *queryDocuments = nullptr, *keyDocuments = nullptr;
  bool documentsAscend = true; // keys', in every row
  // Only with dropout.
  std::optional<GlobalRows> rows;
  random::Stream stream{};

  /// Reads the attributes that both directions begin with.
  AttentionShape(Attributes &read);
  void readPositions(const gvrt_context &context, const Attributes &read);

  void readDocuments(const void *ofQueries, const void *ofKeys);

  /// First and one past the last key (rounded out to what a block may contain) that queries first … end - 1 of sample
  /// b can see.
  std::pair<int64_t, int64_t> visibleKeys(int64_t b, int64_t first, int64_t end) const;
  /// Of keys first … first + count - 1 the piece (from 0) outside of which `query` sees none. What it does not see
  /// inside (where positions do not ascend, and other documents) `mask` hides.
  std::pair<int64_t, int64_t> visiblePiece(int64_t query, int64_t first, int64_t count) const;
  /// -inf on the scores of keys first … first + count - 1 that `query` does not see.
  void mask(float *scores, int64_t b, int64_t query, int64_t first, int64_t count) const;
  /// Adds the bias to the scores of the same keys.
  void addBias(const float *bias, float *scores, int64_t b, int64_t n, int64_t query, int64_t first,
               int64_t count) const;
  /// Dropout's factors of the same probabilities.
  void dropFactors(float *factors, int64_t b, int64_t n, int64_t query, int64_t first, int64_t count) const;
};

} // namespace galvatron

#endif
