// Whether a run may go on: every difference that changes the numbers is told with the word that accepts it.
#include "runtime/checkpoint/Resume.h"
#include "runtime/core/Options.h"
#include "runtime/data/Fingerprint.h"
#include "test/unit/Runtime/TemporaryFolder.h"

#include <fstream>
#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

namespace {

TrainingState stateOf(const std::vector<const char *> &words = {}) {
  std::vector<const char *> arguments = {"stage0"};
  arguments.insert(arguments.end(), words.begin(), words.end());
  Options options;
  EXPECT_EQ(Options::parse(arguments.size(), arguments.data(), options).message, "");
  TrainingState state;
  state.step = 4;
  state.optimizer = options.optimizer;
  state.globalBatch = 8;
  state.precision = "fp32";
  state.model = {"0123456789abcdef", 3, 100};
  state.settings = options.updateSettings();
  state.data.emplace();
  return state;
}

std::string message(const TrainingState &saved, TrainingState now, const std::set<std::string> &overrides = {}) {
  return checkDifferences("saved", findDifferences(saved, now), overrides, saved.step, now).message;
}

TEST(Resume, WhatDoesNotChangeTheNumbersIsFree) {
  EXPECT_EQ(message(stateOf(), stateOf({"--steps", "50", "--save-every", "3", "--save", "x"})), "");
  EXPECT_EQ(message(stateOf({"--lr", "1e-3"}), stateOf({"--lr", "0.001"})), "");
}

TEST(Resume, OptionsAreNamedWithBothValues) {
  EXPECT_EQ(message(stateOf({"--lr", "0.1"}), stateOf({"--lr", "0.2", "--warmup", "5"})),
            "saved was trained otherwise than this run would be: --lr 0.1, not 0.2; --warmup 0, not 5; give it what it "
            "had, or pass --override lr,warmup to go on all the same");
  EXPECT_EQ(message(stateOf(), stateOf({"--lr", "0.2"}), {"lr"}), "");
  EXPECT_EQ(message(stateOf(), stateOf({"--lr", "0.2"}), {"all"}), "");
  EXPECT_THAT(message(stateOf(), stateOf({"--lr", "0.2"}), {"warmup"}), HasSubstr("--lr 0.001, not 0.2"));
  EXPECT_THAT(message(stateOf({"--lr-schedule", "cosine"}), stateOf({"--lr-schedule", "cosine", "--steps", "7"})),
              HasSubstr("--steps 100, not 7; give it what it had, or pass --override steps to"));
  // Not also what comes with the other value.
  EXPECT_THAT(message(stateOf(), stateOf({"--lr-schedule", "cosine"})), HasSubstr("--override lr-schedule to"));
  EXPECT_THAT(message(stateOf(), stateOf({"--optimizer", "sgd"})), HasSubstr("--override optimizer to"));
  EXPECT_THAT(message(stateOf(), stateOf({"--pad-token", "3"})), HasSubstr("--pad-token unset, not 3"));
}

TEST(Resume, WhatTheProgramFixesHasWordsOfItsOwn) {
  TrainingState now = stateOf();
  now.globalBatch = 16;
  now.precision = "bf16";
  now.seed = 3;
  now.data->sequence = 9;
  EXPECT_THAT(message(stateOf(), now), HasSubstr("global batch 8, not 16; precision fp32, not bf16; --seed 0, not 3"));
  EXPECT_THAT(message(stateOf(), now), HasSubstr("--override seq,batch,precision,seed to"));
  now = stateOf();
  now.model = {"fedcba9876543210", 4, 110};
  std::vector<Difference> found = findOtherModel(stateOf(), now);
  EXPECT_EQ(checkDifferences("saved", found, {}, 4, now).message,
            "saved was trained otherwise than this run would be: a model of 100 elements in 3 parameters "
            "(0123456789abcdef), not 110 elements in 4 parameters (fedcba9876543210); give it what it had, or pass "
            "--override model to go on all the same");
}

TEST(Resume, ALossScaleComesWithItsPrecision) {
  TrainingState saved = stateOf(), now = stateOf();
  for (TrainingState *half : {&saved, &now}) {
    half->precision = "fp16";
    half->settings["--loss-scale"] = "dynamic";
    half->settings["--loss-scale-window"] = "2000";
  }
  EXPECT_THAT(message(stateOf(), now), HasSubstr("--override precision to"));
  EXPECT_THAT(message(saved, stateOf()), HasSubstr("--override precision to"));
  now.settings["--loss-scale-window"] = "5";
  EXPECT_THAT(message(saved, now), HasSubstr("--override loss-scale-window to"));
  now.settings.erase("--loss-scale-window");
  now.settings["--loss-scale"] = "8";
  EXPECT_THAT(message(saved, now), HasSubstr("--override loss-scale to"));
}

TEST(Resume, WhatWasAcceptedIsRecorded) {
  TrainingState saved = stateOf(), now = stateOf({"--lr", "0.2"}), read;
  ASSERT_TRUE(checkDifferences("saved", findDifferences(saved, now), {"all"}, saved.step, now).ok());
  ASSERT_EQ(TrainingState::parse(now.toText(), read).message, "");
  ASSERT_EQ(read.overridden.size(), 1u);
  EXPECT_EQ(read.overridden[0].step, 4);
  EXPECT_EQ(read.overridden[0].word, "lr");
  EXPECT_EQ(read.overridden[0].text, "--lr 0.001, not 0.2");
  EXPECT_EQ(read.toText(), now.toText());
}

TEST(Resume, OldCheckpointsAreComparedByWhatTheySay) {
  TrainingState saved, now = stateOf({"--lr", "0.2"});
  now.seed = 7;
  EXPECT_THAT(findDifferences(saved, now), IsEmpty());
  EXPECT_THAT(findOtherModel(saved, now), IsEmpty());
}

class FingerprintTest : public TemporaryFolder {
protected:
  FingerprintTest() : TemporaryFolder("galvatron-fingerprint") {}
};

TEST_F(FingerprintTest, IsOfContents) {
  auto write = [&](const std::string &name, size_t size, size_t changed) {
    std::string text(size, 'a');
    text[changed] = 'b';
    std::ofstream(folder / name) << text;
    return fingerprint({folder / name});
  };
  for (size_t size : {1, 4096, 5000, 8192, 1000000}) {
    EXPECT_EQ(write("a", size, 0), write("b", size, 0)) << size;
    EXPECT_EQ(write("a", size, size - 1), write("b", size, size - 1)) << size;
    if (size > 1)
      EXPECT_NE(write("a", size, 0), write("b", size, size - 1)) << size;
    EXPECT_NE(write("a", size, 0), write("b", size + 1, 0)) << size;
  }
  EXPECT_EQ(fingerprint({folder / "none"}), "");
}

} // namespace
