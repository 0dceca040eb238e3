// Random numbers by counter: the generator against its published answers, streams against statistics.
#include "runtime/api/CounterRandom.h"

#include <gtest/gtest.h>

#include <vector>

using namespace galvatron::random;

namespace {

TEST(CounterRandom, PhiloxKnownAnswers) {
  // The vectors published with Random123 (kat_vectors).
  Block zeros = philox(0, 0, 0), ones = philox(~0ull, ~0ull, ~0ull);
  EXPECT_EQ(zeros.word[0], 0x6627e8d5u);
  EXPECT_EQ(zeros.word[3], 0x9b00dbd8u);
  EXPECT_EQ(ones.word[0], 0x408f276du);
  EXPECT_EQ(ones.word[3], 0x6d5451fdu);
}

TEST(CounterRandom, NormalHasMeanZeroAndDeviationOne) {
  Stream stream = initialStream(1, hashName("w", 1));
  constexpr int kCount = 1 << 18;
  double sum = 0, squares = 0;
  for (int i = 0; i < kCount; ++i) {
    double x = stream.normal(i);
    sum += x;
    squares += x * x;
  }
  // Five standard errors: 5/√n and 5·√(2/n).
  EXPECT_NEAR(sum / kCount, 0, 5 / 512.0);
  EXPECT_NEAR(squares / kCount, 1, 5 * 1.415 / 512.0);
}

TEST(CounterRandom, DropoutKeepsItsShare) {
  Stream stream = dropoutStream(1, 2, hashName("h.0", 3), 4);
  constexpr int kCount = 1 << 18;
  int kept = 0;
  for (int i = 0; i < kCount; ++i)
    kept += keeps(stream, i, 0.1);
  EXPECT_NEAR(kept / double(kCount), 0.9, 5 * 0.3 / 512.0);
  EXPECT_TRUE(keeps(stream, 0, 0.0));
}

TEST(CounterRandom, EachNameHasItsOwnStream) {
  uint64_t layer = hashName("h.0", 3);
  uint32_t bits = dropoutStream(1, 1, layer, 0).bits(0);
  EXPECT_NE(bits, dropoutStream(2, 1, layer, 0).bits(0));
  EXPECT_NE(bits, dropoutStream(1, 2, layer, 0).bits(0));
  EXPECT_NE(bits, dropoutStream(1, 1, hashName("h.1", 3), 0).bits(0));
  EXPECT_NE(bits, dropoutStream(1, 1, layer, 1).bits(0));
  EXPECT_NE(initialStream(0, layer).uniform(0), initialStream(0, layer + 1).uniform(0));
}

TEST(CounterRandom, InitialValuesFollowTheirDistribution) {
  Stream stream = initialStream(3, 5);
  EXPECT_EQ(initialValue(stream, 9, Distribution::Constant, 0.5, 0), 0.5f);
  for (int i = 0; i < 100; ++i) {
    float value = initialValue(stream, i, Distribution::Uniform, -2, 3);
    EXPECT_TRUE(value >= -2 && value < 3);
    EXPECT_EQ(initialValue(stream, i, Distribution::Normal, 1, 2), float(1 + 2 * stream.normal(i)));
  }
}

TEST(CounterRandom, ManyInitialValuesAreTheSingleOnes) {
  Stream stream = initialStream(3, hashName("w", 1));
  for (Distribution kind : {Distribution::Constant, Distribution::Uniform, Distribution::Normal})
    for (uint64_t first : {0, 1, 6, 7})
      for (size_t count : {0, 1, 2, 5, 8}) {
        std::vector<float> values(count);
        initialValues(stream, first, count, kind, 0.5, 2, values.data());
        for (size_t i = 0; i < count; ++i)
          EXPECT_EQ(values[i], initialValue(stream, first + i, kind, 0.5, 2)) << first << " + " << i;
      }
}

} // namespace
