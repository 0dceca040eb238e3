//===- PlanTest.cpp - What is said of a wrong plan ------------------------===//

#include "galvatron/Search/Model/Plan.h"
#include "TestInputs.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Model/TransformerModel.h"

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
/// Two layers on four ranks, in two stages.
Json plan() {
  Json json = {{"ranks", 4}, {"pipeline", 2}, {"global_batch", 8}, {"micro_batches", 2}, {"units", Json::array()}};
  for (auto [path, role, stage] : {std::tuple{"embedding", "embedding", 0},
                                   {"layers.0", "layer", 0},
                                   {"layers.1", "layer", 1},
                                   {"head", "head", 1}})
    json["units"].push_back({{"path", path}, {"role", role}, {"stage", stage}, {"strategy", {{"tp", 2}}}});
  return json;
}

PlanTarget target() {
  PlanTarget target;
  target.layers = transformerLayers(2);
  target.ranks = 4;
  target.globalBatch = 8;
  return target;
}

TEST(SearchSpace, of_what_the_lowering_runs_holds_all_but_experts) {
  SearchSpace space = SearchSpace::supported();
  EXPECT_TRUE(space.data && space.tensor && space.plainTensor && space.sequenceParallel && space.ulysses &&
              space.context && space.recompute && space.recomputeValues && space.keepGathered && space.strided);
  EXPECT_EQ(space.zeroLevels, 0b1111u);
  EXPECT_FALSE(space.expert);
  for (const galvatron::plan::Dimension &row : galvatron::plan::kDimensions)
    EXPECT_EQ(row.remedy.empty(), row.key != "ep") << row.key;
}

