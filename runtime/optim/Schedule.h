//===- Schedule.h - the learning rate of each step ------------------------------------------===//
#ifndef GALVATRON_RUNTIME_OPTIM_SCHEDULE_H
#define GALVATRON_RUNTIME_OPTIM_SCHEDULE_H

#include "runtime/core/Options.h"

namespace galvatron {

/// Rate of `step` (from 1) in a run that ends with step `last`.
/// Those that decay are Megatron-LM's OptimizerParamScheduler's, with `step` as its num_steps and `last` as its decay
/// steps: WSD (warm-up, stable, decay) is constant up to its last steps, inverse-square-root is lr·√(warmup / step).
///
///   lr       /‾‾‾‾‾‾‾‾‾‾  constant
///           /  ‾‾--..__   linear, cosine
///   min-lr /           ‾
///          1  warmup    last
double learningRate(const Options &options, int64_t step, int64_t last);

} // namespace galvatron

#endif
