//===- LossScale.h - what the gradients of an fp16 program are multiplied by ---------------===//
//
// f16 holds 6e-8 to 65504, and gradients of activations are often smaller. So the loss' gradient is the scale instead
// of 1 (`gvrt_loss_scale`), all others are multiplied by it with that, and norm, clipping and update divide by it.
//
//   dynamic (torch.amp.GradScaler): a step with a gradient that is not finite makes no update and halves the scale;
//   `window` steps in a row without one double it. fixed: such a step makes no update.
//
// The device checks gradients together with their norm and updates nothing where they are bad; ranks agree on it by
// their sums, so every one of them moves the scale alike, and hands it to the device with the next step's numbers.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_OPTIM_LOSSSCALE_H
#define GALVATRON_RUNTIME_OPTIM_LOSSSCALE_H

#include "runtime/checkpoint/TrainingState.h"
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"

#include <map>

namespace galvatron {

class LossScale {
public:
  /// A dynamic scale is halved no further than below this: where gradients are not finite there, no scale is at fault.
  static constexpr float kLeast = 1.f / (1 << 14);
  /// As many steps in a row may overflow under a fixed scale, for the same reason: halvings from 65536 to there.
  static constexpr int64_t kMostInARow = 30;

  /// Refuses options that the program has no use for. `state`: the checkpoint's, if there is one; after it, the
  /// start's, none where the program is not of fp16.
  Status open(const Options &options, const Manifest &manifest, std::optional<LossScaleState> &state);
  /// What of the options decides how the scale moves, by flag, as `Options::updateSettings`.
  void addSettings(std::map<std::string, std::string> &settings) const;

  /// Whether a step only overflowed: the loss is finite, gradients are not, and the scale may be the reason.
  bool isOverflow(const StepSums &total, const std::optional<LossScaleState> &state) const;
  /// The state after a step that had labels and was no NaN.
  void advance(bool overflowed, std::optional<LossScaleState> &state);

  /// A line for people about a step that overflowed at scale `at`.
  static std::string describeOverflow(int64_t step, float at, const std::optional<LossScaleState> &state);

private:
  bool isDynamic = true;
  float fixed = 1;
  int64_t window = 0;
  int64_t inARow = 0; // steps that overflowed under a fixed scale
};

/// The state's scale; 1 without one.
inline float scaleOf(const std::optional<LossScaleState> &state) { return state ? state->scale : 1; }

/// All ranks' sums of scaled gradients as those of the gradients themselves.
inline double unscaledSquares(double squares, float scale) { return squares / ((double)scale * scale); }

} // namespace galvatron

#endif
