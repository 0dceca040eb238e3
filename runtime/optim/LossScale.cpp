//===- LossScale.cpp - what the gradients of an fp16 program are multiplied by -------------===//
#include "runtime/optim/LossScale.h"

#include <charconv>
#include <cmath>
#include <sstream>
#include <tuple>

namespace galvatron {

Status LossScale::open(const Options &options, const Manifest &manifest, std::optional<LossScaleState> &state) {
  bool isScaled = manifest.precision == "fp16";
  for (auto [flag, isGiven, isOfDynamic] : {std::tuple{"--loss-scale", !options.lossScale.empty(), false},
                                            {"--initial-loss-scale", options.initialLossScale.has_value(), true},
                                            {"--loss-scale-window", options.lossScaleWindow.has_value(), true}}) {
    if (isGiven && !isScaled)
      return Status::error(flag, " is for programs of fp16, whose small gradients would be lost, but this one is of ",
                           manifest.precision, "; leave it out, or compile with --precision=fp16");
    if (isGiven && isOfDynamic && options.fixedLossScale > 0)
      return Status::error(flag, " is of a scale that moves, but --loss-scale ", options.lossScale,
                           " is fixed; leave one of them out");
  }
  if (!isScaled) {
    state.reset();
    return Status::success();
  }
  isDynamic = options.fixedLossScale == 0;
  fixed = (float)options.fixedLossScale;
  window = options.lossScaleWindow.value_or(2000);
  if (!isDynamic)
    state = {fixed, 0};
  else if (!state)
    state = {(float)options.initialLossScale.value_or(65536), 0};
  return Status::success();
}

void LossScale::addSettings(std::map<std::string, std::string> &settings) const {
  if (window == 0)
    return;
  char text[32];
  settings["--loss-scale"] =
      isDynamic ? "dynamic" : std::string(text, std::to_chars(text, text + sizeof text, fixed).ptr);
  if (isDynamic)
    settings["--loss-scale-window"] = std::to_string(window);
}

bool LossScale::isOverflow(const StepSums &total, const std::optional<LossScaleState> &state) const {
  if (!state || !std::isfinite(total.loss) || std::isfinite(total.squares))
    return false;
  return isDynamic ? state->scale >= kLeast : inARow < kMostInARow;
}

void LossScale::advance(bool overflowed, std::optional<LossScaleState> &state) {
  constexpr float kGrowth = 2, kBackoff = 0.5; // GradScaler's
  if (!state)
    return;
  inARow = overflowed ? inARow + 1 : 0;
  if (!isDynamic)
    return;
  state->steps = overflowed ? 0 : state->steps + 1;
  if (overflowed) {
    state->scale *= kBackoff;
  } else if (state->steps >= window) {
    if (float grown = state->scale * kGrowth; std::isfinite(grown))
      state->scale = grown;
    state->steps = 0;
  }
}

std::string LossScale::describeOverflow(int64_t step, float at, const std::optional<LossScaleState> &state) {
  std::ostringstream text;
  text << "step " << step << ": gradients are not finite at the loss scale " << at << ", so there was no update";
  if (scaleOf(state) != at)
    text << "; the scale is now " << scaleOf(state);
  return text.str();
}

} // namespace galvatron
