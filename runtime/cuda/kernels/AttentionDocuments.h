//===- AttentionDocuments.h - rows of several documents as a batch of documents ----------------------===//
//
// cuDNN's kernels take sequences of different lengths that lie one after another ("ragged"): the length of each, and
// for each tensor where each begins. A row of the batch becomes kDocumentsOfRow sequences, of which those beyond its
// documents are empty:
//
//   row 0   aaaaabbbcccccc   lengths 5 3 6 0 …   offsets 0 5 8 14 …   (in positions)
//   row 1   dddddddddddddd           14 0 …              14 28 …
//
// How many documents a row has is known on the device only. Where one has more, or its documents do not ascend, all
// lengths are 0, so that the library does nothing, and a flag lets our own kernels do it.
//
//===-------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONDOCUMENTS_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONDOCUMENTS_H

#include "runtime/api/AttentionScratch.h"
#include "runtime/cuda/kernels/AttentionProblem.h"

namespace galvatron::cuda {

/// Layout of the first part of a workspace of documentScratchBytes.
struct FoundDocuments {
  int32_t *areTooMany, *lengths; // one; [entries]
  int64_t entries;               // batch rows · kDocumentsOfRow
  int64_t *offsets;              // [kDocumentTensors, entries + 1], in elements
  float *lse;                    // [batch · queries, heads]
  int64_t bytes;                 // of all of them
  void *rest;

  FoundDocuments(const AttentionProblem &p, void *workspace);
  constexpr int64_t *offsetsOf(int64_t tensor) const { return offsets + tensor * (entries + 1); }
};

/// Whether rows follow one another in memory in every tensor, each position with its heads together, and documents of
/// queries are those of keys.
bool takesDocuments(const AttentionProblem &p);

/// Fills what is found: tensors in the order q, k, v, y, dy, dq, dk, dv, lse. Offsets of what is not there mean
/// nothing.
void findDocuments(gvrt_context *context, const AttentionProblem &p, const FoundDocuments &found);

/// From [batch, positions, heads] to [batch, heads, positions], or back; nothing where there are too many documents.
void copyLse(gvrt_context *context, const AttentionProblem &p, const float *from, float *to, bool isBack);

} // namespace galvatron::cuda

#endif