/// Names the key, what is allowed and what stands there.
TEST(Plan, says_which_key_is_wrong) {
  ASSERT_TRUE(parsePlan(plan().dump(), target())) << parsePlan(plan().dump(), target()).error().message;
  Json roles = plan();
  for (Json &layer : roles["units"])
    layer.erase("role"); // need not be said
  EXPECT_TRUE(parsePlan(roles.dump(), target()));
  for (
      auto [at, value, complaint] : {
          std::tuple{"/ranks", Json(8), "key 'ranks' expects the cluster's 4 ranks, but got 8"},
          {"/ranks", Json(0), "key 'ranks' expects an integer of at least 1, but got 0"},
          {"/ranks", Json(1000000000000), "key 'ranks' expects at most 16777216, but got 1000000000000"},
          {"/ranks", Json(std::uint64_t(1) << 63), "key 'ranks' expects at most 16777216, but got 9223372036854775808"},
          {"/ranks", Json("4"), "key 'ranks' expects an integer of at least 1, but got the string \"4\""},
          {"/global_batch", Json(9), "key 'global_batch' expects the global batch 8 that was asked for, but got 9"},
          {"/micro_batches", Json(3), "micro-batches that divides the global batch of 8, but got 3"},
          {"/format", Json("x"), "key 'format' expects 'galvatron-plan', but got 'x'"},
          {"/version", Json(2), "key 'version' expects 1, but got 2"},
          {"/schedule", Json("2f2b"), "key 'schedule' expects gpipe, 1f1b, interleaved, zb-h1 or zb-v, but got '2f2b'"},
          {"/pipeline", Json(3),
           "plan expects a pipeline degree that divides its 4 ranks, but got 3; give its units 2 or 4 stages, or take "
           "other ranks"},
          {"/virtual_stages", Json(2),
           "plan key 'virtual_stages' expects 1, the only part of a stage, under schedule 1f1b, but got 2; remove it, "
           "or use schedule interleaved"},
          {"/units/1/layer_type", Json("head"),
           "plan layer 'layers.0' expects layer_type 'layer', but got 'head'; was the plan made for another model?"},
          {"/schedule", Json("zb-v"),
           "plan expects layers on each of its 4 parts (pipeline x virtual_stages), but the last layer 'head' is on "
           "part "
           "2; go on up to stage 0, or use schedule 1f1b"},
          {"/units/1/chunk", Json(1),
           "'layers.0' (stage 0) key 'chunk' expects 0, as many times as schedule 1f1b has come by its stage before, "
           "but got 1; correct it, or leave it out"},
          {"/units/1/strategy/split_backward", Json(true),
           "'layers.0' (stage 0) key 'split_backward' expects schedule zb-h1 or zb-v, which give weights a backward "
           "of their own, but got schedule 1f1b with split_backward true; remove it, or use one of them"},
          {"/units/1/strategy/split_backward", Json(false), "but got schedule 1f1b with split_backward false; remove"},
          {"/units/1/strategy/split_backward", Json("no"),
           "'split_backward' expects true or false, but got the string"},
          {"/units", Json::array(), "key 'units' expects a list of at least one layer"},
          {"/units/1", Json(1), "plan layer 1 expects an object, but got 1"},
          {"/units/1/path", Json(1), "key 'path' expects a string, but got 1"},
          {"/units/2/path", Json("layers.0"), "plan lists the layer 'layers.0' twice; keep one"},
          {"/units/1/strategy/recompute", Json("yes"), "key 'recompute' expects true or false, but got the string"},
          {"/units/1/strategy/recompute_values", Json("y"), "'recompute_values' expects a list of names, but got the"},
          {"/units/1/strategy", Json({{"tp", 2}, {"recompute", true}, {"recompute_values", {"y"}}}),
           "has both 'recompute' and 'recompute_values'; give one"},
          {"/units/1/strategy", Json({{"sequence_parallel", true}}),
           "key 'sequence_parallel' expects tp above 1, but got tp 1"},
          {"/units/1/strategy", Json({{"tp", 2}, {"reduce_every_micro_batch", true}}),
           "'layers.0' (stage 0) key 'reduce_every_micro_batch' expects gradients that ranks have parts of, but dp x "
           "ulysses x cp is 1; remove it"},
          {"/units/1/strategy/reduce_every_micro_batch", Json(1),
           "key 'reduce_every_micro_batch' expects true or false, but got 1"},
          {"/units/1/strategy", Json({{"tp", 2}, {"keep_gathered", true}}),
           "key 'keep_gathered' expects a strategy that gathers, with sequence_parallel, ulysses or cp; remove it"},
          {"/units/1/strategy", Json({{"cp", 2}, {"cp_kind", "ring"}, {"keep_gathered", true}}),
           "key 'keep_gathered' expects values that are gathered, with sequence_parallel, but 'cp_kind' is ring, whose "
           "keys are not; remove one of them"},
          {"/units/1/strategy", Json({{"cp_zigzag", true}}),
           "key 'cp_zigzag' expects cp above 1, but got cp 1; remove it"},
          {"/units/1/strategy", Json({{"cp", 2}, {"cp_kind", "spiral"}}),
           "key 'cp_kind' expects one of gathered ring, but got 'spiral'"},
          {"/units/1/strategy", Json({{"tp", 2}, {"ep", 2}}), "key 'ep' expects a divisor of dp 1, but got 2"},
          {"/peak_bytes_per_rank", Json({1, 2}),
           "expects a list with one entry for each of 4 ranks, but got a list of 2"},
          {"/peak_bytes_per_rank", Json({1, 2, 3, -4}), "expects integers of at least 0, but got -4"},
          {"/predicted_step_seconds", Json(-1), "key 'predicted_step_seconds' expects at least 0, but got -1"},
          {"/units/1/role", Json("Layer"),
           "layer 1 key 'role' expects embedding, layer or head, but got the string \"Layer\""},
          {"/units/1/role", Json("head"),
           "layer 1 key 'role' expects layer, which the model's 'layers.0' is, but got the string \"head\""},
          {"/units/0/role", Json("layer"), "layer 0 key 'role' expects embedding, which the model's 'embedding' is"},
          {"/units/3/stage", Json(2), "'head' (stage 2) key 'stage' expects 0 to 1 (pipeline 2), but got 2"},
          {"/units/1/strategy/tp", Json(1 << 30), "strategy key 'tp' expects at most 16777216, but got 1073741824"},
      }) {
    Json wrong = plan();
    wrong[Json::json_pointer(at)] = value;
    Result<Plan> read = parsePlan(wrong.dump(), target());
    ASSERT_FALSE(read) << at;
    EXPECT_NE(read.error().message.find(complaint), std::string::npos) << read.error().message;
  }
}

