// Megatron's order: draws as NumPy's, epochs, shares, blends. Whole orders are compared in
// test/EndToEnd/test_samples.py.
#include "runtime/data/GptSamples.h"
#include "IndexedFiles.h"
#include "runtime/data/NumpyRandom.h"

#include <gmock/gmock.h>
#include <numeric>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

TEST(NumpyRandom, ShufflesAsNumpyDoes) {
  // numpy.random.RandomState(1234).shuffle(numpy.arange(10))
  std::vector<int32_t> values(10);
  std::iota(values.begin(), values.end(), 0);
  NumpyRandom(1234).shuffle(values.data(), values.size());
  EXPECT_EQ(values, (std::vector<int32_t>{7, 2, 9, 1, 0, 8, 4, 5, 6, 3}));
}

TEST(Split, BoundsAreRoundedHalfToEven) {
  EXPECT_EQ(splitSequences({949, 50, 1}, 1000), (std::vector<int64_t>{0, 949, 999, 1000}));
  EXPECT_EQ(splitSequences({1, 1, 0}, 5), (std::vector<int64_t>{0, 2, 5, 5}));
  EXPECT_EQ(splitSequences({1, 1, 0}, 7), (std::vector<int64_t>{0, 4, 7, 7}));
  EXPECT_EQ(splitSequences({1, 0, 0}, 7), (std::vector<int64_t>{0, 7, 7, 7}));
}

TEST(Blend, GivesEachItsWeight) {
  Blend blend(normalizeWeights({30, 70}));
  std::vector<int64_t> counts(2);
  for (int64_t k = 0; k < 10; ++k)
    ++counts[blend.place(k).dataset];
  EXPECT_EQ(counts, (std::vector<int64_t>{3, 7}));
  // Going back gives the same.
  Blend::Place tenth = blend.place(9), third = blend.place(2), again = blend.place(9);
  EXPECT_EQ(tenth.dataset, again.dataset);
  EXPECT_EQ(tenth.sample, again.sample);
  EXPECT_LE(third.sample, 2);
  // However far.
  Blend one(normalizeWeights({1, 2, 4})), other = one;
  for (int64_t k : {300000, 299999, 290000, 20000, 4096, 4095, 1, 400000, 399000}) {
    Blend fresh = other;
    Blend::Place place = one.place(k), expected = fresh.place(k);
    EXPECT_EQ(place.dataset, expected.dataset) << k;
    EXPECT_EQ(place.sample, expected.sample) << k;
  }
  Blend even({0.5, 0.5});
  EXPECT_EQ(even.place(0).dataset, 0); // the first on a tie
}

class GptSamplesTest : public IndexedFiles {
protected:
  std::string parse(const std::vector<std::string> &words) { return DataWords::parse(words, request.data).message; }

  std::string open(int64_t count) {
    request.samples = count, request.sequence = 4, request.vocabulary = 100, request.batch = 2, request.seed = 1;
    Status status = GptSamples::open(request, samples);
    if (status.ok())
      samples.build(/*host=*/nullptr);
    return status.message;
  }

  GptSamples::Request request;
  GptSamples samples;
};

TEST_F(GptSamplesTest, WordsArePrefixesWithWeightsOrWithout) {
  EXPECT_EQ(parse({"a", "b"}), "");
  EXPECT_TRUE(request.data.weights.empty());
  EXPECT_EQ(parse({"30", "a", "70", "b"}), "");
  EXPECT_EQ(request.data.prefixes, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.data.weights, (std::vector<double>{30, 70}));
  EXPECT_THAT(parse({"30", "a", "b", "c"}), HasSubstr("has a weight before some of its prefixes, but not before all"));
  EXPECT_THAT(parse({"30", "a", "-1", "b"}), HasSubstr("gives b the weight -1, but weights are numbers above 0"));
  EXPECT_THAT(parse({"0", "a"}), HasSubstr("gives a the weight 0"));
  write({{1}}, 8);
  EXPECT_THAT(parse({prefix() + ".bin", "b"}), HasSubstr("set.bin stands among several words"));
}

