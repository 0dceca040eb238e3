// The command line and the manifest: what is taken, and what is refused with which words.
#include "runtime/core/Options.h"
#include "runtime/core/Manifest.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

Status parse(std::vector<const char *> arguments, Options &options) {
  arguments.insert(arguments.begin(), "stage0");
  return Options::parse(arguments.size(), arguments.data(), options);
}

TEST(Options, EveryWayToWriteAValue) {
  Options options;
  ASSERT_TRUE(parse({"--steps", "7", "--lr=3e-3", "--betas", "0.8,0.95", "--shuffle", "--seed", "9"}, options).ok());
  EXPECT_EQ(options.steps, 7);
  EXPECT_EQ(options.lr, 3e-3);
  EXPECT_EQ(options.beta1, 0.8);
  EXPECT_EQ(options.beta2, 0.95);
  EXPECT_TRUE(options.shuffle);
  EXPECT_EQ(options.seed, 9u);
  ASSERT_TRUE(parse({"--betas", "0.7", "0.9", "--quiet"}, options).ok());
  EXPECT_EQ(options.beta1, 0.7);
  EXPECT_EQ(options.beta2, 0.9);
  EXPECT_TRUE(options.quiet);
  EXPECT_EQ(options.steps, 100); // what was said before is forgotten
}

TEST(Options, WrongWordsAreRefused) {
  Options options;
  EXPECT_THAT(parse({"--quiet=yes"}, options).message, HasSubstr("there is no option '--quiet=yes'"));
  EXPECT_THAT(parse({"steps"}, options).message, HasSubstr("there is no option 'steps'"));
  EXPECT_THAT(parse({"--betas", "0.9"}, options).message, HasSubstr("two numbers as in 0.9,0.999, but got '0.9'"));
  EXPECT_THAT(parse({"--lr", "nan"}, options).message, HasSubstr("--lr expects a number from 0 on, but got 'nan'"));
  EXPECT_THAT(parse({"--data="}, options).message, HasSubstr("--data expects a name, but got nothing"));
}

TEST(Options, DataTakesWordsUpToTheNextOption) {
  Options options;
  ASSERT_TRUE(parse({"--data", "30", "a", "-1.5", "b", "--reset-at-documents", "--eod", "7"}, options).ok());
  EXPECT_EQ(options.data, (std::vector<std::string>{"30", "a", "-1.5", "b"}));
  EXPECT_TRUE(options.resetAtDocuments);
  EXPECT_EQ(options.eod, 7);
  ASSERT_TRUE(parse({"--data=a", "b", "-h"}, options).ok());
  EXPECT_EQ(options.data, (std::vector<std::string>{"a", "b"}));
}

TEST(Options, SharesAreUpToThreeNumbers) {
  Options options;
  ASSERT_TRUE(parse({"--split", "949,50,1", "--data-seed", "4294967295"}, options).ok());
  EXPECT_EQ(options.shares, (std::vector<double>{949, 50, 1}));
  ASSERT_TRUE(parse({"--split=1"}, options).ok());
  EXPECT_EQ(options.shares, (std::vector<double>{1, 0, 0}));
  for (const char *text : {"1,2,3,4", "1,-2", "1,,2", "a"})
    EXPECT_THAT(parse({"--split", text}, options).message,
                HasSubstr("--split expects the shares of training, evaluation and test as numbers from 0 on, as in "
                          "949,50,1, but got '" +
                          std::string(text)));
  EXPECT_EQ(parse({"--split", "0,0"}, options).message, "--split expects a share above 0, but got '0,0'");
  EXPECT_EQ(parse({"--data-seed", "4294967296"}, options).message,
            "--data-seed expects a whole number from 0 to below 2^32, but got '4294967296'");
}