/// A plan of zb-v whose layers are on these stages.
Json veePlan(std::vector<int> stages) {
  Json json = plan();
  json["schedule"] = "zb-v";
  json["units"].clear();
  for (std::size_t i = 0; i < stages.size(); ++i) {
    std::string path = i == 0 ? "embedding" : i + 1 == stages.size() ? "head" : "layers." + std::to_string(i - 1);
    json["units"].push_back({{"path", path}, {"stage", stages[i]}, {"strategy", {{"tp", 2}}}});
  }
  return json;
}

Result<Plan> parseVee(const Json &json) {
  PlanTarget model = target();
  model.layers = transformerLayers(std::int64_t(json["units"].size()) - 2);
  return parsePlan(json.dump(), model);
}

/// Down and up again. Of n layers on the last stage the first ⌈n/2⌉ are of its first part, if they do not say.
TEST(Plan, of_zb_v_says_the_parts_of_the_last_stage_or_halves_it) {
  Json json = veePlan({0, 0, 1, 1, 1, 0});
  Result<Plan> read = parseVee(json);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->virtualStages, 2); // left out
  EXPECT_EQ(read->partOfLayers(), (std::vector<int>{0, 0, 1, 1, 2, 3}));
  json["units"][3]["chunk"] = 1;
  json["units"][5]["chunk"] = 1;
  json["virtual_stages"] = 2;
  read = parseVee(json);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->partOfLayers(), (std::vector<int>{0, 0, 1, 2, 2, 3}));
  Json written = Json::parse(writePlan(*read));
  EXPECT_EQ(written["schedule"], "zb-v");
  EXPECT_EQ(written["virtual_stages"], 2);
  std::vector<int> chunks;
  for (const Json &unit : written["units"])
    chunks.push_back(unit["chunk"]);
  EXPECT_EQ(chunks, (std::vector<int>{0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(parseVee(written)->partOfLayers(), read->partOfLayers());
}

TEST(Plan, of_zb_v_says_which_part_is_wrong) {
  auto complaint = [](const Json &json) {
    Result<Plan> read = parseVee(json);
    return read ? std::string("none") : read.error().message;
  };
  auto withChunk = [](int layer, int chunk) {
    Json json = veePlan({0, 0, 1, 1, 1, 0});
    json["units"][layer]["chunk"] = chunk;
    return json;
  };
  EXPECT_EQ(complaint(veePlan({0, 1, 0, 1, 0})),
            "plan layer 'layers.2' (stage 1) expects stages to rise one by one from 0 to the last and back to 0 in "
            "execution order, but the layer before is on stage 0; give neighbouring layers the same or the next stage");
  EXPECT_EQ(complaint(veePlan({0, 1, 0, 0})),
            "plan expects layers on both parts of its last stage 1 under schedule zb-v, but chunk 1 has none; move "
            "layers there, or use schedule 1f1b");
  EXPECT_NE(complaint(withChunk(4, 0)).find("but chunk 1 has none"), std::string::npos) << complaint(withChunk(4, 0));
  EXPECT_EQ(complaint(withChunk(5, 0)), "plan layer 'head' (stage 0) key 'chunk' expects 1, as many times as schedule "
                                        "zb-v has come by its stage before, but got 0; correct it, or leave it out");
  Json falls = withChunk(3, 1);
  falls["units"][4]["chunk"] = 0;
  EXPECT_NE(complaint(falls).find("'layers.3' (stage 1) key 'chunk' expects 1"), std::string::npos) << complaint(falls);
  Json three = veePlan({0, 0, 1, 1, 1, 0});
  three["virtual_stages"] = 3;
  EXPECT_NE(complaint(three).find("key 'virtual_stages' expects 2 parts a stage"), std::string::npos);
  EXPECT_NE(complaint(veePlan({0, 1, 0})).find("expects a unit for each of the 4 parts"), std::string::npos);
}

/// Each chunk of an interleaved plan in turn, and the split that no schedule but zb-... has.
TEST(Plan, of_interleaved_says_which_chunk_is_wrong) {
  Json interleaved = plan();
  interleaved["schedule"] = "interleaved";
  interleaved["virtual_stages"] = 2;
  interleaved["micro_batches"] = 4;
  for (int unit = 0; unit < 4; ++unit)
    interleaved["units"][unit]["stage"] = unit % 2;
  ASSERT_TRUE(parsePlan(interleaved.dump(), target())) << parsePlan(interleaved.dump(), target()).error().message;
  for (int unit = 0; unit < 4; ++unit) {
    Json wrong = interleaved;
    wrong["units"][unit]["chunk"] = 1 - unit / 2;
    Result<Plan> read = parsePlan(wrong.dump(), target());
    ASSERT_FALSE(read) << unit;
    EXPECT_NE(read.error().message.find("(stage " + std::to_string(unit % 2) + ") key 'chunk' expects " +
                                        std::to_string(unit / 2) + ", as many times as schedule interleaved has come"),
              std::string::npos)
        << read.error().message;
  }
  Json split = interleaved;
  split["units"][1]["strategy"]["split_backward"] = true;
  Result<Plan> read = parsePlan(split.dump(), target());
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message.find("but got schedule interleaved with split_backward true; remove it"),
            std::string::npos)
      << read.error().message;
}

/// Of tensor groups alone: what a flag says of one rank, or of Ulysses, is nothing.
TEST(Plan, the_reference_s_flags_say_which_groups_are_strided) {
  Json json = {{"pp_deg", 1},     {"tp_sizes_enc", "2,2"}, {"use_sp", "0,1"}, {"tp_consecutive_flags", "0,0"},
               {"world_size", 4}, {"global_bsz", 8}};
  Result<Plan> read = parsePlan(json.dump(), target());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(read->layers[1].strategy.strided);
  EXPECT_FALSE(read->layers[2].strategy.strided);
  EXPECT_EQ(read->layers[2].strategy.ulysses, 2);
  EXPECT_EQ(Json::parse(*writeReferencePlan(*read))["tp_consecutive_flags"], "0,1");
}

/// Left out, once a step, after each micro-batch: written as it was read.
TEST(Plan, says_when_gradients_are_reduced) {
  Json json = plan();
  for (auto [value, expected] : {std::pair{Json(), 0}, {Json(false), 1}, {Json(true), 2}}) {
    json["units"][1]["strategy"] = {{"dp", 2}};
    if (!value.is_null())
      json["units"][1]["strategy"]["reduce_every_micro_batch"] = value;
    Result<Plan> read = parsePlan(json.dump(), target());
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->layers[1].strategy.reduceEveryMicroBatch, expected);
    Json written = Json::parse(writePlan(*read))["units"][1]["strategy"];
    EXPECT_EQ(written.contains("reduce_every_micro_batch"), expected > 0);
    EXPECT_EQ(written.value("reduce_every_micro_batch", Json()), value);
  }
}

