// The loss scale of fp16: torch.amp.GradScaler's rule, what is an overflow and what a NaN, and which options a program
// takes. test/EndToEnd/test_loss_scale.py compares runs with GradScaler itself.
#include "runtime/optim/LossScale.h"

#include <cmath>
#include <gmock/gmock.h>

using namespace galvatron;

namespace {

class LossScaleTest : public ::testing::Test {
protected:
  LossScaleTest() { manifest.precision = "fp16"; }

  Status open() { return scale.open(options, manifest, state); }
  StepSums sums(double loss, double squares) const {
    StepSums result;
    result.loss = loss;
    result.squares = squares;
    return result;
  }

  Options options;
  Manifest manifest;
  LossScale scale;
  std::optional<LossScaleState> state;
};

TEST_F(LossScaleTest, MovesAsGradScaler) {
  options.initialLossScale = 1024;
  options.lossScaleWindow = 3;
  ASSERT_EQ(open().message, "");
  // Scale and steps after each, as torch.amp.GradScaler(init_scale=1024, growth_interval=3) has them.
  std::pair<bool, std::pair<float, int64_t>> steps[] = {
      {true, {512, 0}},  {true, {256, 0}},  {false, {256, 1}}, {false, {256, 2}}, {true, {128, 0}},  {false, {128, 1}},
      {false, {128, 2}}, {false, {256, 0}}, {false, {256, 1}}, {false, {256, 2}}, {false, {512, 0}}, {true, {256, 0}}};
  for (auto [overflowed, expected] : steps) {
    scale.advance(overflowed, state);
    EXPECT_EQ(std::pair(state->scale, state->steps), expected);
  }
  state = {std::ldexp(1.f, 127), 2};
  scale.advance(false, state);
  EXPECT_EQ(state->scale, std::ldexp(1.f, 127)); // the next power is no float
  EXPECT_EQ(state->steps, 0);
}

TEST_F(LossScaleTest, AFixedScaleStays) {
  options.lossScale = "100";
  options.fixedLossScale = 100;
  state = {65536, 7}; // a checkpoint's
  ASSERT_EQ(open().message, "");
  EXPECT_EQ(state->scale, 100);
  for (int i = 0; i < LossScale::kMostInARow; ++i) {
    ASSERT_TRUE(scale.isOverflow(sums(1, INFINITY), state));
    scale.advance(true, state);
  }
  EXPECT_EQ(state->scale, 100);
  EXPECT_FALSE(scale.isOverflow(sums(1, INFINITY), state)); // no scale's fault
  scale.advance(false, state);
  EXPECT_TRUE(scale.isOverflow(sums(1, INFINITY), state));
  EXPECT_EQ(LossScale::describeOverflow(3, 100, state),
            "step 3: gradients are not finite at the loss scale 100, so there was no update");
}

TEST_F(LossScaleTest, ALossThatIsNotFiniteIsNoOverflow) {
  ASSERT_EQ(open().message, "");
  EXPECT_EQ(state->scale, 65536);
  EXPECT_FALSE(scale.isOverflow(sums(1, 1), state));
  EXPECT_TRUE(scale.isOverflow(sums(1, NAN), state));
  EXPECT_FALSE(scale.isOverflow(sums(NAN, NAN), state));
  EXPECT_FALSE(scale.isOverflow(sums(INFINITY, 1), state));
  EXPECT_EQ(
      LossScale::describeOverflow(3, 131072, state),
      "step 3: gradients are not finite at the loss scale 131072, so there was no update; the scale is now 65536");
  state->scale = LossScale::kLeast;
  EXPECT_TRUE(scale.isOverflow(sums(1, NAN), state));
  scale.advance(true, state);
  EXPECT_FALSE(scale.isOverflow(sums(1, NAN), state));
}

TEST_F(LossScaleTest, OptionsWithoutUseAreRefused) {
  options.lossScaleWindow = 4;
  manifest.precision = "bf16";
  EXPECT_EQ(open().message,
            "--loss-scale-window is for programs of fp16, whose small gradients would be lost, but this "
            "one is of bf16; leave it out, or compile with --precision=fp16");
  options = {};
  state = {1024, 0};
  EXPECT_EQ(open().message, "");
  EXPECT_FALSE(state);
  EXPECT_FALSE(scale.isOverflow(sums(1, NAN), state));
  scale.advance(true, state);
  std::map<std::string, std::string> settings;
  scale.addSettings(settings);
  EXPECT_TRUE(settings.empty());
  manifest.precision = "fp16";
  options.lossScale = "8";
  options.fixedLossScale = 8;
  options.initialLossScale = 4;
  EXPECT_EQ(open().message,
            "--initial-loss-scale is of a scale that moves, but --loss-scale 8 is fixed; leave one of them out");
  options.initialLossScale.reset();
  ASSERT_EQ(open().message, "");
  scale.addSettings(settings);
  EXPECT_EQ(settings, (std::map<std::string, std::string>{{"--loss-scale", "8"}}));
}

} // namespace
