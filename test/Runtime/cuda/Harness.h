//===- Harness.h - the CPU and the CUDA device side by side ---------------------------===//
//
// Both device libraries are opened by name, each with names of its own (RTLD_LOCAL), so that one program calls the same
// function of both. Neither is linked: the program starts where there is no GPU and says so.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_TEST_RUNTIME_CUDA_HARNESS_H
#define GALVATRON_TEST_RUNTIME_CUDA_HARNESS_H

#include "runtime/api/ElementType.h"
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"
#include "runtime/cuda/State.h"
#include "runtime/kernels/HalfTypes.h"

#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace galvatron::test {

/// Exit status by which ctest and lit know that a test did not run.
constexpr int kSkipped = 77;
constexpr int kByte = 100; // an element type of the tests alone

using Words = std::vector<int64_t>;

inline int64_t bits(double x) { return std::bit_cast<int64_t>(x); }
inline void append(Words &words, const Words &more) { words.insert(words.end(), more.begin(), more.end()); }

/// A position map of dimensions that are whole on this device.
inline Words whole(const Words &extents) {
  Words words;
  for (int64_t extent : extents)
    append(words, {1, extent, -1});
  return words;
}

/// Row-major strides.
inline Words rowMajor(const Words &extents) {
  Words strides(extents.size(), 1);
  for (int d = (int)extents.size() - 2; d >= 0; --d)
    strides[d] = strides[d + 1] * extents[d + 1];
  return strides;
}

/// Bits of a float of 16 bits, and back.
inline uint16_t toHalf(int type, float x) {
  uint16_t bits = 0;
  withHalf(type, [&]<typename Half>(Half) { bits = Half(x).bits; });
  return bits;
}
inline float fromHalf(int type, uint16_t bits) {
  float value = 0;
  withHalf(type, [&]<typename Half>(Half half) {
    half.bits = bits;
    value = (float)half;
  });
  return value;
}

inline int64_t bytesOf(int type) { return type == kByte ? 1 : bytesOfElement(type); }

/// A device library and the context of its only rank.
class DeviceLibrary {
public:
  gvrt_context context;
  const DeviceHooks *hooks = nullptr;

  explicit DeviceLibrary(const char *file) : library(dlopen(file, RTLD_NOW | RTLD_LOCAL)) {
    if (!library)
      throw std::runtime_error(dlerror());
    hooks = reinterpret_cast<const DeviceHooks *(*)()>(symbol("gvrt_device_hooks"))();
    context.groups = {Group{{0, 1}, 1, MPI_COMM_NULL}};
    context.coordinates = {1};
    context.seed = 7;
    context.layer = 11;
    context.step = 3;
  }

  void *symbol(const std::string &name) const {
    void *address = dlsym(library, name.c_str());
    if (!address)
      throw std::runtime_error(dlerror());
    return address;
  }
  gvrt_function function(const std::string &name) const {
    return reinterpret_cast<gvrt_function>(symbol("gvrt_" + name));
  }

private:
  void *library;
};

/// The CUDA library with an arena that pieces are cut from.
class Gpu : public DeviceLibrary {
public:
  static constexpr int64_t kWorkspaceBytes = 64 << 20;

  Gpu(const char *file, int64_t arenaBytes) : DeviceLibrary(file) {
    Manifest manifest;
    manifest.arenaBytes = arenaBytes;
    if (Status status = hooks->prepare(&context, manifest, Options()); !status.ok()) {
      std::printf("SKIPPED: %s\n", status.message.c_str());
      std::exit(kSkipped);
    }
    std::printf("%s\n", hooks->describe());
    // Alone: no communicators, no kernels of a program's own.
    static const gvrt_program kNothing{};
    context.program = &kNothing;
    std::vector<Group> groups = std::move(context.groups);
    context.groups.clear();
    hooks->connect(&context);
    context.groups = std::move(groups);
    arena = static_cast<char *>(hooks->allocate(&context, arenaBytes));
    if (!arena)
      throw std::runtime_error("no memory for the arena");
    cuda::State &state = cuda::stateOf(&context);
    // What a library lays out in another way reads as something else: everything random then fails.
    if (!state.compute || state.scalars || state.workspace || state.tuning)
      throw std::runtime_error("the library was built from another runtime/cuda/State.h than this test");
    state.workspace = take(kWorkspaceBytes);
    state.workspaceBytes = kWorkspaceBytes;
    cuda::StepScalars scalars{};
    scalars.step = context.step;
    auto *device = static_cast<cuda::StepScalars *>(take(sizeof scalars));
    hooks->copyToDevice(&context, device, &scalars, sizeof scalars);
    state.scalars = device;
    base = used;
  }

  void *take(int64_t bytes) {
    void *piece = arena + used;
    used += (bytes + 255) / 256 * 256;
    return piece;
  }
  void reset() { used = base; }
  void tune(bool on) { cuda::stateOf(&context).tuning = on; }
  void synchronize() { hooks->synchronize(&context); }
  /// The step that kernels read.
  int64_t step() {
    cuda::StepScalars scalars{};
    hooks->copyToHost(&context, &scalars, cuda::stateOf(&context).scalars, sizeof scalars);
    return scalars.step;
  }

private:
  char *arena;
  int64_t used = 0, base = 0;
};

/// One buffer of a call; values of an element type, held as f32 or i64 on the host.
struct Buffer {
  int type = GVRT_F32;
  bool output = false;
  std::vector<float> floats;
  std::vector<int64_t> integers;
  int64_t scratchBytes = 0; // of the GPU; null on the CPU

  bool isNull() const { return floats.empty() && integers.empty(); }
  int64_t count() const { return floats.empty() ? (int64_t)integers.size() : (int64_t)floats.size(); }

  std::vector<char> pack() const {
    std::vector<char> bytes(count() * bytesOf(type));
    for (int64_t i = 0; i < count(); ++i) {
      uint16_t half = isHalf(type) ? toHalf(type, floats[i]) : 0;
      char byte = type == kByte ? (char)integers[i] : 0;
      const void *from = isHalf(type)       ? (const void *)&half
                         : type == kByte    ? (const void *)&byte
                         : type == GVRT_I64 ? (const void *)&integers[i]
                                            : (const void *)&floats[i];
      std::memcpy(&bytes[i * bytesOf(type)], from, bytesOf(type));
    }
    return bytes;
  }
};

class Random {
public:
  explicit Random(int seed) : engine(seed) {}
  std::vector<float> floats(int64_t count, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float &v : values)
      v = normal(engine);
    return values;
  }
  std::vector<int64_t> integers(int64_t count, int64_t below) {
    std::vector<int64_t> values(count);
    for (int64_t &v : values)
      v = (int64_t)(engine() % below);
    return values;
  }

private:
  std::mt19937 engine;
};

} // namespace galvatron::test

#endif