/// The reference's key says the opposite, of all layers whose gradients ranks have parts of.
TEST(Plan, the_reference_s_asynchronous_reduction_is_once_a_step) {
  for (auto [value, expected] : {std::pair{Json(), 0}, {Json(true), 1}, {Json(false), 2}}) {
    Json json = {{"pp_deg", 1}, {"tp_sizes_enc", "1,4"}, {"world_size", 4}, {"global_bsz", 8}};
    if (!value.is_null())
      json["async_grad_reduce"] = value;
    Result<Plan> read = parsePlan(json.dump(), target());
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->layers[1].strategy.reduceEveryMicroBatch, expected);
    EXPECT_EQ(read->layers[2].strategy.reduceEveryMicroBatch, 0); // tp 4 of 4
    EXPECT_EQ(Json::parse(*writeReferencePlan(*read)).value("async_grad_reduce", Json()), value);
  }
}

/// Both formats: a batch that the file does not say is the default one, but no default goes before what it says.
TEST(Plan, what_a_file_does_not_say_is_implied_or_named) {
  Json own = plan(), reference = {{"pp_deg", 2}, {"tp_sizes_enc", "2,2"}, {"world_size", 4}, {"global_bsz", 8}};
  for (auto [json, ranks, batch] :
       {std::tuple{own, "ranks", "global_batch"}, {reference, "world_size", "global_bsz"}}) {
    PlanTarget free = target();
    free.ranks = free.globalBatch = 0;
    free.defaultGlobalBatch = 16;
    EXPECT_EQ(parsePlan(json.dump(), free)->globalBatch, 8);
    json.erase(batch);
    EXPECT_EQ(parsePlan(json.dump(), free)->globalBatch, 16);
    free.defaultGlobalBatch = 0;
    EXPECT_EQ(parsePlan(json.dump(), free).error().missingKey, batch);
    EXPECT_EQ(parsePlan(json.dump(), target())->globalBatch, 8);
    json.erase(ranks);
    EXPECT_EQ(parsePlan(json.dump(), free).error().missingKey, ranks);
    json[ranks] = "four";
    EXPECT_EQ(parsePlan(json.dump(), free).error().missingKey, "");
  }
}

