//===- Schedule.cpp - the learning rate of each step --------------------------------------===//
#include "runtime/optim/Schedule.h"

#include <cmath>
#include <numbers>

namespace galvatron {

double learningRate(const Options &options, int64_t step, int64_t last) {
  if (step <= options.warmup)
    return options.lr * (double)step / (double)options.warmup;
  if (options.lrSchedule == "constant" || last <= options.warmup)
    return options.lr;
  double done = (double)(step - options.warmup) / (double)(last - options.warmup);
  double left = options.lrSchedule == "linear" ? 1 - done : 0.5 * (1 + std::cos(std::numbers::pi * done));
  return options.minLr + (options.lr - options.minLr) * left;
}

} // namespace galvatron
