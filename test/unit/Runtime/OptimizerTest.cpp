// Updates against torch.optim's formulas in f64, learning rates, clipping.
#include "RuntimeFixture.h"
#include "runtime/kernels/HalfTypes.h"
#include "runtime/optim/Schedule.h"
#include "runtime/optim/Update.h"

using namespace galvatron;
using namespace galvatron::test;

namespace {

using OptimizerTest = RuntimeTest;

TEST_F(OptimizerTest, AdamwOverManySteps) {
  constexpr int64_t kCount = 37;
  constexpr double kLr = 0.01, kBeta1 = 0.9, kBeta2 = 0.95, kEps = 1e-8, kDecay = 0.1, kScale = 0.5;
  auto p = values(kCount, 1);
  std::vector<Bfloat16> copy(kCount);
  std::vector<float> m(kCount), v(kCount);
  std::vector<double> ep(p.begin(), p.end()), em(kCount), ev(kCount);
  for (int64_t step = 1; step <= 50; ++step) {
    auto g = values(kCount, 100 + step);
    call(gvrt_adamw, {p.data(), g.data(), m.data(), v.data(), step == 50 ? copy.data() : nullptr},
         {kCount, GVRT_BF16, bits(kScale), bits(kLr), bits(kBeta1), bits(kBeta2), bits(kEps), bits(kDecay), step});
    for (int64_t i = 0; i < kCount; ++i) {
      double scaled = kScale * g[i];
      ep[i] *= 1 - kLr * kDecay;
      em[i] = kBeta1 * em[i] + (1 - kBeta1) * scaled;
      ev[i] = kBeta2 * ev[i] + (1 - kBeta2) * scaled * scaled;
      ep[i] -= kLr * (em[i] / (1 - std::pow(kBeta1, step))) / (std::sqrt(ev[i] / (1 - std::pow(kBeta2, step))) + kEps);
    }
  }
  expectNear(p, ep, 1e-6);
  expectNear(m, em, 1e-7);
  expectNear(v, ev, 1e-7);
  for (int64_t i = 0; i < kCount; ++i)
    EXPECT_EQ(copy[i].bits, Bfloat16(p[i]).bits);
}

TEST_F(OptimizerTest, SgdAddsDecayToTheGradient) {
  std::vector<float> p = {1, -2}, g = {3, 4};
  Bfloat16 copy[2];
  call(gvrt_sgd, {p.data(), g.data(), copy}, {2, GVRT_BF16, bits(0.5), bits(0.1), bits(0.25)});
  expectNear(p, std::vector<double>{1 - 0.1 * (1.5 + 0.25), -2 - 0.1 * (2 - 0.5)}, 1e-7);
  EXPECT_EQ((float)copy[0], 0.82421875f); // 0.825 to 8 bits
  EXPECT_EQ((float)copy[1], -2.15625f);   // -2.15
  Float16 finer[2];
  call(gvrt_sgd, {p.data(), g.data(), finer}, {2, GVRT_F16, bits(0.5), bits(0), bits(0)});
  EXPECT_EQ((float)finer[0], 0.8251953125f); // to 11 bits
}

TEST_F(OptimizerTest, SquareSumAddsInDoublePrecision) {
  std::vector<float> x(100003, 1e-3f);
  double sum = 2;
  call(gvrt_square_sum, {x.data(), &sum}, {(int64_t)x.size()});
  EXPECT_NEAR(sum - 2, 100003 * (double)1e-3f * (double)1e-3f, 1e-12);
}

TEST(Schedule, WarmUpAndDecay) {
  Options options;
  options.lr = 1;
  options.minLr = 0.2;
  EXPECT_EQ(learningRate(options, 7, 10), 1);
  options.warmup = 4;
  EXPECT_EQ(learningRate(options, 1, 10), 0.25);
  EXPECT_EQ(learningRate(options, 4, 10), 1);
  EXPECT_EQ(learningRate(options, 5, 10), 1);
  options.lrSchedule = "linear";
  EXPECT_NEAR(learningRate(options, 7, 10), 0.6, 1e-12);
  EXPECT_NEAR(learningRate(options, 10, 10), 0.2, 1e-12);
  options.lrSchedule = "cosine";
  EXPECT_NEAR(learningRate(options, 7, 10), 0.6, 1e-12);
  EXPECT_NEAR(learningRate(options, 5, 10), 0.2 + 0.4 * (1 + std::cos(M_PI / 6)), 1e-12);
  EXPECT_NEAR(learningRate(options, 10, 10), 0.2, 1e-12);
  options.warmup = 10; // nothing is left to decay
  EXPECT_EQ(learningRate(options, 10, 10), 1);
}

TEST(Clip, OnlyShrinks) {
  EXPECT_EQ(clipScale(5, 0), 1);
  EXPECT_EQ(clipScale(0.5, 1), 1);
  EXPECT_NEAR(clipScale(4, 1), 0.25, 1e-6);
}

TEST(AnswersFor, OneOfEqualPieces) {
  gvrt_context context;
  ParameterInfo cut, whole;
  cut.counted = whole.counted = true;
  cut.shape = whole.shape = {8};
  cut.placement = {2, 2, 1, 4, -1}; // cut on mesh axis 1, equal along axis 0
  whole.placement = {1, 8, -1};
  int cutCount = 0, wholeCount = 0;
  for (int64_t a : {0, 1})
    for (int64_t b : {0, 1}) {
      context.coordinates = {a, b};
      cutCount += answersFor(context, cut);
      wholeCount += answersFor(context, whole);
      EXPECT_EQ(answersFor(context, cut), a == 0);
    }
  EXPECT_EQ(cutCount, 2);
  EXPECT_EQ(wholeCount, 1);
  whole.counted = false;
  context.coordinates = {0, 0};
  EXPECT_FALSE(answersFor(context, whole));
}

} // namespace
