//===- Pieces.cu - strided copies for collectives whose pieces are not contiguous ------------------===//
//
// One unit per thread and turn; neighbouring threads take neighbouring units of the innermost loop.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/Pieces.h"

namespace galvatron::cuda {
namespace {

template <typename Unit> __global__ void copyUnits(const Unit *x, Unit *y, const __grid_constant__ UnitLoops loops) {
  int64_t step = (int64_t)gridDim.x * blockDim.x;
  for (int64_t unit = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; unit < loops.total; unit += step) {
    int64_t rest = unit, from = 0, to = 0;
    for (int d = loops.depth - 1; d > 0; --d) {
      int64_t above = rest / loops.extent[d], index = rest - above * loops.extent[d];
      from += index * loops.x[d];
      to += index * loops.y[d];
      rest = above;
    }
    y[to + rest * loops.y[0]] = x[from + rest * loops.x[0]];
  }
}

template <typename Unit> void launch(cudaStream_t stream, const void *x, void *y, const UnitLoops &loops, int blocks) {
  constexpr int kThreads = 256;
  int64_t needed = (loops.total + kThreads - 1) / kThreads;
  if (needed < blocks)
    blocks = (int)needed;
  copyUnits<<<blocks, kThreads, 0, stream>>>(static_cast<const Unit *>(x), static_cast<Unit *>(y), loops);
}

} // namespace

void launchCopy(cudaStream_t stream, const void *x, void *y, int64_t unitBytes, const UnitLoops &loops, int blocks) {
  if (loops.total == 0)
    return;
  switch (unitBytes) {
  case 16:
    return launch<uint4>(stream, x, y, loops, blocks);
  case 8:
    return launch<uint64_t>(stream, x, y, loops, blocks);
  case 4:
    return launch<uint32_t>(stream, x, y, loops, blocks);
  case 2:
    return launch<uint16_t>(stream, x, y, loops, blocks);
  default:
    return launch<uint8_t>(stream, x, y, loops, blocks);
  }
}

} // namespace galvatron::cuda
