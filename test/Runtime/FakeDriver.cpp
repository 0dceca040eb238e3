//===- FakeDriver.cpp - a libcuda.so.1 of CUDA 12.8 --------------------------------------------------------===//
//
// What a program meets on a machine whose driver is older than the CUDA that it was built with: found before the real
// driver by LD_LIBRARY_PATH, it knows its version and nothing else, which is all that is asked of one that is too old.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include <cstdint>
#include <cstring>

namespace {

constexpr int kVersion = 12080, kNotSupported = 801;

int initialize(unsigned) { return 0; }
int version(int *result) {
  *result = kVersion;
  return 0;
}
int refuse() { return kNotSupported; }

} // namespace

extern "C" {

int cuInit(unsigned flags) { return initialize(flags); }
int cuDriverGetVersion(int *result) { return version(result); }

int cuGetProcAddress_v2(const char *name, void **function, int, uint64_t, void *) {
  auto is = [&](const char *other) { return std::strcmp(name, other) == 0; };
  *function = is("cuInit")               ? (void *)initialize
              : is("cuDriverGetVersion") ? (void *)version
              : is("cuGetProcAddress")   ? (void *)cuGetProcAddress_v2
                                         : (void *)refuse;
  return 0;
}
int cuGetProcAddress(const char *name, void **function, int cudaVersion, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, cudaVersion, flags, nullptr);
}
}
