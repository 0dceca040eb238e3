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
  target.units = transformerUnits(2);
  target.ranks = 4;
  target.globalBatch = 8;
  return target;
}

/// Names the key, what is allowed and what stands there.
TEST(Plan, says_which_key_is_wrong) {
  ASSERT_TRUE(parsePlan(plan().dump(), target())) << parsePlan(plan().dump(), target()).error().message;
  Json roles = plan();
  for (Json &unit : roles["units"])
    unit.erase("role"); // need not be said
  EXPECT_TRUE(parsePlan(roles.dump(), target()));
  for (auto [at, value, complaint] : {
           std::tuple{"/ranks", Json(8), "key 'ranks' expects the cluster's 4 ranks, but got 8"},
           {"/ranks", Json(0), "key 'ranks' expects an integer of at least 1, but got 0"},
           {"/ranks", Json(1000000000000), "key 'ranks' expects at most 16777216, but got 1000000000000"},
           {"/ranks", Json(std::uint64_t(1) << 63),
            "key 'ranks' expects at most 16777216, but got 9223372036854775808"},
           {"/ranks", Json("4"), "key 'ranks' expects an integer of at least 1, but got the string \"4\""},
           {"/global_batch", Json(9), "key 'global_batch' expects the global batch 8 that was asked for, but got 9"},
           {"/micro_batches", Json(3), "micro-batches that divides the global batch of 8, but got 3"},
           {"/peak_bytes_per_rank", Json({1, 2}), "one entry for each of 4 ranks, but got a list of 2"},
           {"/peak_bytes_per_rank", Json({1, 2, 3, -4}), "expects integers of at least 0, but got -4"},
           {"/predicted_step_seconds", Json(-1), "key 'predicted_step_seconds' expects at least 0, but got -1"},
           {"/units/1/role", Json("Layer"),
            "unit 1 key 'role' expects embedding, layer or head, but got the string \"Layer\""},
           {"/units/1/role", Json("head"),
            "unit 1 key 'role' expects layer, which the model's 'layers.0' is, but got the string \"head\""},
           {"/units/0/role", Json("layer"), "unit 0 key 'role' expects embedding, which the model's 'embedding' is"},
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

TEST(Plan, says_which_key_of_the_reference_is_wrong) {
  Json json = {{"pp_deg", 2}, {"tp_sizes_enc", "2,2"}, {"world_size", 4}, {"global_bsz", 8}, {"chunks", 2}};
  ASSERT_TRUE(parsePlan(json.dump(), target())) << parsePlan(json.dump(), target()).error().message;
  for (auto [key, value, complaint] : {
           std::tuple{"world_size", Json(8), "key 'world_size' expects the cluster's 4 ranks, but got 8"},
           {"global_bsz", Json(9), "key 'global_bsz' expects the global batch 8 that was asked for, but got 9"},
           {"chunks", Json(1 << 30), "key 'chunks' expects at most 16777216, but got 1073741824"},
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
} // namespace
