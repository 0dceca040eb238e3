//===- StrangePlansTest.cpp - Plans as strangers write them ---------------===//
//
// Whatever a file holds, it is read as what it says or refused in one sentence: never a crash, never another plan.
//
//===----------------------------------------------------------------------===//

#include "TestInputs.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/TransformerModel.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <gmock/gmock.h>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
PlanTarget target() {
  PlanTarget target;
  target.layers = transformerLayers(2);
  target.supportedOnly = true;
  target.defaultGlobalBatch = 8;
  return target;
}

/// Two layers on four ranks, in two stages.
Json own() {
  Json json = {{"ranks", 4}, {"global_batch", 8}, {"micro_batches", 2}, {"units", Json::array()}};
  for (auto [path, stage] : {std::pair{"embedding", 0}, {"layers.0", 0}, {"layers.1", 1}, {"head", 1}})
    json["units"].push_back({{"path", path}, {"stage", stage}, {"strategy", {{"tp", 2}}}});
  return json;
}

Json reference() {
  return Json{{"pp_deg", 2},
              {"tp_sizes_enc", "2,1"},
              {"tp_consecutive_flags", "1,1"},
              {"dp_types_enc", "0,0"},
              {"use_sp", "0,0"},
              {"checkpoint", "0,1"},
              {"world_size", 4},
              {"global_bsz", 8},
              {"chunks", 2},
              {"pp_division", "1,1"},
              {"pipeline_type", "pipedream_flush"},
              {"default_dp_type", "ddp"},
              {"vtp", 2},
              {"vsp", 0},
              {"vcp", 1},
              {"embed_sdp", 0}};
}

std::string complaint(const std::string &text) {
  Result<Plan> plan = parsePlan(text, target());
  return plan ? "" : plan.error().message;
}

std::string complaint(Json plan, const char *at, const Json &value) {
  plan[Json::json_pointer(at)] = value;
  return complaint(plan.dump());
}

/// What a text that is accepted means.
std::string meaning(const std::string &text) {
  Result<Plan> plan = parsePlan(text, target());
  return plan ? writePlan(*plan) : plan.error().message;
}

const Json kNoIntegers[] = {
    "2",  "",    2.0,       1.5,  -2,   nullptr, true, Json::array(), Json::array({2}), Json::object(),
    1e30, 1e300, INT64_MIN, -0.0, "two"};
const Json kHuge[] = {std::int64_t(1) << 31, (std::int64_t(1) << 32) + 2, INT64_MAX, UINT64_MAX};

TEST(StrangePlans, counts_and_degrees_are_integers_within_bounds) {
  for (auto [at, key, least] : {std::tuple{"/ranks", "ranks", 1},
                                {"/global_batch", "global_batch", 1},
                                {"/micro_batches", "micro_batches", 1},
                                {"/pipeline", "pipeline", 1},
                                {"/virtual_stages", "virtual_stages", 1},
                                {"/version", "version", 1},
                                {"/units/1/stage", "stage", 0},
                                {"/units/1/strategy/dp", "dp", 1},
                                {"/units/1/strategy/tp", "tp", 1},
                                {"/units/1/strategy/cp", "cp", 1},
                                {"/units/1/strategy/ulysses", "ulysses", 1},
                                {"/units/1/strategy/ep", "ep", 1},
                                {"/units/1/strategy/zero", "zero", 0}}) {
    std::string expected = std::string("key '") + key + "' expects ";
    for (const Json &value : kNoIntegers)
      EXPECT_THAT(complaint(own(), at, value), ::testing::HasSubstr(expected + "an integer of at least "))
          << at << " " << value;
    for (const Json &value : kHuge)
      EXPECT_THAT(complaint(own(), at, value), ::testing::HasSubstr(expected)) << at << " " << value;
    if (least)
      EXPECT_THAT(complaint(own(), at, 0), ::testing::HasSubstr(expected + "an integer of at least 1, but got 0"));
  }
  for (const char *key : {"pp_deg", "world_size", "global_bsz", "chunks", "vtp", "vcp"})
    for (const auto &[values, what] :
         {std::pair{std::vector<Json>(std::begin(kNoIntegers), std::end(kNoIntegers)), "an integer of at least 1"},
          {std::vector<Json>(std::begin(kHuge), std::end(kHuge)), "at most "}})
      for (const Json &value : values)
        EXPECT_THAT(complaint(reference(), ("/" + std::string(key)).c_str(), value),
                    ::testing::HasSubstr(std::string("key '") + key + "' expects " + what))
            << value;
}

