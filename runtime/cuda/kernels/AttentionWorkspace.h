//===- AttentionWorkspace.h - how much scratch attention may need, known without a device -----------===//
//
// The compiler plans this much for each call in bf16 or f16; the runtime takes only engines of cuDNN that fit it. Terms
// of the backward pass, in bytes: dq is summed in f32 (queries padded to a tile), a row of dy ∘ y sums to one f32, and
// where query heads share a key head, dk and dv exist once for each query head, in 16 bits, before they are added up.
//
// The engine without atomics keeps dS, in 16 bits, instead of summing dq. It can run on one key head of one batch row
// at a time, so what it needs at least grows with neither of them:
//
//   B 4, N 32, K 32, S 4096, D 128    271 MB       without atomics, the whole call  4297 MB, one head at a time  34 MB
//   B 2, N 32, K 8,  S 8192, D 128    539 MB                                        8860 MB                     554 MB
//
// These are cuDNN 9.19's own figures on an H200, and this file's to a mebibyte.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONWORKSPACE_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_ATTENTIONWORKSPACE_H

#include <cstdint>

namespace galvatron::cuda {

namespace workspace {

constexpr int64_t kTile = 128, kSmall = 1 << 20; // kSmall: counters, lengths of sequences

constexpr int64_t padded(int64_t positions) { return (positions + kTile - 1) / kTile * kTile; }

/// Row sums, and dk and dv once for each query head.
constexpr int64_t commonBytes(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries, int64_t keys,
                              int64_t size) {
  int64_t shared = heads == keyHeads ? 0 : 2 * batch * heads * padded(keys) * size * 2;
  return batch * heads * padded(queries) * 4 + shared + kSmall;
}

} // namespace workspace

/// What the engine without atomics needs for the whole call at once.
constexpr int64_t deterministicWorkspaceBytes(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries,
                                              int64_t keys, int64_t size) {
  return batch * heads * workspace::padded(queries) * workspace::padded(keys) * 2 +
         workspace::commonBytes(batch, heads, keyHeads, queries, keys, size);
}

/// Queries' and keys' heads and positions; `size`: head size, the larger of q's and v's. `deterministic`: enough for
/// the engine without atomics too.
constexpr int64_t attentionWorkspaceBytes(int64_t batch, int64_t heads, int64_t keyHeads, int64_t queries, int64_t keys,
                                          int64_t size, bool backward, bool deterministic = false) {
  if (!backward)
    return workspace::kSmall;
  int64_t fast = batch * heads * workspace::padded(queries) * size * 4 +
                 workspace::commonBytes(batch, heads, keyHeads, queries, keys, size);
  int64_t slow = deterministic ? deterministicWorkspaceBytes(1, heads / keyHeads, 1, queries, keys, size) : 0;
  return fast > slow ? fast : slow;
}

} // namespace galvatron::cuda

#endif
