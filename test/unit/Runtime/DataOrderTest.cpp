// Going on with a checkpoint's data: what must be equal, and where the place is then.
#include "runtime/checkpoint/Resume.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::AllOf;
using ::testing::HasSubstr;

namespace {

DataOrder order(int64_t sequence, int64_t tokens = 100000) {
  DataOrder data;
  data.file = "tokens.bin";
  data.bytes = data.tokens = tokens;
  data.sequence = sequence;
  return data;
}

Status checkSameData(const std::string &checkpoint, const DataOrder &saved, const DataOrder &now,
                     const std::set<std::string> &overrides) {
  TrainingState state;
  return checkDifferences(checkpoint, findDifferences(saved, now), overrides, 5, state);
}

int64_t nextToken(const DataOrder &now, int64_t sample) {
  return now.origin + sample % now.numWindows() * now.sequence;
}

TEST(DataOrder, WithoutADifferenceThePlaceStays) {
  DataOrder saved = order(64, 1000), now = order(64, 1000);
  saved.origin = 40;
  for (int64_t samples : {0, 3, 14, 15, 16, 700}) {
    EXPECT_EQ(goOn(saved, samples, now), samples);
    EXPECT_EQ(now.origin, 40);
  }
  EXPECT_TRUE(checkSameData("saved", saved, now, {}).ok());
}

TEST(DataOrder, AnotherLengthGoesOnAtTheSameToken) {
  for (int64_t sequence : {1, 32, 64, 96, 128, 1000, 4096}) {
    DataOrder now = order(sequence);
    int64_t sample = goOn(order(64), 48, now);
    EXPECT_EQ(nextToken(now, sample), 3072) << sequence;
    // And back again.
    DataOrder back = order(64);
    EXPECT_EQ(nextToken(back, goOn(now, sample, back)), 3072) << sequence;
  }
}

TEST(DataOrder, RoundsAreKept) {
  DataOrder saved = order(64, 1000), now = order(128, 1000); // 15 and 7 windows
  EXPECT_EQ(goOn(saved, 2 * 15 + 4, now), 2 * 7 + 2);
  EXPECT_EQ(goOn(saved, 3 * 15, now), 3 * 7);
  // In the last window, where no longer one fits after it: the next round.
  EXPECT_EQ(goOn(saved, 14, now), 7);
  EXPECT_EQ(now.origin, 0);
}

TEST(DataOrder, AGrownFileGoesOnAndAShorterOneGoesRound) {
  DataOrder longer = order(64, 2000), shorter = order(64, 640);
  EXPECT_EQ(nextToken(longer, goOn(order(64, 1000), 12, longer)), 768);
  EXPECT_EQ(nextToken(shorter, goOn(order(64, 1000), 12, shorter)), 128);
}

TEST(DataOrder, RandomTokensCountAsWell) {
  DataOrder saved = order(64), now = order(128);
  saved.file = now.file = "";
  EXPECT_EQ(goOn(saved, 48, now), 24);
  EXPECT_EQ(goOn(saved, 47, now), 24); // none twice
}

TEST(DataOrder, DifferencesAreNamedWithTheWordThatAcceptsThem) {
  DataOrder saved = order(64), now = order(128, 90000);
  saved.shuffle = true;
  saved.seed = 3;
  std::string all = checkSameData("saved", saved, now, {}).message;
  EXPECT_THAT(all, AllOf(HasSubstr("tokens.bin, 100000 tokens in 100000 bytes, not tokens.bin, 90000 tokens"),
                         HasSubstr("shuffled with seed 3, not in the file's order"),
                         HasSubstr("in sequences of 64, not 128 tokens"), HasSubstr("--override data,shuffle,seq")));
  EXPECT_FALSE(checkSameData("saved", saved, now, {"data", "seq"}).ok());
  EXPECT_TRUE(checkSameData("saved", saved, now, {"data", "seq", "shuffle"}).ok());
  EXPECT_TRUE(checkSameData("saved", saved, now, {"all"}).ok());
  now = saved;
  now.seed = 4;
  EXPECT_THAT(checkSameData("saved", saved, now, {}).message, HasSubstr("seed 3, not shuffled with seed 4"));
  saved.shuffle = now.shuffle = false; // then the seed orders nothing
  EXPECT_TRUE(checkSameData("saved", saved, now, {}).ok());
  now.file = "other.bin";
  EXPECT_THAT(checkSameData("saved", saved, now, {"seq"}).message, HasSubstr("--override data "));
  now = saved;
  now.eod = 7, now.resets = true;
  EXPECT_THAT(checkSameData("saved", saved, now, {"seq"}).message,
              AllOf(HasSubstr("rows of one document each, not documents that end with token 7;"),
                    HasSubstr("--override documents ")));
  EXPECT_TRUE(checkSameData("saved", saved, now, {"documents"}).ok());
  saved.eod = 5, saved.resets = true;
  EXPECT_THAT(checkSameData("saved", saved, now, {}).message,
              HasSubstr("documents that end with token 5, not documents that end with token 7"));
  now = saved;
  now.seed = 5;
  saved.file = now.file = "";
  EXPECT_THAT(checkSameData("saved", saved, now, {}).message,
              HasSubstr("random tokens, seed 3, not random tokens, seed 5"));
}

TEST(DataOrder, DataAreKnownByTheirContents) {
  DataOrder saved = order(64), now = order(64);
  saved.contents = now.contents = "0123456789abcdef";
  now.file = "moved.bin";
  EXPECT_TRUE(findDifferences(saved, now).empty());
  now.file = saved.file, now.contents = "fedcba9876543210";
  EXPECT_THAT(checkSameData("saved", saved, now, {}).message,
              HasSubstr("in 100000 bytes, contents 0123456789abcdef, not tokens.bin, 100000 tokens in 100000 bytes, "
                        "contents fedcba9876543210; give it"));
  saved.contents = ""; // of an old checkpoint
  EXPECT_TRUE(findDifferences(saved, now).empty());
}

DataOrder blend() {
  DataOrder data;
  data.samples = "gpt";
  data.sequence = 64;
  data.datasets = {{"web", 1000, 10, 500, 0.3, 2, false}, {"books", 2000, 5, 1000, 0.7, 1, false}};
  return data;
}

TEST(DataOrder, OfIndexedDataAllThatOrdersSamplesIsCompared) {
  DataOrder saved = blend(), now = blend();
  EXPECT_EQ(goOn(saved, 48, now), 48);
  EXPECT_TRUE(checkSameData("saved", saved, now, {}).ok());
  auto message = [&](const std::set<std::string> &words) { return checkSameData("saved", saved, now, words).message; };
  now.datasets[0].epochs = 3, now.datasets[0].isLastApart = true;
  EXPECT_THAT(message({}), AllOf(HasSubstr("2 epochs of web and 1 epochs of books, not 3 epochs of web, the last "
                                           "apart and 1 epochs of books;"),
                                 HasSubstr("--override train-samples ")));
  EXPECT_EQ(message({"train-samples"}), "");
  now = blend();
  now.split = "9,1", now.datasets[1].sequences = 4;
  EXPECT_THAT(message({}), AllOf(HasSubstr("without --split, 10 sequences of web, 5 sequences of books, not --split "
                                           "9,1, 10 sequences of web, 4 sequences of books"),
                                 HasSubstr("--override split ")));
  now = blend();
  now.seed = 3;
  EXPECT_THAT(message({}), AllOf(HasSubstr("ordered by --data-seed 0, not 3"), HasSubstr("--override data-seed ")));
  now = blend();
  now.datasets[0].weight = 0.4;
  EXPECT_THAT(message({}), AllOf(HasSubstr("be: web of 1000 bytes, share 0.3, not web of 1000 bytes, share 0.4;"),
                                 HasSubstr("--override data ")));
  now.datasets = {{"web", 1000, 10, 500, 0.30000001, 2, false}, blend().datasets[1]};
  EXPECT_THAT(message({}), HasSubstr("share 0.3, not web of 1000 bytes, share 0.30000001;"));
  now.datasets = {blend().datasets[0]};
  EXPECT_THAT(message({}), HasSubstr("share 0.3 and books of 2000 bytes, share 0.7, not web of 1000 bytes, share 0.3;"));
  now = order(64);
  EXPECT_THAT(message({}), AllOf(HasSubstr("samples gpt, not windows"), HasSubstr("--override data,samples ")));
  EXPECT_EQ(goOn(saved, 48, now), 48);
  now = blend();
  now.resets = true;
  EXPECT_THAT(message({}), HasSubstr("rows of one document each, not documents of the index;"));
  now.resets = false, now.eod = 3;
  EXPECT_THAT(message({}), HasSubstr("not rows without labels at token 3"));
  now = blend();
  now.sequence = 128;
  EXPECT_EQ(goOn(saved, 49, now), 25); // none twice
}

} // namespace
