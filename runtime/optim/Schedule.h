//===- Schedule.h - the learning rate of each step ------------------------------------------===//
#ifndef GALVATRON_RUNTIME_OPTIM_SCHEDULE_H
#define GALVATRON_RUNTIME_OPTIM_SCHEDULE_H

#include "runtime/core/Options.h"

namespace galvatron {

/// Rate of `step` (from 1) in a run that ends with step `last`.
///
///   lr       /‾‾‾‾‾‾‾‾‾‾  constant
///           /  ‾‾--..__   linear, cosine
///   min-lr /           ‾
///          1  warmup    last
double learningRate(const Options &options, int64_t step, int64_t last);

} // namespace galvatron

#endif
