// What becomes of steps that are not finite, and which losses stand out.
#include "runtime/core/LossWatch.h"

#include <gtest/gtest.h>

using namespace galvatron;

namespace {

TEST(NotFiniteRule, StopsAtTheLimit) {
  NotFiniteRule stop("stop", 3), skip("skip", 3), once("skip", 1);
  EXPECT_EQ(stop.decide(1), NotFiniteRule::Stop);
  EXPECT_EQ(once.decide(1), NotFiniteRule::Stop);
  for (int64_t step : {1, 2, 4, 5}) { // the third is good
    if (step == 4)
      skip.finish(3);
    EXPECT_EQ(skip.decide(step), NotFiniteRule::Skip) << step;
  }
  EXPECT_EQ(skip.decide(6), NotFiniteRule::Stop);
  EXPECT_EQ(skip.numInRow(), 3);
}

TEST(NotFiniteRule, StepsDoneAgainAreNoProgress) {
  NotFiniteRule rewind("rewind", 3);
  EXPECT_EQ(rewind.decide(10), NotFiniteRule::Rewind);
  rewind.finish(8);
  rewind.finish(9);
  EXPECT_EQ(rewind.decide(10), NotFiniteRule::Rewind);
  rewind.finish(9);
  EXPECT_EQ(rewind.decide(10), NotFiniteRule::Stop);
  NotFiniteRule other("rewind", 2);
  EXPECT_EQ(other.decide(10), NotFiniteRule::Rewind);
  other.finish(10);
  EXPECT_EQ(other.decide(11), NotFiniteRule::Rewind);
}

TEST(Spikes, StandOut) {
  Spikes spikes;
  for (int i = 0; i < 19; ++i)
    EXPECT_FALSE(spikes.add(i % 2 ? 2.1 : 1.9));
  EXPECT_FALSE(spikes.add(50)); // too few yet
  spikes.forget();
  for (int i = 0; i < 20; ++i)
    spikes.add(i % 2 ? 2.1 : 1.9);
  EXPECT_FALSE(spikes.add(0.5)); // low is none
  spikes.forget();
  for (int i = 0; i < 20; ++i)
    spikes.add(i % 2 ? 2.1 : 1.9);
  auto spike = spikes.add(2.61); // 2 + 6 · 0.1
  ASSERT_TRUE(spike);
  EXPECT_NEAR(spike->mean, 2, 1e-12);
  EXPECT_NEAR(spike->deviation, 0.1, 1e-12);
  EXPECT_FALSE(spikes.add(2.61)); // it is one of them now
}

TEST(Spikes, OfLossesThatHardlyMove) {
  Spikes spikes;
  for (int i = 0; i < 100; ++i)
    spikes.add(2);
  EXPECT_FALSE(spikes.add(2.01));
  EXPECT_TRUE(spikes.add(2.03));
}

} // namespace