TEST(Plan, says_which_key_of_the_reference_is_wrong) {
  Json json = {{"pp_deg", 2}, {"tp_sizes_enc", "2,2"}, {"world_size", 4}, {"global_bsz", 8}, {"chunks", 2}};
  ASSERT_TRUE(parsePlan(json.dump(), target())) << parsePlan(json.dump(), target()).error().message;
  for (auto [key, value, complaint] : {
           std::tuple{"world_size", Json(8), "key 'world_size' expects the cluster's 4 ranks, but got 8"},
           {"global_bsz", Json(9), "key 'global_bsz' expects the global batch 8 that was asked for, but got 9"},
           {"chunks", Json(1 << 30), "key 'chunks' expects at most 65536, but got 1073741824"},
           {"pp_deg", Json(3), "plan key 'pp_deg' expects a divisor of the 4 ranks, but got 3"},
           {"tp_sizes_enc", Json(2), "key 'tp_sizes_enc' expects a string of comma-separated integers, but got 2"},
           {"tp_sizes_enc", Json("2,x"), "expects comma-separated integers, but entry 1 is 'x'"},
           {"use_sp", Json("0,2"), "key 'use_sp' expects values from 0 to 1, but layer 1 has 2"},
           {"tp_of_ep_sizes_enc", Json("3,1"),
            "key 'tp_of_ep_sizes_enc' expects 1 or the layer's tp 2, but layer 0 has 3"},
           {"vsp", Json(2), "key 'vsp' expects 0 or 1, but got 2"},
           {"embed_sdp", Json("1"), "key 'embed_sdp' expects 0 or 1, but got the string \"1\""},
       }) {
    Json wrong = json;
    wrong[key] = value;
    Result<Plan> read = parsePlan(wrong.dump(), target());
    ASSERT_FALSE(read) << key;
    EXPECT_NE(read.error().message.find(complaint), std::string::npos) << read.error().message;
  }
}

TEST(Plan, says_which_format_it_expects) {
  EXPECT_EQ(parsePlan("{}", target()).error().message,
            "plan expects an object with 'units' (this project's format) or 'pp_deg' (Hetu-Galvatron's), but has "
            "neither");
  EXPECT_EQ(parsePlan(R"({"pp_deg": 2})", target()).error().message, "plan lacks the key 'tp_sizes_enc'");
}

/// Of a plan that a program made.
TEST(Plan, is_valid_however_it_came_about) {
  auto complaint = [](auto change) {
    Plan wrong = *parsePlan(plan().dump(), target());
    change(wrong);
    Result<bool> valid = validatePlan(wrong);
    return valid ? "" : valid.error().message;
  };
  EXPECT_EQ(complaint([](Plan &) {}), "");
  EXPECT_EQ(complaint([](Plan &wrong) { wrong.layers[1].strategy.tp = 0; }),
            "plan layer 'layers.0' (stage 0) key 'tp' expects a degree of at least 1, but got 0");
  EXPECT_EQ(complaint([](Plan &wrong) { wrong.virtualStages = 0; }),
            "plan key 'virtual_stages' expects at least 1, but got 0");
  EXPECT_EQ(complaint([](Plan &wrong) { wrong.layers[2].path = wrong.layers[1].path; }),
            "plan lists the layer 'layers.0' twice; keep one");
  EXPECT_EQ(
      complaint([](Plan &wrong) {
        wrong.schedule = Schedule::Interleaved;
        wrong.virtualStages = 2;
      }),
      "plan expects layers on each of its 4 parts (pipeline x virtual_stages), but the last layer 'head' is on part 1; "
      "lower 'virtual_stages' or spread the layers");
}

