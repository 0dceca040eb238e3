//===- AttentionWorkspace.h - how much scratch attention may need, known without a device -----------===//
//
// The compiler plans this much for each call in bf16; the runtime takes only engines of cuDNN that fit it. Terms of the
// backward pass, in bytes: dq is summed in f32 (queries padded to a tile), a row of dy ∘ y sums to one f32, and where
// query heads share a key head, dk and dv exist once for each query head before they are added up.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONWORKSPACE_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONWORKSPACE_H

#include <cstdint>

namespace galvatron::cuda {

/// batch, heads of queries and of keys, queries, keys, head size (the larger of q's and v's).
constexpr int64_t attentionWorkspaceBytes(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries, int64_t keys,
                                          int64_t size, bool backward) {
  constexpr int64_t kTile = 128, kSmall = 1 << 20; // kSmall: descriptors, counters, sequence lengths
  if (!backward)
    return kSmall;
  int64_t rows = (queries + kTile - 1) / kTile * kTile, columns = (keys + kTile - 1) / kTile * kTile;
  int64_t dq = batch * heads * rows * size * 4, sums = 2 * batch * heads * rows * 4;
  int64_t shared = heads == keyHeads ? 0 : 2 * batch * heads * columns * size * 2;
  return dq + sums + shared + kSmall;
}

} // namespace galvatron::cuda

#endif