TEST(Options, LossScalesArePositive) {
  Options options;
  ASSERT_TRUE(
      parse({"--loss-scale", "dynamic", "--initial-loss-scale", "1024", "--loss-scale-window=4"}, options).ok());
  EXPECT_EQ(options.fixedLossScale, 0);
  EXPECT_EQ(options.initialLossScale, 1024);
  EXPECT_EQ(options.lossScaleWindow, 4);
  ASSERT_TRUE(parse({"--loss-scale", "128.5"}, options).ok());
  EXPECT_EQ(options.fixedLossScale, 128.5);
  for (const char *text : {"0", "-1", "1e39", "1e-60", "inf", "much"}) {
    EXPECT_EQ(parse({"--loss-scale", text}, options).message,
              "--loss-scale expects dynamic or a number above 0, but got '" + std::string(text) + "'");
    EXPECT_EQ(parse({"--initial-loss-scale", text}, options).message,
              "--initial-loss-scale expects a number above 0, but got '" + std::string(text) + "'");
  }
}

TEST(Options, WsdSaysOverHowManySteps) {
  Options options;
  ASSERT_TRUE(parse({"--lr-schedule", "WSD", "--wsd-decay-steps", "20"}, options).ok());
  std::map<std::string, std::string> settings = options.updateSettings();
  EXPECT_EQ(settings["--wsd-decay"], "exponential");
  EXPECT_EQ(settings["--steps"], "100");
  EXPECT_THAT(parse({"--lr-schedule", "WSD"}, options).message, HasSubstr("decays; give --wsd-decay-steps N"));
  EXPECT_EQ(parse({"--lr-schedule", "WSD", "--wsd-decay-steps", "101"}, options).message,
            "--wsd-decay-steps 101 is more than the 100 steps of the run; give fewer, or more --steps");
  EXPECT_EQ(parse({"--wsd-decay", "linear"}, options).message,
            "--wsd-decay is of --lr-schedule WSD, but it is constant; leave one of them out");
  ASSERT_TRUE(parse({"--lr-schedule", "inverse-square-root"}, options).ok());
  EXPECT_FALSE(options.updateSettings().contains("--steps")); // its rate does not depend on them
}

TEST(Options, NoWeightDecayTakesPatterns) {
  Options options;
  ASSERT_TRUE(parse({"--no-weight-decay", "*.bias,*norm*", "--weight-decay", "0.1"}, options).ok());
  EXPECT_EQ(options.noWeightDecay, (std::vector<std::string>{"*.bias", "*norm*"}));
  EXPECT_EQ(options.updateSettings()["--no-weight-decay"], "*.bias,*norm*");
  EXPECT_EQ(parse({"--no-weight-decay", ","}, options).message,
            "--no-weight-decay expects names, with commas between several, but got ','");
}

TEST(Options, EvaluationIsAskedFor) {
  Options options;
  ASSERT_TRUE(parse({"--eval-every", "5", "--eval-data", "30", "a", "70", "b", "--eval-batches", "0"}, options).ok());
  EXPECT_EQ(options.evalData.size(), 4u);
  EXPECT_EQ(options.evalBatches, 0);
  EXPECT_EQ(parse({"--eval-data", "a"}, options).message,
            "--eval-data says what to evaluate, but not when; give --eval-every N or --eval-only");
  EXPECT_EQ(parse({"--eval-only", "--log", "a"}, options).message,
            "--log is of a run that trains, but --eval-only does not; leave one of them out");
}

TEST(Options, OverrideTakesAListOfWords) {
  Options options;
  ASSERT_TRUE(parse({"--override", "shuffle,data", "--override=seq"}, options).ok());
  EXPECT_EQ(options.overrides, (std::set<std::string>{"data", "seq", "shuffle"}));
  ASSERT_TRUE(parse({"--override", "lr,weight-decay-on,model,precision,batch,documents,all"}, options).ok());
  EXPECT_EQ(
      parse({"--override", "seq,order"}, options).message,
      "--override expects names of options, as lr, or model, precision, batch, seq, documents or all, with commas "
      "between several, but got 'order'");
  EXPECT_THAT(parse({"--override="}, options).message, HasSubstr("but got ''"));
}