/// Halves of a layer go by its path or its number, and together.
TEST(Plan, lists_halves_of_layers) {
  PlanTarget halves = target();
  halves.layers[1].path = "h.0.attn", halves.layers[2].path = "h.0.mlp";
  halves.layers[1].block = halves.layers[2].block = "h.0";
  auto read = [&](const std::string &first, const std::string &second, int stage = 0) -> std::string {
    Json json = plan();
    json["units"][1]["path"] = first, json["units"][2]["path"] = second;
    json["units"][1]["stage"] = 0, json["units"][2]["stage"] = stage;
    Result<Plan> read = parsePlan(json.dump(), halves);
    return read ? read->layers[1].path + " " + read->layers[2].path + " of " + read->layers[2].block
                : read.error().message;
  };
  EXPECT_EQ(read("h.0.attn", "h.0.mlp"), "h.0.attn h.0.mlp of h.0");
  EXPECT_EQ(read("layers.0.mlp", "layers.0.attn"), "h.0.attn h.0.mlp of h.0");
  EXPECT_NE(read("layers.1.mlp", "layers.0.attn").find("the model has 1 layers of role 'layer', layers.0 to layers.0"),
            std::string::npos);
  EXPECT_EQ(read("h.0.attn", "h.0.mlp", 1),
            "plan layer 'h.0.mlp' (stage 1) key 'stage' expects 0, where the other half of 'h.0' is, but got 1; put "
            "both on one stage");
  for (std::string whole : {"h.0", "layers.0"})
    EXPECT_EQ(read(whole, "h.0.mlp"), "plan lists the layer '" + whole +
                                          "', which this program has as its halves 'h.0.attn' and 'h.0.mlp'; list "
                                          "these, or start from the model as it was imported");
}

/// A submodule of a layer that the target has as a whole.
TEST(Plan, names_parts_of_layers) {
  std::vector<Layer> layers = target().layers;
  layers[1].path = "h.0";
  for (std::string name : {"h.0.mlp.up", "layers.0.mlp.up"}) {
    std::optional<LayerPart> part = findPart(name, layers);
    ASSERT_TRUE(part) << name;
    EXPECT_EQ(part->layer, &layers[1]);
    EXPECT_EQ(part->name, "mlp.up");
  }
  for (std::string name : {"h.0", "h.01", "layers.0", "layers.0.", "layers.9.mlp", "layers.x.mlp", "head", "h"})
    EXPECT_FALSE(findPart(name, layers)) << name;
  EXPECT_EQ(readLayerNames(R"({"units": [{"path": "a"}, 3, {"path": 4}, {"path": "b"}]})"),
            (std::vector<std::string>{"a", "b"}));
  for (const char *text : {"", "[]", "{", R"({"units": 3})", R"({"pp_deg": 1})"})
    EXPECT_TRUE(readLayerNames(text).empty()) << text;
}

/// What the reference's format cannot say.
TEST(Plan, is_not_written_as_another) {
  auto complaint = [](auto change) {
    Plan given = *parsePlan(plan().dump(), target());
    change(given);
    Result<std::string> text = writeReferencePlan(given);
    return text ? "" : text.error().message;
  };
  EXPECT_EQ(complaint([](Plan &) {}), "");
  EXPECT_EQ(complaint([](Plan &given) { given.schedule = Schedule::ZeroBubble; }),
            "the reference's format has no schedule 'zb-h1'; write this project's format");
  EXPECT_EQ(
      complaint([](Plan &given) { given.layers[1].strategy.ulysses = 2; }),
      "the reference's format has tp or ulysses in a layer, but 'layers.0' has both; write this project's format");
  EXPECT_EQ(complaint([](Plan &given) {
              for (PlannedLayer &layer : given.layers)
                layer.strategy.tp = 1, layer.dp = 2;
              given.layers[2].strategy.reduceEveryMicroBatch = 2;
            }),
            "the reference's format has one async_grad_reduce for all layers, but 'layers.1' has another "
            "reduce_every_micro_batch than the layers before; write this project's format");
  EXPECT_EQ(complaint([](Plan &given) { given.layers[1].strategy.keepGathered = true; }),
            "the reference's format has no word for keep_gathered, which 'layers.0' has; write this project's format");
  EXPECT_EQ(complaint([](Plan &given) { given.layers[3].stage = 0; }),
            "the reference's format puts 'head' on stage 1, but the plan on 0; write this project's format");
  EXPECT_EQ(complaint([](Plan &given) { given.layers[1].block = "layers"; }),
            "the reference's format has one strategy for a layer, but the plan has one for 'layers.0', half of "
            "'layers'; write this project's format");
  EXPECT_NE(complaint([](Plan &given) {
              given.layers[3].strategy.cp = 2;
            }).find("the reference's format has one strategy for embedding and head, but 'embedding' has "),
            std::string::npos);
}
} // namespace
