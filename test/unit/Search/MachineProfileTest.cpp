// profile.json: what is read is what was written, and what is damaged is refused by key.
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "galvatron/Search/Model/MeasuredBodies.h"

#include <cmath>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>

using namespace galvatron::search;
using Json = nlohmann::json;

namespace {

MachineProfile example() {
  MachineProfile profile;
  profile.created = "2026-01-31T12:00:00Z";
  profile.fingerprint = {{"target", "cpu"}, {"hosts", "a"}};
  profile.cluster = *hostCluster(4, 1 << 30);
  profile.cluster.intra.sends = {{4096, 1e9}, {65536, 2.5e9}};
  for (int rank = 0; rank < 4; ++rank)
    profile.devices.push_back({rank, "a", rank, 2000, 0, 0, rank == 3 ? 0.5 : 1, 1});
  profile.stragglers = {{3, "a", 3, 1.0}};
  profile.messages = {{"all_reduce", 2, 1, 2, 4096, 1e-5, 0.01, 9},
                      {"all_reduce", 2, 2, 2, 4096, 2e-5, 0.01, 9},
                      {"exchange", 2, 1, 1, 4096, 1.25e-6, 0, 3}};
  profile.kernels = {{"gemm", "fp32", {.m = 64, .n = 32, .k = 16, .layout = "nt"}, 1e-4, 0.02, 5},
                     {"attention",
                      "fp32",
                      {.samples = 1, .heads = 4, .kvHeads = 2, .seq = 128, .headSize = 64, .backward = true},
                      1e-3,
                      0,
                      1},
                     {"copy", "fp32", {.bytes = 8192}, 1e-6, 0, 1}};
  profile.overlaps = {{"gemm", "send", 65536, 1.1, 1.9}};
  profile.bodies = {{"block", "ab", "fp32", R"({"tp":2})", 1, 128, 1, 2, 0.5, 0, 0.1, 7, 8, 9, true, 0.02, 5},
                    {"block", "ab", "fp32", R"({"tp":2})", 2, 128, 1, 2, 0.5, 0, 0.1, 7, 8, 9, false, 0, 1}};
  profile.bodies[0].forwardWork = {{{2, {1e9, 1e6, 0, true, false}}, {1, {1e8, 1e5, 64, false, true}}},
                                   {{CollectiveKind::AllReduce, 2, 4096, 2}}};
  profile.bodies[1].residual = 0.125;
  profile.planned = {{"block", "ab", "fp32", R"({"tp":2})", 1, 128, 1, 2, 3, 4, 5}};
  profile.models = {{"llama", "cd", 128, {{"model.layers.0", "block", "layer"}}}};
  profile.leftOut = {"all_gather: too little time"};
  return profile;
}

Json exampleJson() { return Json::parse(writeMachineProfile(example())); }

std::string errorOf(const Json &json) {
  auto profile = parseMachineProfile(json.dump());
  return profile ? "" : profile.error().message;
}

TEST(MachineProfile, what_is_written_is_read) {
  std::string text = writeMachineProfile(example());
  auto read = parseMachineProfile(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(writeMachineProfile(*read), text);
  EXPECT_EQ(read->messages.size(), 3u);
  EXPECT_EQ(read->kernels[1].shape.backward, true);
  EXPECT_EQ(read->cluster.intra.sends.size(), 2u);
  EXPECT_EQ(read->fingerprintHash(), example().fingerprintHash());
  EXPECT_EQ(read->fingerprintHash().size(), 16u);
}

TEST(MachineProfile, another_fingerprint_has_another_hash) {
  MachineProfile other = example();
  other.fingerprint["hosts"] = "b";
  EXPECT_NE(other.fingerprintHash(), example().fingerprintHash());
}

TEST(MachineProfile, entries_of_a_journal_are_those_of_the_file) {
  MachineProfile profile = example(), again = example();
  again.messages.clear(), again.kernels.clear(), again.overlaps.clear();
  for (const auto &entry : profile.messages)
    ASSERT_TRUE(addEntry(writeEntry(entry), again));
  for (const auto &entry : profile.kernels)
    ASSERT_TRUE(addEntry(writeEntry(entry), again));
  for (const auto &entry : profile.overlaps)
    ASSERT_TRUE(addEntry(writeEntry(entry), again));
  EXPECT_EQ(writeMachineProfile(again), writeMachineProfile(profile));
  EXPECT_FALSE(addEntry(writeEntry(profile.messages[0]), again)) << "twice";
  EXPECT_FALSE(addEntry("{\"collective\": {\"kind\": \"all_re", again)) << "torn";
}

struct Damage {
  const char *pointer; ///< of the member that is replaced
  Json value;
  const char *said;
};

TEST(MachineProfile, damage_is_refused_by_key) {
  const Damage damages[] = {
      {"/format", "other", "key 'format' expects galvatron-profile, but got 'other'"},
      {"/version", 2, "key 'version' expects 1, but got 2; take the profile again"},
      {"/precision", "fp8", "key 'precision' expects one of fp32, bf16, but got 'fp8'"},
      {"/surprise", 1, "unknown key 'surprise'"},
      {"/fingerprint", Json::array(), "'fingerprint' expects an object of texts"},
      {"/fingerprint/target", 7, "'fingerprint' expects texts, but got 7 for 'target'"},
      {"/cluster/nodes", 0, "profile key 'cluster': cluster key 'nodes'"},
      {"/cluster/profile", "p", "has the key 'profile', which only cluster.json may have"},
      {"/devices/1/rank", 2, "devices[1] key 'rank' expects 1, as ranks stand in order, but got 2"},
      {"/devices/1/gemm_share", 0, "devices[1] key 'gemm_share' expects a number above 0"},
      {"/devices", Json::array({exampleJson()["devices"][0]}), "key 'devices' expects the cluster's 4 ranks"},
      {"/stragglers/0/rank", 4, "expects one of the cluster's 4 ranks, but got 4"},
      {"/collectives", 3, "key 'collectives' expects a list, but got 3"},
      {"/collectives/0", "x", "collectives[0] expects an object"},
      {"/collectives/0/kind", "broadcast", "collectives[0] key 'kind' expects one of all_reduce"},
      {"/collectives/0/ranks", 8, "expects groups that the cluster's 4 ranks can form"},
      {"/collectives/0/stride", 4, "expects groups that the cluster's 4 ranks can form"},
      {"/collectives/1/stride", 1, "collectives[1] is of the same kind, size and ranks as an entry before it"},
      {"/collectives/2/ranks", 4, "key 'ranks' expects 2 for kind 'exchange', but got 4"},
      {"/collectives/0/bytes", -1, "collectives[0] key 'bytes'"},
      {"/collectives/0/seconds", 0, "collectives[0] key 'seconds' expects a number above 0"},
      {"/collectives/0/seconds", -1e-5, "collectives[0] key 'seconds' expects a number above 0"},
      {"/collectives/0/seconds", 1e-300, "'seconds' expects what can be measured, at least 1e-10 s, but got 1e-300"},
      {"/kernels/2/seconds", 1e-13, "'seconds' expects what can be measured, at least"},
      {"/layers/0/forward_seconds", 1e-300, "layers[0] key 'forward_seconds' expects what can be measured"},
      {"/collectives/0/bytes", 1ll << 40,
       "'seconds' expects at most 1e+16 bytes a second, but 1e-05 makes 1.09951162777"},
      {"/kernels/0",
       Json::parse(R"({"kind": "gemm", "precision": "fp32", "shape": {"m": 16777216, "n": 16777216, "k": 1024},
                       "seconds": 1e-4})"),
       "'seconds' expects at most 1e+19 operations a second"},
      {"/devices", Json::array(), "key 'devices' expects the cluster's 4 ranks, but got 0"},
      {"/stragglers/0/host", "b", "'stragglers' says that rank 3 is on host 'b', but key 'devices' that it is on 'a'"},
      {"/fingerprint/target", "cuda", "'fingerprint' says target 'cuda', but the devices of 'cluster' are of kind cpu"},
      {"/layers/0/strategy", Json{{"tp", 0}}, "key 'strategy'"},
      {"/collectives/0/seconds", 1e9, "key 'seconds' expects a number from 0 to"},
      {"/collectives/0/seconds", nullptr, "collectives[0] key 'seconds' expects a number, but got null"},
      {"/collectives/0/spread", -0.1, "collectives[0] key 'spread' expects a number from 0 to"},
      {"/collectives/0/repeats", 0, "collectives[0] key 'repeats'"},
      {"/kernels/0/kind", "conv", "kernels[0] key 'kind' expects one of gemm"},
      {"/kernels/0/precision", "bf16", "kernels[0] key 'precision' expects the profile's, fp32, but got 'bf16'"},
      {"/kernels/0/shape", Json(), "key 'shape' of kind 'gemm' expects an object"},
      {"/kernels/0/shape/m", 0, "key 'shape' of kind 'gemm' key 'm'"},
      {"/kernels/0/shape/bytes", 1, "unknown key 'bytes'"},
      {"/kernels/1/shape/kv_heads", 3, "key 'kv_heads' expects a divisor of the 4 heads, but got 3"},
      {"/overlap/0/first", "nothing", "overlap[0] key 'first' expects one of all_reduce"},
      {"/overlap/0/second_slowdown", 0, "overlap[0] key 'second_slowdown' expects a number above 0"},
      {"/layers/0/strategy", 2, "key 'strategy' expects an object as in plan.json, but got 2"},
      {"/layers/0/weight_seconds", 3, "expects a part of 'backward_seconds'"},
      {"/layers/1/samples", 1, "layers[1] is of the same kind, size and ranks as an entry before it"},
      {"/layers/0/residual", 0.1, "key 'residual' is of figures with 'measured' false, but 'measured' is true"},
      {"/layers/1/residual", -1, "layers[1] key 'residual' expects a number from 0 to"},
      {"/layers/0/forward_work", 3, "'forward_work' expects an object"},
      {"/layers/0/forward_work/kernels/0/flops", -1, "kernels[0] key 'flops' expects a number from 0 to"},
      {"/layers/0/forward_work/kernels/0/count", 0, "kernels[0] key 'count'"},
      {"/layers/0/forward_work/messages/0/kind", "send", "messages[0] key 'kind' expects one of all_reduce"},
      {"/layers/0/forward_work/messages", 1, "key 'messages' expects a list, but got 1"},
      {"/planned/0/strategy", Json{{"tp", 0}}, "planned[0] key 'strategy'"},
      {"/models/0/units/0/role", "tail", "key 'role' expects one of embedding, layer, head"},
      {"/left_out", Json::array({1}), "key 'left_out' expects a list of texts"},
  };
  for (const Damage &damage : damages) {
    Json json = exampleJson();
    json[Json::json_pointer(damage.pointer)] = damage.value;
    EXPECT_NE(errorOf(json).find(damage.said), std::string::npos) << damage.pointer << ": " << errorOf(json);
  }
}

TEST(MachineProfile, every_key_but_lists_is_needed) {
  for (const char *pointer : {"/format", "/version", "/created", "/precision", "/fingerprint", "/cluster"}) {
    Json json = exampleJson();
    json.erase(std::string(pointer + 1));
    EXPECT_NE(errorOf(json).find(pointer + 1), std::string::npos) << pointer << ": " << errorOf(json);
  }
  Json json = exampleJson();
  json["kernels"][0].erase("shape");
  EXPECT_NE(errorOf(json).find("kernels[0] lacks the key 'shape'"), std::string::npos) << errorOf(json);
  EXPECT_NE(parseMachineProfile(R"({"format": "galvatron-profile", "version": 1, "created": "", "precision": "fp32",
                                   "fingerprint": {"a": "b"}})")
                .error()
                .message.find("profile lacks the key 'cluster'"),
            std::string::npos);
}

