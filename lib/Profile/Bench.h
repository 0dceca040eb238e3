// Times functions of a device library as stage binaries call them: through the C ABI, with the runtime's communicators,
// on operands that are not in a cache, all ranks at once. The slowest rank's time counts.
#ifndef GALVATRON_LIB_PROFILE_BENCH_H
#define GALVATRON_LIB_PROFILE_BENCH_H

#include "Work.h"

#include "runtime/core/Device.h"
#include "runtime/core/World.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::profile {

/// Median of a call, interquartile range ÷ median, and the number of samples.
struct Timing {
  double seconds = 0, spread = 0;
  std::int64_t repeats = 0;
};

/// Of samples that are not empty.
Timing summarize(std::vector<double> samples);

class Bench {
public:
  /// Loads the device library and makes all groups that `works` need; collective.
  static std::optional<std::string> loadDevice(const std::string &target);
  /// Of a device that has to be looked for: makes the context's state, unless it has one.
  static Status prepare(gvrt_context &context, const Device &device);

  Bench(const World &world, gvrt_context &context, const Device &device, const std::vector<Work> &works,
        std::int64_t poolBytes);
  ~Bench();
  Bench(const Bench &) = delete;

  /// Whether the pool has room; alike on all ranks.
  bool hasRoom(const Work &work) const;
  /// Collective: fills the figures in, taking about `budget` seconds: more if a call does, less where it repeats. Of
  /// bodies nothing (Bodies.h).
  void measure(Work &work, double budget);
  /// Seconds of this rank for the same product and the same copy, all ranks at once; collective.
  double ownProduct();
  double ownCopy();

private:
  using Call = std::function<void(std::int64_t slot)>;

  /// Samples of every rank's slowest, or with `isOwn` of this rank.
  Timing time(const Call &call, bool takesPart, double budget, bool isOwn = false);
  void tune(const Call &call, bool takesPart) const;
  void fillPools();
  Call hostCopy(std::int64_t bytes, bool isToHost) const;
  void measureMessage(search::MeasuredMessage &message, double budget);
  void measureKernel(search::MeasuredKernel &kernel, double budget);
  void measureOverlap(search::MeasuredOverlap &overlap, double budget);

  Call collective(const search::MeasuredMessage &message) const;
  Call pair(const search::MeasuredMessage &message) const;
  Call product(const search::KernelShape &shape) const;
  Call attention(const search::KernelShape &shape) const;
  Call copy(std::int64_t count) const;
  Call sum(std::int64_t count) const;
  Call kernel(const search::MeasuredKernel &kernel) const;

  void startPair(std::int64_t slot, std::int64_t bytes, std::int64_t peer, bool sends, bool receives) const;
  void waitPair(bool sends, bool receives) const;
  void run(const char *function, std::vector<void *> buffers, std::vector<std::int64_t> attributes) const;
  void *operand(std::int64_t slot, std::int64_t bytes, std::int64_t offset = 0) const;
  void *result(std::int64_t slot, std::int64_t bytes, std::int64_t offset = 0) const;
  std::int64_t slotOffset(std::int64_t slot, std::int64_t bytes) const;
  bool isInFirstGroup(std::int64_t group, std::int64_t stride) const;
  double slowest(double seconds) const;

  const World &world;
  gvrt_context &context;
  const Device &device;
  std::int64_t poolBytes, elementType, elementBytes;
  std::int64_t productType, productBytes;
  char *arena = nullptr, *operands = nullptr, *results = nullptr;
  std::int64_t arenaBytes = 0;
  mutable void *hostMemory = nullptr;
  mutable std::int64_t hostBytes = 0;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> groupIndex; ///< by size and stride
};

} // namespace galvatron::profile

#endif