TEST(StrangePlans, words_lists_and_switches_have_their_types) {
  for (const char *key :
       {"recompute", "sequence_parallel", "cp_zigzag", "keep_gathered", "pad", "strided", "reduce_every_micro_batch"})
    for (const Json &value : {Json(0), Json(1), Json("true"), Json(nullptr), Json::array()})
      EXPECT_THAT(complaint(own(), ("/units/1/strategy/" + std::string(key)).c_str(), value),
                  ::testing::HasSubstr(std::string("'layers.0' strategy key '") + key + "' expects true or false"));
  for (const char *at :
       {"/schedule", "/format", "/units/1/path", "/units/1/role", "/units/1/layer_type", "/units/1/strategy/cp_kind"})
    for (const Json &value : {Json(1), Json(nullptr), Json(true), Json::array({"gpipe"}), Json::object()})
      EXPECT_THAT(complaint(own(), at, value), ::testing::HasSubstr("' expects a string, but got ")) << at;
  for (const Json &value : {Json("x"), Json({1}), Json::array({Json::array({"x"})}), Json::object(), Json(nullptr)})
    EXPECT_THAT(complaint(own(), "/units/1/strategy/recompute_values", value),
                ::testing::HasSubstr("'recompute_values' expects a list of names, but got "));
  for (const Json &value : {Json("2"), Json({2.0}), Json(nullptr), Json({"2"})})
    EXPECT_THAT(complaint(own(), "/mesh", value), ::testing::HasSubstr("key 'mesh' expects a list of integers"));
  for (const Json &value : {Json({4}), Json({2, 2}), Json::array({0}), Json({-2}), Json({(std::int64_t(1) << 32) + 2})})
    EXPECT_THAT(complaint(own(), "/mesh", value), ::testing::HasSubstr("key 'mesh' expects the prime factors"));
  for (const Json &value : {Json(nullptr), Json::object(), Json("x"), Json::array(), Json(3)})
    EXPECT_THAT(complaint(own(), "/units", value), ::testing::HasSubstr("key 'units' expects a list of at least one"));
  for (const Json &value : {Json(nullptr), Json(1), Json::array(), Json("tp=2")}) {
    EXPECT_THAT(complaint(own(), "/units/1", value), ::testing::HasSubstr("plan layer 1 expects an object, but got "));
    EXPECT_THAT(complaint(own(), "/units/1/strategy", value),
                ::testing::HasSubstr("plan layer 'layers.0' strategy expects an object, but got "));
  }
  for (const char *at : {"/comment", "/Units", "/", "/units/1/Path", "/units/1/strategy/TP", "/units/1/strategy/tp "})
    EXPECT_THAT(complaint(own(), at, 1), ::testing::HasSubstr("has an unknown key '")) << at;
}

TEST(StrangePlans, layers_are_each_there_once) {
  Json twice = own();
  twice["units"].push_back(twice["units"][1]);
  EXPECT_EQ(complaint(twice.dump()), "plan lists the layer 'layers.0' twice; keep one");
  for (int gone = 0; gone < 4; ++gone) {
    Json lacks = own();
    lacks["units"].erase(gone);
    EXPECT_THAT(complaint(lacks.dump()), ::testing::HasSubstr("plan lacks a layer '"));
  }
  for (const char *path :
       {"", "layers", "layers.", "layers.2", "layers.-1", "layers.99999999999999999999", "lay\ners.0"})
    EXPECT_THAT(complaint(own(), "/units/1/path", path), ::testing::HasSubstr("plan names a layer '")) << path;
  Json pathless = own();
  pathless["units"][1].erase("path");
  EXPECT_EQ(complaint(pathless.dump()), "plan layer 1 lacks the key 'path'");
}

TEST(StrangePlans, layers_stand_in_any_order) {
  std::string expected = meaning(own().dump());
  Json order = own();
  std::vector<int> places = {0, 1, 2, 3};
  do {
    for (int i = 0; i < 4; ++i)
      order["units"][i] = own()["units"][places[i]];
    EXPECT_EQ(meaning(order.dump()), expected);
  } while (std::next_permutation(places.begin(), places.end()));
}