TEST(Options, UpdateSettingsAreThoseThatHaveAnEffect) {
  Options options;
  ASSERT_TRUE(parse({"--lr", "3e-3", "--steps", "60", "--min-lr", "1e-4", "--clip-grad", "1"}, options).ok());
  std::map<std::string, std::string> settings = options.updateSettings();
  EXPECT_EQ(settings["--lr"], "0.003");
  EXPECT_EQ(settings["--clip-grad"], "1");
  EXPECT_EQ(settings["--betas"], "0.9,0.999");
  for (const char *without : {"--steps", "--min-lr", "--weight-decay-on"})
    EXPECT_FALSE(settings.contains(without)) << without;
  ASSERT_TRUE(
      parse({"--lr-schedule", "cosine", "--steps", "60", "--optimizer", "sgd", "--weight-decay", "0.1"}, options).ok());
  settings = options.updateSettings();
  EXPECT_EQ(settings["--steps"], "60");
  EXPECT_EQ(settings["--weight-decay-on"], "matrices");
  EXPECT_FALSE(settings.contains("--betas"));
}

TEST(Options, HelpNamesEveryOption) {
  std::string help = options::helpText(Options::commandLine());
#define OPTION(flag, value, text) EXPECT_THAT(help, HasSubstr("  " flag " " value));
#define GROUP(title) EXPECT_THAT(help, HasSubstr("\n" title "\n  -"));
#define LAUNCH_OPTION(flag, value, text) OPTION(flag, value, text)
#include "runtime/core/Options.def"
#undef LAUNCH_OPTION
#undef GROUP
#undef OPTION
}

TEST(Options, TheTableHasNoRowThatIsNotParsed) {
  Options options;
  for (const galvatron::options::Option &row : Options::commandLine().options) {
    bool isOfLaunch = row.help.empty() || row.flags.starts_with("--hostfile") || row.flags == "--launcher" ||
                      row.flags == "--env" || row.flags == "--print" || row.flags == "--completion";
    for (const std::string &flag : galvatron::options::spellings(row))
      EXPECT_EQ(parse({flag.c_str()}, options).message.find("there is no option") == std::string::npos, !isOfLaunch)
          << flag;
    for (const std::string &word : galvatron::options::choices(row))
      if (!isOfLaunch)
        EXPECT_THAT(parse({row.flags.c_str(), word.c_str()}, options).message, Not(HasSubstr("expects"))) << word;
  }
}

std::string manifestText(const std::string &placement, int64_t count, int64_t devices = 2) {
  return R"({"stage": 0, "stages": 1, "devices": )" + std::to_string(devices) +
         R"(, "mesh": [2], "global_batch": 2, "micro_batches": 1,
    "sequence": 4, "vocabulary": 8, "arena_bytes": 64, "inputs": [], "groups": [], "names": [], "units": [],
    "parameters": [{"names": ["w"], "shape": [4, 3], "parameter": 0, "gradient": 0, "count": )" +
         std::to_string(count) + R"(, "placement": )" + placement + "}]}";
}

TEST(Manifest, PlacementAndShapeMustAgree) {
  Manifest manifest;
  std::string good = "[[[2, 0], [2, -1]], [[3, -1]]]";
  ASSERT_TRUE(Manifest::parse(manifestText(good, 6).c_str(), manifest).ok());
  EXPECT_EQ(manifest.parameters[0].placement, (Placement{2, 2, 0, 2, -1, 1, 3, -1}));
  auto message = [&](const std::string &text) { return Manifest::parse(text.c_str(), manifest = {}).message; };
  EXPECT_THAT(message(manifestText(good, 12)), HasSubstr("expects 6 local elements of w, but got 12"));
  EXPECT_THAT(message(manifestText("[[[2, 0], [4, -1]], [[3, -1]]]", 12)),
              HasSubstr("to cover 4 elements of dimension 0, but got 8"));
  EXPECT_THAT(message(manifestText(good, 6, 4)), HasSubstr("expects a mesh of 4 devices, but its axes give 2"));
  EXPECT_THAT(message("{}"), HasSubstr("this program's manifest cannot be read"));
}

} // namespace