TEST(MachineProfile, what_is_infinite_or_cut_off_is_no_json) {
  std::string text = writeMachineProfile(example());
  std::string infinite = text;
  infinite.replace(infinite.find("1e-05"), 5, "1e999");
  EXPECT_FALSE(parseMachineProfile(infinite));
  for (std::size_t length = 0; length + 2 < text.size(); length += 7)
    EXPECT_FALSE(parseMachineProfile(text.substr(0, length))) << length;
  EXPECT_FALSE(readMachineProfile("/nonexistent/profile.json"));
}

/// No price of what was read is infinite or below nothing.
void expectPrices(const MachineProfile &profile, const std::string &text) {
  Cluster cluster = profile.cluster;
  ASSERT_FALSE(applyProfile(profile, "p.json", cluster)) << text;
  std::vector<double> prices;
  for (double samples : {1, 3, 64})
    for (BodyPart part : {BodyPart::Forward, BodyPart::Backward, BodyPart::Recompute})
      for (int tp : {2, 4}) {
        BodyQuery query{"block", "ab"};
        query.strategy.tp = tp, query.part = part, query.samples = samples, query.seq = 128 * samples;
        query.attentionSeconds = 1e-3, query.otherSeconds = 2e-3;
        prices.push_back(cluster.device.tables->bodies() ? cluster.device.tables->bodies()->price(query).seconds : 0);
      }
  for (double bytes : {1.0, 1e6, 1e12}) {
    prices.push_back(LinkModel(cluster).seconds(CollectiveKind::AllReduce, bytes, galvatron::plan::GroupShape(2, 1)));
    prices.push_back(updateSeconds(bytes, cluster.device));
    prices.push_back(kernelSeconds({.flops = bytes, .bytes = bytes, .isProduct = true}, cluster.device));
  }
  for (double price : prices)
    EXPECT_TRUE(price >= 0 && std::isfinite(price)) << price << ": " << text;
}

/// Bytes and figures at random: read, or refused, never a crash; what is read can be written, read again and priced.
TEST(MachineProfile, random_damage_never_crashes) {
  std::mt19937 random(7);
  const std::string text = writeMachineProfile(example());
  const char *const pieces[] = {"-1", "1e308", "null",  "[]", "{}", "\"\"", "9223372036854775808",
                                "0",  "true",  "1e-320"};
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = text;
    for (int times = 1 + int(random() % 3); times > 0; --times) {
      std::size_t at = random() % damaged.size();
      if (random() % 2) {
        damaged[at] = char(random() % 96 + 32);
        continue;
      }
      std::size_t digit = damaged.find_first_of("0123456789", at);
      if (digit != std::string::npos)
        damaged.replace(digit, damaged.find_first_not_of("0123456789.e-", digit) - digit, pieces[random() % 10]);
    }
    auto read = parseMachineProfile(damaged);
    if (read) {
      EXPECT_TRUE(parseMachineProfile(writeMachineProfile(*read))) << damaged;
      expectPrices(*read, damaged);
    } else {
      EXPECT_FALSE(read.error().message.empty());
    }
  }
}

} // namespace