TEST(StrangePlans, stages_rise_one_by_one) {
  auto complaintOf = [](std::array<int, 4> stages, int pipeline = 0) {
    Json plan = own();
    for (int i = 0; i < 4; ++i)
      plan["units"][i]["stage"] = stages[i];
    if (pipeline)
      plan["pipeline"] = pipeline;
    return complaint(plan.dump());
  };
  EXPECT_EQ(complaintOf({0, 0, 1, 1}), "");
  EXPECT_THAT(complaintOf({0, 0, 2, 2}), ::testing::HasSubstr("up to the last, 2, but stage 1 is empty; number the"));
  EXPECT_THAT(complaintOf({0, 0, 2, 3}), ::testing::HasSubstr("up to the last, 3, but stage 1 is empty"));
  EXPECT_THAT(complaintOf({1, 1, 1, 1}),
              ::testing::HasSubstr("'embedding' (stage 1) expects stages to rise one by one"));
  EXPECT_THAT(complaintOf({0, 0, 0, 1 << 24}), ::testing::HasSubstr("up to the last, 16777216, but stage 1 is empty"));
  EXPECT_THAT(complaintOf({0, 1, 0, 1}),
              ::testing::HasSubstr("'layers.1' (stage 0) expects stages to rise one by one"));
  EXPECT_THAT(complaintOf({1, 1, 0, 0}),
              ::testing::HasSubstr("'embedding' (stage 1) expects stages to rise one by one"));
  EXPECT_THAT(complaintOf({0, 0, 0, 0}, 2), ::testing::HasSubstr("expects layers on each of its 2 stages"));
  EXPECT_THAT(complaintOf({0, 0, 1, 1}, 1), ::testing::HasSubstr("'layers.1' (stage 1) key 'stage' expects 0 to 0"));
}

TEST(StrangePlans, keys_that_mean_nothing_are_refused) {
  EXPECT_THAT(complaint(own(), "/units/1/strategy", {{"strided", true}}),
              ::testing::HasSubstr("plan layer 'layers.0' (stage 0) key 'strided' expects tp above 1, whose ranks it "
                                   "moves apart, but got tp 1; remove it"));
  EXPECT_EQ(complaint(own(), "/units/1/strategy", {{"tp", 2}, {"strided", true}}), "");
  EXPECT_THAT(complaint(own(), "/units/1/strategy/zero", 1), ::testing::HasSubstr("key 'zero' expects 0 where"));
  PlannedLayer layer;
  layer.path = "layers.0";
  layer.recomputeValues = {"up", "gate", "up"};
  Result<std::uint32_t> bits = getValueBits(layer, {"gate", "up"});
  ASSERT_FALSE(bits);
  EXPECT_EQ(bits.error().message, "layer 'layers.0' key 'recompute_values' names 'up' twice; keep one");
}

