// What lowering must know of a device beside runtime/api/Functions.def: the types that its kernels take
// and the scratch that they want planned for them.
#ifndef GALVATRON_KERNELS_DEVICETRAITS_H
#define GALVATRON_KERNELS_DEVICETRAITS_H

#include "llvm/ADT/StringRef.h"

#include <cstdint>

namespace galvatron {

/// Extents of one attention call, as Functions.def names them.
struct AttentionExtents {
  int64_t batch, heads, keyHeads, queries, keys, keySize, valueSize;
  bool isHalf;
  bool hasDocuments; // document_attention
  /// Of the gradients of q, k and v: elements from one position to the next; 0 of forward.
  int64_t queryStride = 0, keyStride = 0, valueStride = 0;
};

/// Blocks of `threads` threads that walk over rows on one multiprocessor of a GPU: 1024 threads of 64 registers.
inline int64_t rowBlocks(int64_t threads) { return threads < 1024 ? 1024 / threads : 1; }

struct DeviceTraits {
  llvm::StringRef name;
  /// Whether kernels take bf16 and f16; otherwise the lowering converts around every call.
  bool takesHalf;
  /// Whether a constant is part of the generated kernel that reads it, where no function of the runtime finds it.
  bool hasConstantsInKernels;
  /// A piece of the arena that products use, for as long as the program lives.
  int64_t workspaceBytes;
  /// In how many parts a generated kernel sums over rows of so many columns; 0 where a function had better do it.
  int64_t (*rowParts)(int64_t columns);
  /// Scratch of one call, 0 for none.
  int64_t (*attentionWorkspaceBytes)(const AttentionExtents &extents, bool isBackward);

  /// Whether the device's library defines this function of Functions.def.
  bool hasFunction(llvm::StringRef function) const;

  /// By the name that `--target` takes, or null.
  static const DeviceTraits *find(llvm::StringRef name);
};

} // namespace galvatron

#endif // GALVATRON_KERNELS_DEVICETRAITS_H
