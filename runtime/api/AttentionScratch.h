//===- AttentionScratch.h - scratch that attention over documents lays out itself, known to the compiler too
//--------===//
#ifndef GALVATRON_RUNTIME_API_ATTENTIONSCRATCH_H
#define GALVATRON_RUNTIME_API_ATTENTIONSCRATCH_H

#include <cstdint>

namespace galvatron {

/// So many documents of a row a library of kernels is told of; rows with more run slower.
constexpr int64_t kDocumentsOfRow = 32;
/// Tensors of attention and its gradients whose documents have offsets: q, k, v, y, their gradients, lse.
constexpr int64_t kDocumentTensors = 9;

constexpr int64_t documentHeadBytes(int64_t batch) {
  int64_t entries = batch * kDocumentsOfRow;
  return (8 + (entries + entries % 2) * 4 + kDocumentTensors * (entries + 1) * 8 + 255) / 256 * 256;
}

/// What is kept of the documents of a call (cuda/kernels/AttentionDocuments.h), in bytes.
constexpr int64_t documentScratchBytes(int64_t batch, int64_t heads, int64_t queries) {
  return documentHeadBytes(batch) + (batch * heads * queries * 4 + 255) / 256 * 256;
}

} // namespace galvatron

#endif
