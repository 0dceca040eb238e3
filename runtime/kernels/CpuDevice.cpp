//===- CpuDevice.cpp - the processor as a device ---------------------------------------------------===//
//
// Memory is mapped, not allocated, so that a page costs something only once it is touched and the process' high-water
// mark is the arena plus little (docs/runtime.md, "Memory"). One thread: a rank owns one core, and oneDNN's threads
// lose more than they bring on the small products of a shard.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/comm/Communicators.h"
#include "runtime/core/Device.h"
#include "runtime/kernels/Loops.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <dnnl.h>
#include <sys/mman.h>

namespace galvatron {
namespace {

constexpr int64_t kHugePage = 2 << 20;

const char *isaName(dnnl_cpu_isa_t isa) {
  switch ((int)isa) {
  case dnnl_cpu_isa_sse41:
    return "sse4.1";
  case dnnl_cpu_isa_avx:
    return "avx";
  case dnnl_cpu_isa_avx2:
    return "avx2";
  case dnnl_cpu_isa_avx512_core:
    return "avx512_core";
  case dnnl_cpu_isa_avx512_core_vnni:
    return "avx512_core_vnni";
  case dnnl_cpu_isa_avx512_core_bf16:
    return "avx512_core_bf16";
  case dnnl_cpu_isa_avx512_core_amx:
    return "avx512_core_amx";
  default:
    return "generic";
  }
}

const char *describe() {
  static char text[160];
  const dnnl_version_t *version = dnnl_version();
  std::snprintf(text, sizeof text, "cpu: products by oneDNN %d.%d.%d (dnnl_sgemm, %s), loops %s, 1 thread",
                version->major, version->minor, version->patch, isaName(dnnl_get_effective_cpu_isa()), loops().name);
  return text;
}

/// Bytes to map so that a huge page's boundary lies in front of `bytes`.
int64_t mappedBytes(int64_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage + kHugePage; }

void *allocate(gvrt_context *context, int64_t bytes) {
  char *mapped = static_cast<char *>(
      mmap(nullptr, mappedBytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (mapped == MAP_FAILED)
    return nullptr;
  // Cut to an aligned piece, so that release needs only its address.
  char *aligned =
      reinterpret_cast<char *>((reinterpret_cast<uintptr_t>(mapped) + kHugePage - 1) / kHugePage * kHugePage);
  int64_t kept = mappedBytes(bytes) - kHugePage;
  if (aligned > mapped)
    munmap(mapped, aligned - mapped);
  if (int64_t after = mapped + kHugePage - aligned; after > 0)
    munmap(aligned + kept, after);
  madvise(aligned, kept, MADV_HUGEPAGE);
  context->allocatedBytes += bytes;
  context->peakBytes = std::max(context->peakBytes, context->allocatedBytes);
  return aligned;
}

void release(gvrt_context *context, void *memory, int64_t bytes) {
  if (!memory)
    return;
  munmap(memory, mappedBytes(bytes) - kHugePage);
  context->allocatedBytes -= bytes;
}

void copyBytes(gvrt_context *, void *to, const void *from, int64_t bytes) { std::memcpy(to, from, bytes); }
void nothingInFlight(gvrt_context *) {}

/// Whichever OpenMP oneDNN was built with: one thread. Its environment variable is read before this library could set
/// it.
void useOneThread() {
  if (void *function = dlsym(RTLD_DEFAULT, "omp_set_num_threads"))
    reinterpret_cast<void (*)(int)>(function)(1);
}

void connectOneThread(gvrt_context *context) {
  useOneThread();
  connect(context);
}

constexpr DeviceHooks kHooks = {describe,  allocate,        release,          copyBytes,
                                copyBytes, nothingInFlight, connectOneThread, disconnect};

} // namespace
} // namespace galvatron

const galvatron::DeviceHooks *gvrt_device_hooks(void) { return &galvatron::kHooks; }
