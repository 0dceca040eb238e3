//===- Launch.h - from attributes and buffers to a typed launch ---------------------===//
#ifndef GALVATRON_RUNTIME_CUDA_KERNELS_LAUNCH_H
#define GALVATRON_RUNTIME_CUDA_KERNELS_LAUNCH_H

#include "runtime/api/ElementType.h"
#include "runtime/cuda/State.h"
#include "runtime/kernels/Attributes.h"

#include <algorithm>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace galvatron::cuda {

constexpr int64_t kMaxBlocks = 0x7FFFFFFF;

inline int64_t divideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Whether addresses and distances (bytes) all lie on multiples of `bytes`.
template <typename... Values> bool aligned(int64_t bytes, Values... values) {
  auto word = [](auto value) {
    if constexpr (std::is_pointer_v<decltype(value)>)
      return (int64_t)reinterpret_cast<uintptr_t>(value);
    else
      return (int64_t)value;
  };
  return ((word(values) % bytes == 0) && ...);
}

/// Threads of a block that walks `items` items, `each` of them a thread: whole warps.
inline int threadsFor(int64_t items, int64_t each, int most) {
  return (int)std::clamp<int64_t>(divideUp(divideUp(items, each), 32) * 32, 32, most);
}

/// Calls `f` with a value of the element type, float, __nv_bfloat16 or __half.
template <typename F> void withType(gvrt_context *context, int64_t type, F &&f) {
  if (type == GVRT_F32)
    f(float{});
  else if (type == GVRT_BF16)
    f(__nv_bfloat16{});
  else if (type == GVRT_F16)
    f(__half{});
  else
    GVRT_FAIL(context, "expects element type 0 (f32), 2 (bf16) or 3 (f16), but got " << type);
}

/// Calls `f` with the number of elements that a thread moves at once, as a constant: 16 bytes of T, or one element.
template <typename T, typename F> void withWidth(bool wide, F &&f) {
  if (wide)
    f(std::integral_constant<int, 16 / sizeof(T)>{});
  else
    f(std::integral_constant<int, 1>{});
}

/// Launches a kernel that takes a block of at most 512 threads for each row, and about `each` accesses a thread:
/// `launch(zero of the type, elements of an access, blocks, threads, stream)`. Accesses are 16 bytes where rows and
/// `buffers` allow.
template <typename F>
void launchRows(gvrt_context *context, int64_t type, int64_t rows, int64_t columns,
                std::initializer_list<const void *> buffers, int64_t each, F &&launch) {
  if (rows == 0)
    return;
  withType(context, type, [&](auto zero) {
    using T = decltype(zero);
    bool wide = aligned(16, columns * sizeof(T));
    for (const void *buffer : buffers)
      wide = wide && aligned(16, buffer);
    withWidth<T>(wide, [&](auto width) {
      launch(zero, width, (int)rows, threadsFor(columns / width, each, 512), stateOf(context).compute);
    });
  });
  GVRT_CUDA(context, cudaGetLastError());
}

template <typename T> T *at(void *const *buffer, int i) { return static_cast<T *>(buffer[i]); }

} // namespace galvatron::cuda

#endif
