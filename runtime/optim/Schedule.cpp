//===- Schedule.cpp - the learning rate of each step --------------------------------------===//
#include "runtime/optim/Schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace galvatron {

namespace {

/// From 1 to 0 over the annealing of WSD.
double annealing(const std::string &decay, double done) {
  if (decay == "linear")
    return 1 - done;
  if (decay == "cosine")
    return 0.5 * (std::cos(std::numbers::pi * done) + 1);
  if (decay == "minus-sqrt")
    return 1 - std::sqrt(done);
  return 2 * std::pow(0.5, done) - 1; // exponential
}

/// What is left, from 1 to 0, of the way from the rate to the lowest one.
double leftOf(const Options &options, int64_t step, int64_t last) {
  double done = (double)(step - options.warmup) / (double)(last - options.warmup);
  if (options.lrSchedule == "linear")
    return 1 - done;
  if (options.lrSchedule == "cosine")
    return 0.5 * (1 + std::cos(std::numbers::pi * done));
  int64_t annealed = step - (last - options.wsdDecaySteps);
  return annealed <= 0 ? 1 : annealing(options.wsdDecay, (double)annealed / (double)options.wsdDecaySteps);
}

} // namespace

double learningRate(const Options &options, int64_t step, int64_t last) {
  if (step <= options.warmup)
    return options.lr * (double)step / (double)options.warmup;
  if (options.lrSchedule == "constant" || last <= options.warmup)
    return options.lr;
  if (options.lrSchedule == "inverse-square-root") {
    double warmup = (double)std::max<int64_t>(options.warmup, 1);
    return std::max(options.minLr, options.lr * std::sqrt(warmup) / std::sqrt((double)step));
  }
  return options.minLr + (options.lr - options.minLr) * leftOf(options, step, last);
}

} // namespace galvatron
