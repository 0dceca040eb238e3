//===- RawMemoryTest.cpp - Memory tables out of raw measurements ----------===//

#include "TestInputs.h"

#include <functional>

using namespace galvatron::search;
using namespace galvatron::search::testing;

namespace {
Json shipped() { return readInput("galvatron-profiles/llama2-7b-seq2048/memory_profiling_bf16_llama2-7b_all.json"); }

const char *const kDerived[] = {"layertype_0", "other_memory_pp_off", "other_memory_pp_on_first",
                                "other_memory_pp_on_last"};

void eraseDerived(Json &memory) {
  for (const char *name : kDerived)
    memory.erase(name + std::string("_sp"));
}

/// The profile of a shipped case with other memory measurements.
Result<ReferenceProfile> withMemory(const std::string &name, const Json &memory,
                                    const std::function<void(Json &)> &change = nullptr) {
  Json inputs = readInput("galvatron-reference/full_8g_m24_b64.json")["inputs"];
  inputs["args"]["profiling_info"]["memory_profiling_path"] = std::filesystem::absolute(writeTemporary(name, memory));
  if (change)
    change(inputs);
  Result<ReferenceArguments> arguments = parseReferenceConfig(inputs.dump(), inputPath(""));
  if (!arguments)
    return arguments.error();
  return loadReferenceProfile(*arguments);
}

void expectSame(const ReferenceProfile &one, const ReferenceProfile &other) {
  EXPECT_EQ(one.layerParameterMB, other.layerParameterMB);
  EXPECT_EQ(one.hasCheckpoint, other.hasCheckpoint);
  EXPECT_EQ(one.checkpointActivation, other.checkpointActivation);
  for (auto table :
       {&ReferenceProfile::layerActivation, &ReferenceProfile::endsStates, &ReferenceProfile::endsActivation,
        &ReferenceProfile::firstStates, &ReferenceProfile::firstActivation, &ReferenceProfile::lastStates,
        &ReferenceProfile::lastActivation}) {
    EXPECT_GE((one.*table).megabytes.size(), 4u);
    EXPECT_EQ((one.*table).megabytes, (other.*table).megabytes);
  }
}

/// The shipped file has raw keys and what the reference derived from them.
TEST(RawMemory, gives_what_the_reference_derives) {
  auto wanted = withMemory("whole.json", shipped());
  ASSERT_TRUE(wanted) << wanted.error().message;
  Json older = shipped();
  eraseDerived(older);
  // The grammar of today: no brackets.
  std::string text = older.dump();
  for (const char *depth : {"1", "2", "4"})
    for (std::string from = std::string("layernum[") + depth + "]"; text.find(from) != std::string::npos;)
      text.replace(text.find(from), from.size(), std::string("layernum") + depth);
  ASSERT_EQ(text.find('['), std::string::npos);
  for (const Json &memory : {older, Json::parse(text)})
    for (const char *mode : {"static", "sequence"}) {
      auto derived = withMemory("raw.json", memory,
                                [&](Json &inputs) { inputs["args"]["profiling_info"]["memory_profile_mode"] = mode; });
      ASSERT_TRUE(derived) << derived.error().message;
      expectSame(*derived, *wanted);
    }
  // Derived keys that are there are taken as they are; others beside them are made.
  Json part = shipped();
  part.erase("other_memory_pp_on_last_sp");
  part["layertype_0_sp"]["2048"]["parameter_size"] = 700.0;
  auto mixed = withMemory("part.json", part);
  ASSERT_TRUE(mixed) << mixed.error().message;
  EXPECT_EQ(mixed->layerParameterMB, 700);
  mixed->layerParameterMB = wanted->layerParameterMB;
  expectSame(*mixed, *wanted);
}

/// Two devices, batch 4, ddp, no Megatron-SP. A layer has 100 MB of parameters; a
/// sample keeps 30 MB in it at tp 1, 20 MB at tp 2, and 6 MB when it is recomputed.
Json smallProfile() {
  Json memory;
  auto put = [&](const std::string &run, int depth, int rank, double states, double kept, double peak) {
    std::string key = "layernum" + std::to_string(depth) + "_bsz4_seq2048_rank" + std::to_string(rank) + "_";
    memory[run][key + "ms"] = states;
    memory[run][key + "act"] = kept;
    memory[run][key + "act_peak"] = peak;
  };
  // tp 1: a rank has 2 of 4 samples. Ends: 1000 MB, 50 MB a sample at the peak.
  for (int depth : {2, 5})
    put("1_1_2", depth, 0, 1000 + 400 * depth, 10 + 60 * depth, 100 + 60 * depth);
  // tp 2: half the layer, 4 samples. Ends whole: 1010 MB, so that tp 1 has the smaller.
  for (int depth : {2, 5})
    put("1_2_1", depth, 0, 1010 + 200 * depth, 10 + 80 * depth, 240 + 80 * depth);
  // The same with the vocabulary cut: 520 MB, 88 MB of 4 samples.
  for (int depth : {2, 5})
    put("1_2_1_vtp", depth, 0, 520 + 200 * depth, 10 + 80 * depth, 88 + 80 * depth);
  for (int depth : {2, 5})
    put("1_1_2_c", depth, 0, 1000 + 400 * depth, 10 + 12 * depth, 100 + 12 * depth);
  // Two stages of one layer, all 4 samples on each; the last keeps more than its peak.
  put("2_1_1", 2, 0, 400 + 300, 120, 120 + 40);
  put("2_1_1", 2, 1, 400 + 600, 120 + 36, 120);
  return memory;
}

Result<ReferenceProfile> smallDerived(const std::string &name, const Json &memory, const char *dpType = "ddp") {
  return withMemory(name, memory, [&](Json &inputs) {
    inputs["args"]["common_train_info"]["sequence_parallel"] = 0;
    inputs["args"]["profiling_info"]["profile_dp_type"] = dpType;
  });
}

TEST(RawMemory, follows_the_sizes_that_were_put_in) {
  auto derived = smallDerived("small.json", smallProfile());
  ASSERT_TRUE(derived) << derived.error().message;
  using Table = std::map<int, double>;
  EXPECT_EQ(derived->layerParameterMB, 100);
  EXPECT_EQ(derived->layerActivation.megabytes, (Table{{1, 30}, {2, 20}}));
  EXPECT_EQ(derived->checkpointActivation, 6);
  EXPECT_EQ(derived->endsStates.megabytes, (Table{{1, 1000}, {2, 520}}));
  EXPECT_EQ(derived->endsActivation.megabytes, (Table{{1, 50}, {2, 22}}));
  EXPECT_EQ(derived->firstStates.megabytes, (Table{{1, 300}}));
  EXPECT_EQ(derived->firstActivation.megabytes, (Table{{1, 10}}));
  EXPECT_EQ(derived->lastStates.megabytes, (Table{{1, 600}}));
  EXPECT_EQ(derived->lastActivation.megabytes, (Table{{1, 9}}));
  // Nothing was measured with the vocabulary cut in a pipeline.
  EXPECT_NE(
      derived->firstStates.at(2).error().message.find("lacks the key 'other_memory_pp_on_first/2048/model_states/2'"),
      std::string::npos);
}

TEST(RawMemory, says_which_key_is_missing_or_contradicts) {
  auto complaint = [](const std::function<void(Json &)> &change) {
    Json memory = shipped();
    eraseDerived(memory);
    change(memory);
    auto profile = withMemory("broken.json", memory);
    return profile ? std::string() : profile.error().message;
  };
  auto expect = [](const std::string &text, std::initializer_list<const char *> parts) {
    for (const char *part : parts)
      EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in: " << text;
  };
  std::string again = "run the model profiler (profile_type memory) at length 2048 again";
  expect(complaint([](Json &m) { m["1_2_4_sp"].erase("layernum[2]_bsz8_seq2048_rank0_act"); }),
         {"broken.json' lacks the raw key '1_2_4_sp/layernum[2]_bsz8_seq2048_rank0_act'", again.c_str()});
  expect(complaint([](Json &m) { m.erase("1_4_2_sp"); }),
         {"lacks the raw key '1_4_2_sp/layernum[1]_bsz8_seq2048_rank0_ms'"});
  expect(complaint([](Json &m) {
           for (const char *run : {"2_1_4_sp", "2_2_2_sp", "2_2_2_vtp_sp", "2_4_1_sp", "2_4_1_vtp_sp", "4_1_2_sp",
                                   "4_2_1_sp", "4_2_1_vtp_sp"})
             m.erase(run);
         }),
         {"lacks the raw key '2_1_4_sp/layernum[2]_bsz8_seq2048_rank0_ms'"});
  expect(complaint([](Json &m) { m["1_1_8_sp"]["layernum[2]_bsz8_seq2048_rank0_ms"] = 900.0; }),
         {"raw keys '1_1_8_sp/layernum…_ms' do not grow with depth", again.c_str()});
  expect(complaint([](Json &m) { m["1_1_8_c_sp"]["layernum[2]_bsz8_seq2048_rank0_act"] = 300.0; }),
         {"raw keys '1_1_8_c_sp/layernum…_act' do not grow with depth"});
  expect(complaint([](Json &m) { m["1_1_8_sp"]["layernum[2]_bsz8_seq2048_rank0_ms"] = -1.0; }),
         {"key '1_1_8_sp/layernum[2]_bsz8_seq2048_rank0_ms' expects a number above 0, but got -1"});
  expect(complaint([](Json &m) { m["1_1_8_sp"]["layernum[2]_bsz16_seq2048_rank0_ms"] = 9000.0; }),
         {"has raw memory keys of batch sizes 8, 16; expects one"});
  expect(complaint([](Json &m) { m["1_1_4_sp"] = m["1_1_8_sp"]; }), {"has raw memory keys of 4, 8 devices"});
  expect(complaint([](Json &m) {
           for (auto &run : m.items())
             for (const char *rank : {"0", "7"})
               for (const char *kind : {"ms", "act", "act_peak"})
                 run.value().erase("layernum[1]_bsz8_seq2048_rank" + std::string(rank) + "_" + kind);
         }),
         {"has raw memory keys of depth 2 without a pipeline; expects two depths"});
  // Measured otherwise than said: sizes of a layer do not agree.
  auto wrong = smallDerived("type.json", smallProfile(), "zero3");
  ASSERT_FALSE(wrong);
  expect(wrong.error().message,
         {"differ 2 times among tp degrees, as if measured under ddp; set profile_dp_type", "(now zero3)"});
  // Another length than the raw keys have.
  Json memory = shipped();
  eraseDerived(memory);
  auto other = withMemory("length.json", memory, [](Json &inputs) { inputs["model"]["seq_length"] = 4096; });
  ASSERT_FALSE(other);
  expect(other.error().message, {"length.json' lacks the key 'layertype_0_sp'"});
}
} // namespace
