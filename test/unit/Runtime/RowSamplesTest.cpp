// Rows of whole sequences: cut, padded, packed, with labels of their own; and what does not go together.
#include "runtime/data/RowSamples.h"
#include "IndexedFiles.h"
#include "runtime/api/Documents.h"

#include <gmock/gmock.h>
#include <set>

using namespace galvatron;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Row = std::vector<int64_t>;

namespace {

constexpr int64_t kNone = kIgnoredLabel;

class RowSamplesTest : public IndexedFiles {
protected:
  void SetUp() override {
    IndexedFiles::SetUp();
    request.data = {prefix()};
    request.sequence = 4, request.vocabulary = 100, request.batch = 1, request.padToken = 9;
  }

  std::string open() {
    Status status = RowSamples::open(request, samples);
    if (status.ok())
      samples.build(/*host=*/nullptr);
    return status.message;
  }
  Sample read(int64_t number) const {
    Sample sample;
    EXPECT_EQ(samples.read(number, sample).message, "");
    return sample;
  }

  RowSamples::Request request;
  RowSamples samples;
};

TEST_F(RowSamplesTest, ASequenceARow) {
  write({{1, 2, 3}, {4, 5, 6, 7, 8, 1}, {}}, 8);
  ASSERT_EQ(open(), "");
  EXPECT_EQ(samples.numRows(), 3);
  EXPECT_EQ(read(0).tokens, (Row{1, 2, 3, 9}));
  EXPECT_EQ(read(0).labels, (Row{2, 3, kNone, kNone}));
  EXPECT_EQ(read(0).ends, (std::vector<bool>{false, false, true, false}));
  EXPECT_EQ(read(1).tokens, (Row{4, 5, 6, 7}));
  EXPECT_EQ(read(1).labels, (Row{5, 6, 7, kNone})); // cut: its last token is not followed by any
  EXPECT_EQ(read(2).labels, (Row{kNone, kNone, kNone, kNone}));
  EXPECT_EQ(read(3).tokens, read(0).tokens);
}

TEST_F(RowSamplesTest, ShuffledAnotherWayEachRound) {
  write({{1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}}, 8);
  request.shuffle = true, request.seed = 3;
  ASSERT_EQ(open(), "");
  Row rounds[2];
  for (int64_t n = 0; n < 16; ++n)
    rounds[n / 8].push_back(read(n).tokens[0]);
  for (const Row &round : rounds)
    EXPECT_EQ(std::set<int64_t>(round.begin(), round.end()).size(), 8u);
  EXPECT_NE(rounds[0], rounds[1]);
}

TEST_F(RowSamplesTest, PackedRowsEndBeforeWhatDoesNotFit) {
  write({{1, 2}, {3}, {4, 5}}, 8);
  write({{6, 7, 8, 1}}, 8, "more");
  request.data = {prefix(), prefix("more")};
  request.arePacked = true;
  ASSERT_EQ(open(), "");
  EXPECT_EQ(samples.numRows(), 3);
  EXPECT_EQ(read(0).tokens, (Row{1, 2, 3, 9}));
  EXPECT_EQ(read(0).labels, (Row{2, kNone, kNone, kNone}));
  EXPECT_EQ(read(0).ends, (std::vector<bool>{false, true, true, false}));
  EXPECT_EQ(read(1).tokens, (Row{4, 5, 9, 9}));
  EXPECT_EQ(read(2).tokens, (Row{6, 7, 8, 1}));
  write({{1, 2, 3, 4, 5}}, 8);
  EXPECT_THAT(open(), HasSubstr("set: sequence 0 has 5 tokens, more than a packed row of 4 holds; cut it before"));
}

TEST_F(RowSamplesTest, LabelsAreTheValuesAtTheNextTokens) {
  write({{1, 2, 3}, {4, 5}}, 8);
  write({{-100, 2, -100}, {-100, 5}}, 4, "labels");
  request.labels = {prefix("labels")};
  for (bool arePacked : {false, true}) {
    request.arePacked = arePacked;
    ASSERT_EQ(open(), "");
    EXPECT_EQ(samples.check(0, 1, 0, 1).message, "");
    EXPECT_EQ(read(0).labels, (Row{2, kNone, kNone, kNone}));
    EXPECT_EQ(read(1).labels, (Row{5, kNone, kNone, kNone}));
  }
  write({{-100, 2, -100}, {-100, 100}}, 4, "labels");
  ASSERT_EQ(open(), "");
  EXPECT_THAT(samples.check(0, 1, 0, 1).message, HasSubstr("labels: token 1 of sequence 1 is 100, outside the"));
}

TEST_F(RowSamplesTest, LabelsAreOfTheSameSequences) {
  write({{1, 2, 3}, {4, 5}}, 8);
  request.labels = {prefix("labels"), prefix("labels")};
  EXPECT_THAT(open(), HasSubstr("--labels names 2 datasets, but --data 1; give one of labels for each"));
  request.labels = {prefix("labels")};
  EXPECT_THAT(open(), StartsWith("--labels: cannot open "));
  request.labelsOption = "--eval-labels";
  EXPECT_THAT(open(), StartsWith("--eval-labels: cannot open "));
  write({{-100, 2, -100}}, 4, "labels");
  EXPECT_THAT(open(), HasSubstr("labels has labels for 1 sequences, but "));
  write({{-100, 2, -100}, {1}}, 4, "labels");
  EXPECT_THAT(open(), HasSubstr("labels has 1 labels for sequence 1, but "));
}

TEST_F(RowSamplesTest, ABatchNeedsItsRows) {
  write({{1, 2, 3}, {4, 5}}, 8);
  request.batch = 3;
  ASSERT_EQ(open(), "");
  EXPECT_THAT(samples.check(0, 3, 0, 1).message, HasSubstr(" makes 2 rows, but one batch needs 3; use more data"));
}

} // namespace
