// training.json: what is written is read, and any other value is one sentence that names its key.
#include "runtime/checkpoint/Resume.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <map>
#include <nlohmann/json.hpp>

using namespace galvatron;
using nlohmann::json;
using ::testing::HasSubstr;

namespace {

TrainingState someState() {
  RunSetting setting{"adamw", 18446744073709551615u,        DataOrder(), 8, {{"--lr", "0.1"}},
                     "bf16",  {"0123456789abcdef", 3, 100}, {}};
  TrainingState state{setting, 7, 56, 6};
  state.data->file = "tokens.bin";
  state.data->bytes = state.data->tokens = 1000;
  state.data->sequence = 64;
  state.data->origin = 40;
  state.data->shuffle = true;
  state.data->seed = state.seed;
  state.data->eod = 3;
  state.skip(8, 8);
  state.skip(16, 8);
  state.skip(32, 16);
  state.leftOut = 16;
  return state;
}

std::string parseError(const std::string &text) {
  TrainingState state;
  return TrainingState::parse(text, state).message;
}

/// The error of someState() with another value at a place such as data.bytes.
std::string errorWith(std::string place, const json &value) {
  json text = json::parse(someState().toText());
  std::replace(place.begin(), place.end(), '.', '/');
  text[json::json_pointer("/" + place)] = value;
  return parseError(text.dump());
}

TEST(TrainingState, WhatIsWrittenIsRead) {
  TrainingState random;
  random.optimizer = "sgd";
  random.data.emplace();
  TrainingState plain = random;
  plain.data.reset();
  TrainingState scaled = someState();
  scaled.lossScale = {1099511627776.f, 3};
  for (const TrainingState &state : {someState(), random, plain, scaled}) {
    TrainingState read;
    ASSERT_EQ(TrainingState::parse(state.toText(), read).message, "");
    EXPECT_EQ(read.toText(), state.toText());
    EXPECT_EQ(read.data.has_value(), state.data.has_value());
    EXPECT_EQ(read.lossScale.has_value(), state.lossScale.has_value());
  }
}

TEST(TrainingState, SkippedSamples) {
  EXPECT_EQ(json::parse(someState().toText())["skipped"], json::parse("[[8, 16], [32, 16]]"));
  for (const char *bad :
       {"3", "[3]", "[[3]]", "[[-1, 3]]", "[[8, 4], [11, 1]]", "[[50, 7]]", "[[57, 0]]", "[[0, 1, 2]]"})
    EXPECT_THAT(errorWith("skipped", json::parse(bad)),
                HasSubstr("expects skipped to be pairs of a first sample and a number of them, ascending and below "
                          "samples, but got "))
        << bad;
  EXPECT_THAT(errorWith("left_out", 57), HasSubstr("expects left_out to be a whole number from 0 to 56"));
}

/// Another value at every key.
TrainingState otherState() {
  TrainingState state = someState();
  state.optimizer = "sgd";
  state.seed = 1;
  state.globalBatch = 16;
  state.settings = {{"--lr", "0.2"}};
  state.precision = "fp16";
  state.model = {"fedcba9876543210", 4, 200};
  state.overridden = {{3, "lr", "a rate of 0.2, not 0.1"}};
  state.data->file = "others.bin";
  state.data->sequence = 128;
  state.data->shuffle = false;
  state.data->eod = 4;
  state.data->resets = true;
  state.step = 9, state.samples = 80, state.updates = 8;
  state.lossScale = {2, 5};
  state.skip(72, 8);
  state.leftOut = 24;
  return state;
}

/// Whoever adds a key says here, and by the struct that it is in, whether a run that goes back keeps its own.
TEST(TrainingState, GoingBackKeepsWhatTheRunDecides) {
  const std::map<std::string, json> gone = {{"step", 7},
                                            {"updates", 6},
                                            {"samples", 96},
                                            {"left_out", 16 + 40},
                                            {"loss_scale_steps", 3},
                                            {"skipped", json::parse("[[8, 16], [32, 16], [56, 40]]")},
                                            {"loss_scale", 65536},
                                            {"format", 2}};
  TrainingState back = someState(), own = otherState();
  back.lossScale = {65536, 3};
  back.overridden = {{2, "eps", "1"}};
  json before = json::parse(back.toText()), kept = json::parse(own.toText());
  back.goOnBehind(own, 96);
  json after = json::parse(back.toText());
  EXPECT_EQ(after.size(), kept.size());
  for (const auto &[key, value] : after.items()) {
    EXPECT_TRUE(key == "format" || before[key] != kept[key]) << key << " shows nothing";
    EXPECT_EQ(value, gone.contains(key) ? gone.at(key) : kept[key]) << key;
  }
}

TEST(TrainingState, OldOnesMayLackKeys) {
  TrainingState state;
  ASSERT_EQ(TrainingState::parse(R"({"step": 5, "optimizer": "sgd"})", state).message, "");
  EXPECT_EQ(state.step, 5);
  EXPECT_EQ(state.updates, 5);
  EXPECT_FALSE(state.data);
}

TEST(TrainingState, WhatIsNoObjectOrLacksAKey) {
  for (const char *text : {"[]", "7", "null", "\"step\""})
    EXPECT_EQ(parseError(text), "it is no JSON object") << text;
  EXPECT_THAT(parseError(""), HasSubstr("it is not valid JSON: "));
  EXPECT_THAT(parseError("{"), HasSubstr("it is not valid JSON: "));
  EXPECT_EQ(parseError(R"({"step": 1, "step": 2})"), "it: key 'step' occurs twice; keep one");
  EXPECT_EQ(parseError(std::string(1000000, '[')), "it nests lists and objects more than 100 deep");
  EXPECT_EQ(parseError("{}"), "it lacks step");
  EXPECT_EQ(parseError(R"({"step": 1})"), "it lacks optimizer");
  json text = json::parse(someState().toText());
  text["data"].erase("tokens");
  EXPECT_EQ(parseError(text.dump()), "it lacks data.tokens");
}

TEST(TrainingState, EveryValueIsChecked) {
  const json wrong[] = {"x", 1.5, -1, 9223372036854775807, 18446744073709551615u, 1e300, nullptr, json::array(), true};
  for (const char *key :
       {"step", "updates", "samples", "global_batch", "sequence", "eod", "data.bytes", "data.tokens", "data.origin"})
    for (const json &value : wrong)
      if (std::string(key) != "eod" || !value.is_null())
        EXPECT_THAT(errorWith(key, value), HasSubstr("expects " + std::string(key) + " to be a whole number from "))
            << value;
  EXPECT_EQ(errorWith("step", 9223372036854775807),
            "expects step to be a whole number from 0 to 1000000000000000, but got 9223372036854775807");
  EXPECT_THAT(errorWith("updates", 8), HasSubstr("expects updates to be a whole number from 0 to 7, but got 8"));
  EXPECT_THAT(errorWith("data.origin", 64), HasSubstr("from 0 to 63, but got 64"));
  EXPECT_THAT(errorWith("format", 3), HasSubstr("expects format to be 1 or 2, but got 3"));
  EXPECT_THAT(errorWith("seed", -1), HasSubstr("expects seed to be"));
  EXPECT_EQ(errorWith("optimizer", "adam"), "expects optimizer to be adamw or sgd, but got \"adam\"");
  EXPECT_EQ(errorWith("optimizer", 3), "expects optimizer to be a text, but got 3");
  EXPECT_EQ(errorWith("shuffle", "yes"), "expects shuffle to be true or false, but got \"yes\"");
  EXPECT_EQ(errorWith("data", 3), "expects data to be null or an object, but got 3");
  EXPECT_EQ(errorWith("data.file", ""), "expects data.file to be a text, but got \"\"");
  EXPECT_EQ(errorWith("settings", 3), "expects settings to be an object of texts, but got 3");
  EXPECT_THAT(errorWith("settings.--lr", 3), HasSubstr("expects settings to be an object of texts, but got {"));
  EXPECT_EQ(errorWith("model", 3), "expects model to be an object, but got 3");
  EXPECT_EQ(errorWith("model.hash", "x"), "expects model.hash to be 16 hexadecimal digits, but got \"x\"");
  EXPECT_EQ(errorWith("data.contents", 3), "expects data.contents to be 16 hexadecimal digits, but got 3");
  EXPECT_EQ(errorWith("precision", 3), "expects precision to be a text, but got 3");
  EXPECT_EQ(errorWith("overridden", 3), "expects overridden to be a list of differences, but got 3");
  EXPECT_EQ(errorWith("overridden", json::array({3})), "expects overridden to be a list of differences, but got [3]");
  json text = json::parse(someState().toText());
  text["samples"] = 100'000'000'000'000;
  text["sequence"] = 1'000'000'000;
  EXPECT_THAT(parseError(text.dump()), HasSubstr("expects samples to be as few as make less than 2^63 tokens"));
  EXPECT_THAT(errorWith("settings", std::string(100, 'x')), HasSubstr("xxx..."));
}

TrainingState indexedState() {
  TrainingState state = someState();
  *state.data = DataOrder();
  state.data->samples = "gpt";
  state.data->sequence = 64;
  state.data->seed = 1234;
  state.data->split = "949,50,1";
  state.data->resets = true;
  state.data->datasets = {{"web", 1000, 10, 500, 0.1, 2, true}, {"books", 2000, 5, 1000, 0.9, 1, false}};
  return state;
}

TEST(TrainingState, IndexedDataAreWrittenAndRead) {
  TrainingState read;
  ASSERT_EQ(TrainingState::parse(indexedState().toText(), read).message, "");
  EXPECT_EQ(read.toText(), indexedState().toText());
  EXPECT_TRUE(findDifferences(*read.data, *indexedState().data).empty());
  // Before there was the key, a token that ends documents kept them apart.
  json text = json::parse(someState().toText());
  text.erase("reset_at_documents");
  ASSERT_EQ(TrainingState::parse(text.dump(), read).message, "");
  EXPECT_TRUE(read.data->resets);
}

TEST(TrainingState, EveryValueOfIndexedDataIsChecked) {
  auto errorOf = [](const std::string &place, const json &value) {
    json text = json::parse(indexedState().toText());
    text[json::json_pointer("/" + place)] = value;
    return parseError(text.dump());
  };
  EXPECT_EQ(errorOf("sample_order", "x"), "expects sample_order to be gpt, row, packed or folder, but got \"x\"");
  json folder = json::parse(someState().toText());
  folder["sample_order"] = "folder";
  TrainingState read;
  ASSERT_EQ(TrainingState::parse(folder.dump(), read).message, "");
  EXPECT_EQ(read.data->samples, "folder");
  EXPECT_EQ(json::parse(read.toText())["sample_order"], "folder");
  EXPECT_THAT(errorOf("data_seed", -1), HasSubstr("expects data_seed to be a whole number from 0 to "));
  EXPECT_EQ(errorOf("data", json::array()), "expects data to be a list of datasets, but got []");
  EXPECT_EQ(errorOf("data/0", 3).substr(0, 37), "expects data to be a list of datasets");
  EXPECT_EQ(errorOf("data/1/weight", 0), "expects data.weight to be a number above 0, but got 0");
  EXPECT_EQ(errorOf("data/1/last_apart", 0), "expects data.last_apart to be true or false, but got 0");
  for (const char *key : {"bytes", "sequences", "tokens", "epochs"})
    EXPECT_THAT(errorOf(std::string("data/1/") + key, -1), HasSubstr("to be a whole number from 1"));
}

} // namespace
