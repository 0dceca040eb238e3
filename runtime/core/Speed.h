//===- Speed.h - how fast a run is, and how long it takes yet --------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_SPEED_H
#define GALVATRON_RUNTIME_CORE_SPEED_H

#include <cstdint>
#include <optional>
#include <string>

namespace galvatron {

/// What plan.json says of a step, whatever the plan: model_flops_per_step; and of a device: peak_flops_per_second.
class Speed {
public:
  Speed() = default;
  /// Of a program on so many ranks. A file that does not say it, or cannot be read, gives neither figure.
  Speed(const std::string &planFile, int64_t ranks);

  /// Of one device, in a step of so many seconds: model FLOPs / seconds / ranks / 1e12.
  std::optional<double> teraflops(double seconds) const;
  /// Model FLOPs utilization: that, as a share of the peak.
  std::optional<double> utilization(double seconds) const;

private:
  double flopsPerStep = 0, peak = 0;
  int64_t ranks = 1;
};

/// Time that is left: steps to come, each as long as the last ones. Of these older ones count less by a tenth each, and
/// the first two not, which also tune and load.
class Remaining {
public:
  /// After a step; in seconds.
  double add(int64_t step, int64_t last, double seconds);

private:
  double mean = 0;
  int64_t steps = 0;
};

/// "1:05", "3:20:07", "2d 03:20:07"
std::string durationText(double seconds);

} // namespace galvatron

#endif