TEST(StrangePlans, reference_lists_have_an_entry_for_each_layer) {
  for (const char *key : {"tp_sizes_enc", "tp_consecutive_flags", "dp_types_enc", "use_sp", "checkpoint",
                          "cp_sizes_enc", "ep_sizes_enc", "tp_of_ep_sizes_enc", "pp_division"}) {
    std::string at = "/" + std::string(key), expected = std::string("key '") + key + "' expects ";
    for (const Json &value : {Json(1), Json(nullptr), Json({1, 1}), Json(1.5), Json::object(), Json(true)})
      EXPECT_THAT(complaint(reference(), at.c_str(), value),
                  ::testing::HasSubstr(expected + "a string of comma-separated integers, but got "));
    for (const char *value :
         {"", "x", "1,,1", "1,1,", ",1", "1;1", "1.0,1.0", "0x1,1", "1 1,1", "+1,1", "99999999999999999999,1"})
      EXPECT_THAT(complaint(reference(), at.c_str(), value),
                  ::testing::HasSubstr(expected + "comma-separated integers, but entry "))
          << value;
    for (const char *value : {"1", "1,1,1", "-1,1", "16777217,1", "1,-2147483648"})
      EXPECT_THAT(complaint(reference(), at.c_str(), value), ::testing::HasSubstr(expected)) << value;
    EXPECT_EQ(complaint(reference(), at.c_str(), std::string(key) == "pp_division" ? " 1 , 1" : "1,1"), "") << key;
  }
  for (const char *key : {"vsp", "embed_sdp", "vocab_sdp", "async_grad_reduce"})
    for (const Json &value : {Json(2), Json(-1), Json("1"), Json(nullptr), Json(0.5), Json::array()})
      EXPECT_THAT(complaint(reference(), ("/" + std::string(key)).c_str(), value),
                  ::testing::HasSubstr(std::string("key '") + key + "' expects 0 or 1, but got "));
  for (const char *key : {"pipeline_type", "default_dp_type"})
    for (const Json &value : {Json(2), Json("x"), Json(nullptr), Json("")})
      EXPECT_THAT(complaint(reference(), ("/" + std::string(key)).c_str(), value),
                  ::testing::HasSubstr(std::string("key '") + key + "' expects "));
  EXPECT_THAT(complaint(reference(), "/units", Json::array()), ::testing::HasSubstr("has an unknown key 'units'"));
  EXPECT_THAT(complaint(reference(), "/vcp", 3), ::testing::HasSubstr("key 'vcp' expects degrees that divide"));
  EXPECT_THAT(complaint(reference(), "/vtp", 3), ::testing::HasSubstr("key 'vtp' expects degrees that divide"));
  EXPECT_THAT(complaint(reference(), "/cp_sizes_enc", "3,1"),
              ::testing::HasSubstr("key 'cp_sizes_enc' expects degrees"));
}

TEST(StrangePlans, texts_that_are_no_json) {
  std::string text = own().dump();
  auto with = [&](std::string from, const std::string &to) {
    std::string changed = text;
    return changed.replace(changed.find(from), from.size(), to);
  };
  for (const std::string &wrong :
       {std::string(), std::string(" \n"), "// a plan\n" + text, "/* */" + text, text + text, text + "}",
        with("\"ranks\":4", "\"ranks\":4,"), with("\"ranks\":4", "\"ranks\":NaN"), with("\"ranks\":4", "\"ranks\":04"),
        with("\"ranks\":4", "\"ranks\":0x4"), with("\"ranks\":4", "\"ranks\":1e999"), with("\"ranks\"", "'ranks'"),
        with("head", "h\xe4 d"), with("head", "he\nad"), std::string("\xff\xfe{\0", 4), text + '\0', '\0' + text})
    EXPECT_THAT(complaint(wrong), ::testing::StartsWith("plan is not valid JSON: ")) << wrong;
  EXPECT_THAT(complaint(text + '\0'), ::testing::HasSubstr("it has a zero byte, which no text has; is it UTF-8?"));
  for (const char *other : {"null", "[]", "7", "\"units\"", "{}", "{\"Units\": []}"})
    EXPECT_THAT(complaint(other), ::testing::HasSubstr("with 'units' (this project's format) or 'pp_deg'")) << other;
  EXPECT_EQ(complaint(with("\"ranks\":4", "\"ranks\":4,\"ranks\":2")), "plan: key 'ranks' occurs twice; keep one");
  EXPECT_EQ(complaint(with("\"tp\":2", "\"tp\":2,\"tp\":1")), "plan: key 'tp' occurs twice; keep one");
  std::string deep(200000, '['), back(200000, ']');
  for (const std::string &nested : {deep, deep + back, "{\"units\":" + deep + back + "}"}) {
    EXPECT_EQ(complaint(nested), "plan nests lists and objects more than 100 deep");
    EXPECT_TRUE(readLayerNames(nested).empty());
  }
  // Brackets in a text are none.
  EXPECT_THAT(complaint(own(), "/units/1/path", "\"\\" + std::string(200, '[')),
              ::testing::HasSubstr("that the model does not have"));
}

TEST(StrangePlans, marks_and_line_ends_are_nothing) {
  std::string expected = meaning(own().dump()), lines = own().dump(2);
  EXPECT_THAT(expected, ::testing::HasSubstr("\"units\""));
  EXPECT_EQ(meaning("\xef\xbb\xbf" + own().dump()), expected);
  for (std::size_t at = 0; (at = lines.find('\n', at)) != std::string::npos; at += 2)
    lines.replace(at, 1, "\r\n");
  EXPECT_EQ(meaning(lines), expected);
}
} // namespace
