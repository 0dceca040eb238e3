//===- CudaFixture.h - a rank with its GPU, for tests under mpirun -------------------------------------===//
#ifndef GALVATRON_TEST_UNIT_CUDA_CUDAFIXTURE_H
#define GALVATRON_TEST_UNIT_CUDA_CUDAFIXTURE_H

#include "runtime/api/Functions.h"
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"
#include "runtime/cuda/State.h"

#include <chrono>
#include <functional>
#include <gtest/gtest.h>

namespace galvatron::test {

/// Whether every rank of this world has a GPU of its own (one machine).
bool hasGpus();

/// What Training does with a device, as stage `rank / devices` of ranks / devices stages. `start` as late as a test
/// knows its manifest; everything is freed with the object.
class Rank {
public:
  Rank(int devices, gvrt_program program, int64_t arenaBytes, int64_t workspaceBytes = 0);
  ~Rank();
  /// The group of all ranks of the stage is 0, that of this rank alone 1.
  void start(std::function<void(Manifest &, Options &)> fill = {});

  void call(gvrt_function function, std::vector<void *> buffers, std::vector<int64_t> attributes) {
    function(&context, buffers.data(), attributes.data());
  }
  void step(int64_t number, const std::function<void()> &walk, double rate = 0);
  std::vector<StepSums> update() { return hooks.update(&context); }
  void synchronize() { hooks.synchronize(&context); }

  /// An aligned piece of the arena.
  template <typename T> T *allocate(int64_t count) {
    char *piece = arena + used;
    used += (count * (int64_t)sizeof(T) + 255) / 256 * 256;
    EXPECT_LE(used, manifest.arenaBytes);
    return reinterpret_cast<T *>(piece);
  }
  template <typename T> void write(T *to, const std::vector<T> &values) {
    hooks.copyToDevice(&context, to, values.data(), values.size() * sizeof(T));
  }
  template <typename T> T *place(const std::vector<T> &values) {
    T *to = allocate<T>(values.size());
    write(to, values);
    return to;
  }
  template <typename T> std::vector<T> read(const T *from, int64_t count) {
    std::vector<T> values(count);
    hooks.copyToHost(&context, values.data(), from, count * sizeof(T));
    return values;
  }
  /// Median seconds of what `issue` puts on the compute stream.
  double seconds(const std::function<void()> &issue, int repetitions = 10);

  gvrt_context context;
  gvrt_program program;
  Manifest manifest;
  Options options;
  const DeviceHooks &hooks;
  char *arena = nullptr;
  int64_t used = 0;
};

} // namespace galvatron::test

#endif
