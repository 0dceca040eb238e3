//===- AttentionProblem.h - attention's attributes, in a form that kernels take too ------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONPROBLEM_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONPROBLEM_H

#include "runtime/cuda/kernels/Launch.h"
#include "runtime/cuda/kernels/Positions.cuh"
#include "runtime/kernels/HeadStrides.h"

namespace galvatron::cuda {

/// Everything but addresses. Heads of queries share key heads in groups of heads / keyHeads.
struct AttentionProblem {
  int64_t type, workspaceBytes, batch, heads, keyHeads, queries, keys, keySize, valueSize;
  double scale;
  bool causal;
  int64_t window;
  double softcap, dropout;
  bool isCompiledToDrop; // in training, which decides what kernel the memory was planned for
  int64_t id;
  HeadStrides q, k, v, y;
  int64_t biasStride[4];
  HeadStrides dy, dq, dk, dv; // backward only
  bool hasDocuments;
  TensorPositions positions; // of [batch, heads, queries, keys]
  // On the device, [batch, queries] and [batch, keys]: a query sees keys of its own document only. Null: all are one.
  const int64_t *queryDocuments, *keyDocuments;
  const int32_t *onlyIf; // on the device: where it is 0, kernels of our own do nothing. Null: they do

  bool hasWholePositions() const { return positions.dim[2].isIdentity() && positions.dim[3].isIdentity(); }

  /// What is added to a query's position: queries end where keys end.
  int64_t queryShift() const { return positions.dim[3].global - positions.dim[2].global; }
};

/// `documents`: of the functions for them. A run that keeps none of the documents that it is given apart has all its
/// rows as one.
inline AttentionProblem readAttention(gvrt_context *context, const int64_t *attribute, bool backward, bool documents) {
  Attributes read(attribute);
  AttentionProblem p{};
  p.hasDocuments = documents && (!read.integer() || context->keepsDocuments);
  for (int64_t *word :
       {&p.type, &p.workspaceBytes, &p.batch, &p.heads, &p.keyHeads, &p.queries, &p.keys, &p.keySize, &p.valueSize})
    *word = read.integer();
  p.scale = read.real();
  p.causal = read.integer();
  p.window = read.integer();
  p.softcap = read.real();
  double dropout = read.real();
  p.isCompiledToDrop = dropout > 0;
  p.dropout = context->dropoutOf(dropout);
  p.id = read.integer();
  auto readStrides = [&](HeadStrides &strides) {
    const int64_t *words = read.list(3);
    strides = {words[0], words[1], words[2]};
  };
  for (HeadStrides *strides : {&p.q, &p.k, &p.v, &p.y})
    readStrides(*strides);
  std::copy_n(read.list(4), 4, p.biasStride);
  if (backward)
    for (HeadStrides *strides : {&p.dy, &p.dq, &p.dk, &p.dv})
      readStrides(*strides);
  p.positions = readTensorPositions(context, read.list(0), 4);
  return p;
}

/// Addresses on the device; null what there is not.
struct AttentionBuffers {
  void *dy, *q, *k, *v, *y, *lse, *bias, *dq, *dk, *dv, *workspace;
};

/// `buffer`: in the order of Functions.def, with those of documents into the problem.
inline AttentionBuffers readBuffers(void *const *buffer, AttentionProblem &p, bool backward, bool documents) {
  AttentionBuffers read{};
  auto take = [&](std::initializer_list<void **> places) {
    for (void **place : places)
      *place = *buffer++;
  };
  if (backward)
    take({&read.dy, &read.q, &read.k, &read.v, &read.y, &read.lse});
  else
    take({&read.q, &read.k, &read.v});
  if (documents) {
    void *queries = *buffer++, *keys = *buffer++;
    if (p.hasDocuments) {
      p.queryDocuments = static_cast<const int64_t *>(queries);
      p.keyDocuments = static_cast<const int64_t *>(keys);
    }
  }
  take({&read.bias});
  if (backward)
    take({&read.dq, &read.dk, &read.dv, &read.workspace});
  else
    take({&read.y, &read.lse, &read.workspace});
  return read;
}

/// The library's kernels take this problem: bf16 or f16, no bias, dropout, softcap or window, positions that are the
/// usual ones; with documents, rows that follow one another in memory, as many queries as keys.
bool cudnnTakes(const AttentionProblem &problem, bool hasBias);
/// Documents are found in the workspace first, where `problem.onlyIf` then says whether there are more than the library
/// was told to expect: it has done nothing in that case.
void cudnnAttention(gvrt_context *context, AttentionProblem &problem, const AttentionBuffers &buffers);
void cudnnAttentionBackward(gvrt_context *context, AttentionProblem &problem, const AttentionBuffers &buffers);

/// Kernels of our own, for everything up to head size 256.
void plainAttention(gvrt_context *context, const AttentionProblem &problem, const AttentionBuffers &buffers);
void plainAttentionBackward(gvrt_context *context, const AttentionProblem &problem, const AttentionBuffers &buffers);

} // namespace galvatron::cuda

#endif
