// The devices that programs are compiled for.
#include "galvatron/Kernels/DeviceTraits.h"
#include "runtime/api/AttentionScratch.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>

using namespace galvatron;

static int64_t noWorkspace(const AttentionExtents &, bool) { return 0; }

/// A bound on what cuDNN's attention wants: the gradient of q in f32, two statistics of each row, and
/// gradients of k and v for each query head where several share a key. Where rows are told as documents, these lie as
/// the gradients themselves do, with the same gaps between positions.
static int64_t cudaAttentionWorkspace(const AttentionExtents &a, bool isBackward) {
  int64_t slack = 64 << 10, rows = a.batch * a.heads * a.queries;
  if (a.hasDocuments)
    slack += documentScratchBytes(a.batch, a.heads, a.queries) + 2 * a.batch * kDocumentsOfRow * 4;
  if (!isBackward)
    return llvm::alignTo(rows * 4, 256) + slack;
  bool isShared = a.keyHeads < a.heads;
  int64_t gradients = rows * a.keySize;
  if (isShared)
    gradients += a.batch * a.heads * a.keys * (a.keySize + a.valueSize);
  if (a.hasDocuments) {
    int64_t ofDocuments = a.batch * a.queries * a.queryStride;
    if (isShared)
      ofDocuments += a.batch * a.keys * (a.keyStride + a.valueStride) * (a.heads / a.keyHeads);
    gradients = std::max(gradients, ofDocuments);
  }
  return llvm::alignTo(gradients * 4 + 2 * rows * 4, 256) + slack;
}

static int64_t onePart(int64_t) { return 1; }

/// All blocks run at once, each with a part of its own: threads with eight elements each, on 132 multiprocessors.
static int64_t cudaRowParts(int64_t columns) {
  if (columns < 512)
    return 0;
  return 132 * rowBlocks(llvm::alignTo(llvm::divideCeil(columns, 8), 32));
}

bool DeviceTraits::hasFunction(llvm::StringRef function) const {
  static constexpr std::pair<llvm::StringRef, llvm::StringRef> kDefined[] = {
#define GVRT_DEFINED(device, function) {device, function},
#include "lib/Kernels/DeviceFunctions.def"
#undef GVRT_DEFINED
  };
  return llvm::is_contained(kDefined, std::pair(name, function));
}

const DeviceTraits *DeviceTraits::find(llvm::StringRef name) {
  static constexpr DeviceTraits kDevices[] = {
      {"cpu", /*takesHalf=*/false, /*hasConstantsInKernels=*/false, /*workspaceBytes=*/0, onePart, noWorkspace},
      {"cuda", /*takesHalf=*/true, /*hasConstantsInKernels=*/true, /*workspaceBytes=*/32 << 20, cudaRowParts,
       cudaAttentionWorkspace},
  };
  for (const DeviceTraits &device : kDevices)
    if (device.name == name)
      return &device;
  return nullptr;
}