TEST_F(GptSamplesTest, SamplesOverlapByALabel) {
  write({{1, 2, 3, 4, 5, 6, 7, 8, 9}}, 8);
  ASSERT_EQ(parse({prefix()}), "");
  ASSERT_EQ(open(2), "");
  Sample a, b;
  ASSERT_TRUE(samples.read(0, a).ok() && samples.read(1, b).ok());
  if (a.tokens[0] != 1)
    std::swap(a, b);
  EXPECT_EQ(a.tokens, (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(b.tokens, (std::vector<int64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(b.ends, (std::vector<bool>{false, false, false, false, true}));
}

TEST_F(GptSamplesTest, TheOrderBeginsAgainWhereSamplesWereLeftOut) {
  write({{1, 2, 3, 4, 5, 6, 7, 8, 9}}, 8);
  ASSERT_EQ(parse({prefix()}), "");
  ASSERT_EQ(open(2), "");
  Sample first, beyond;
  ASSERT_TRUE(samples.read(1, first).ok() && samples.read(3, beyond).ok());
  EXPECT_EQ(first.tokens, beyond.tokens);
}

TEST_F(GptSamplesTest, TheSumOfDatasetsWithoutWeightsIsAllThereIs) {
  write({{1, 2, 3, 4, 5, 6, 7, 8, 9}}, 8, "a");
  write({{1, 2, 3, 4, 5, 6}}, 8, "b");
  ASSERT_EQ(parse({prefix("a"), prefix("b")}), "");
  EXPECT_EQ(open(3), "");
  EXPECT_THAT(open(4), HasSubstr("names datasets of 3 samples of 4 tokens, each read once, but 4 are asked for"));
  EXPECT_EQ(open(3), "");
  EXPECT_THAT(samples.check(2, 2, 0, 1).message,
              HasSubstr("samples 2 to 3 are to be trained on, but the order is made for 3"));
}

TEST_F(GptSamplesTest, EachDatasetIsDescribed) {
  write({{1, 2, 3, 4, 5, 6, 7, 8, 9}}, 8, "a");
  write({{1, 2, 3, 4, 5, 6}, {1, 2}}, 4, "b");
  ASSERT_EQ(parse({"30", prefix("a"), "70", prefix("b")}), "");
  ASSERT_EQ(open(25), "");
  EXPECT_EQ(samples.describe(), prefix("a") +
                                    ": 1 sequences, 9 tokens of type u16, share 0.3, 3.33 epochs\n            " +
                                    prefix("b") + ": 2 sequences, 8 tokens of type i32, share 0.7, 8.75 epochs");
}

TEST_F(GptSamplesTest, SharesMustHoldASample) {
  write({{1, 2, 3}, {4}}, 8);
  ASSERT_EQ(parse({prefix()}), "");
  request.split = {0, 1, 0};
  EXPECT_THAT(open(1), HasSubstr("--split leaves nothing of the 2 sequences of " + prefix() + " to train on"));
  request.share = 1;
  EXPECT_EQ(open(1), "");
  request.split = {1, 1, 0};
  EXPECT_THAT(open(1), HasSubstr("has 1 tokens in the 1 sequences of the share, but a sample needs 5"));
  request.split = {1, 0, 0};
  EXPECT_THAT(open(1), HasSubstr("--split leaves nothing of the 2 sequences of " + prefix() + " to evaluate"));
}

TEST_F(GptSamplesTest, AnOrderBeyondItsTablesIsRefused) {
  write({{1, 2, 3}, {4}}, 8);
  ASSERT_EQ(parse({prefix()}), "");
  EXPECT_THAT(open(int64_t(1) << 40), HasSubstr("epochs, and an order of 2 sequences each is too long; train on more"));
  EXPECT_THAT(open(int64_t(1) << 31), HasSubstr(" would give 2147483648 samples of 2147483649 epochs"));
}

TEST_F(GptSamplesTest, SequencesAreNamedBeyond31Bits) {
  // Of so many sequences, only those of the share have tokens; the rest of the index is a hole in its file.
  write({{1, 2, 3}, {4}}, 8);
  constexpr int64_t kCount = (int64_t(1) << 32) + 2, kFirst = int64_t(3) << 30;
  std::error_code error;
  std::filesystem::resize_file(prefix() + ".idx", 34 + 12 * kCount + 8 * 3, error);
  if (error)
    GTEST_SKIP() << "no file system for it: " << error.message();
  patch(18, 2), patch(22, 1);
  IndexedDataset dataset;
  patch(34 + 4 * kFirst, 3), patch(34 + 4 * (kFirst + 1), 2);
  ASSERT_EQ(IndexedDataset::open(prefix(), 100, dataset).message, "");
  GptOrder order;
  ASSERT_EQ(GptOrder::plan(dataset, {kFirst, kFirst + 2, -1, 1, 1}, order).message, "");
  order.use(makeOwnTable(order.numBytes(), [&](char *tables) { order.fill(dataset, tables); }));
  EXPECT_EQ(order.numSamples(), 4);
  EXPECT_EQ(order.sequenceAt(0) + order.sequenceAt(1), 2 * kFirst + 1);
  patch(34 + 4 * (kCount - 1), 9);
  EXPECT_THAT(GptOrder::plan(dataset, {kCount - 2, kCount, -1, 1, 1}, order).message,
              HasSubstr("has sequences after the 4294967296 that an order can name; write them as several datasets"));
}

TEST_F(GptSamplesTest, AnEpochToEvaluate) {
  write({{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}}, 8);
  ASSERT_EQ(parse({prefix()}), "");
  ASSERT_EQ(open(-1), "");
  EXPECT_EQ(samples.numInEpoch(), 3);
  ASSERT_EQ(parse({"2", prefix()}), "");
  EXPECT_THAT(open(-1), HasSubstr("--eval-batches 0 evaluates each dataset once, so that weights have no effect; leave"));
}

TEST_F(GptSamplesTest, TokensAreCheckedBeforeTheFirstStep) {
  write({{1, 2, 3, 400, 5, 6}}, 8);
  ASSERT_EQ(parse({prefix()}), "");
  ASSERT_EQ(open(1), "");
  EXPECT_THAT(samples.check(0, 1, 0, 1).message, HasSubstr("token 3 of sequence 0 is 400, outside the vocabulary"));
}

} // namespace
