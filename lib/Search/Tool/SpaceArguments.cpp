//===- SpaceArguments.cpp - Arguments that narrow the native search -------===//

#include "SpaceArguments.h"

#include <algorithm>

namespace galvatron::search {

std::vector<std::int64_t> batchRange(std::int64_t low, std::int64_t high, std::int64_t step) {
  std::vector<std::int64_t> batches;
  for (std::int64_t batch = std::max(low, step); batch <= high; batch += step)
    batches.push_back(batch);
  return batches;
}

void restrictSpace(const ToolOptions &options, SearchSpace &space) {
  if (options.supportedOnly) {
    SearchSpace supported = SearchSpace::supported();
#define STRATEGY_DEGREE(FIELD, NAME, KEY, ORDER, WANTS, SPACE, ...) space.SPACE &= supported.SPACE;
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, WANTS, SPACE, ...) space.SPACE &= supported.SPACE;
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, WANTS, SPACE, ...) space.SPACE &= supported.SPACE;
#define STRATEGY_SET(FIELD, NAME, KEY, SPACE, ...) space.SPACE &= supported.SPACE;
#include "dialects/Plan/Strategy.def"
    space.plainTensor = true;
    space.zeroLevels &= supported.zeroLevels;
    space.schedules = supported.schedules;
  }
  if (options.onlySharded)
    space.zeroLevels &= 1u << 3;
  if (options.microBatches)
    space.microBatches = int(options.microBatches);
}

static std::vector<std::int64_t> readBatches(JsonReader &sizes) {
  std::int64_t step = sizes.integer("bsz_scale", 8, 1, kMostOfAnything);
  std::int64_t low = sizes.integer("min_bsz", 8, 1, kMostOfAnything);
  std::int64_t high = sizes.integer("max_bsz", 8, 1, kMostOfAnything);
  std::vector<std::int64_t> batches = batchRange(low, high, step);
  if (batches.empty())
    sizes.fail("hold no batch between min_bsz " + std::to_string(low) + " and max_bsz " + std::to_string(high) +
               " in steps of bsz_scale " + std::to_string(step));
  return batches;
}

std::optional<Error> applyArguments(const ToolOptions &options, SearchSpace &space,
                                    std::vector<std::int64_t> &batches) {
  static const Json kNone = Json::object(); // readers refer to what they read
  auto group = [&](const char *name) {
    auto at = options.overrides.find(name);
    return JsonReader(at == options.overrides.end() ? kNone : *at, std::string("options of '") + name + "'");
  };
  JsonReader spaces = group("search_space_info");
  auto off = [&](const char *key) { return spaces.toggle(key, false); };
  space.pipeline = !off("disable_pp");
  auto offer = [&](std::string_view option, bool &offered) {
    if (!option.empty())
      offered = !off(("disable_" + std::string(option)).c_str());
  };
  auto limit = [&](std::string_view option, int &most) {
    if (!option.empty())
      most = int(spaces.integer(("max_" + std::string(option) + "_deg").c_str(), most, 1, kMostOfAnything));
  };
#define STRATEGY_REST(FIELD, NAME, KEY, ORDER, WANTS, SPACE, OPTION) offer(OPTION, space.SPACE);
#define STRATEGY_DEGREE(FIELD, NAME, KEY, ORDER, WANTS, SPACE, MOST, OPTION, REMEDY)                                   \
  offer(OPTION, space.SPACE);                                                                                          \
  limit(OPTION, space.MOST);
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, WANTS, SPACE, MOST, OPTION, REMEDY)                                 \
  offer(OPTION, space.SPACE);                                                                                          \
  limit(OPTION, space.MOST);
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, WANTS, SPACE, OPTION, REMEDY) offer(OPTION, space.SPACE);
#include "dialects/Plan/Strategy.def"
  space.keepGathered = false; // the reference has no word for it
  bool fsdpOff = off("disable_fsdp"), sdpOff = off("disable_sdp");
  if (fsdpOff || sdpOff)
    space.zeroLevels &= ~(1u << 3);
  bool tpOff = off("disable_vtp"), endsTpOff = off("disable_embedding_lmhead_tp");
  space.tensorInEnds = !tpOff && !endsTpOff;
  bool spOff = off("disable_vsp"), endsSpOff = off("disable_embedding_lmhead_sp");
  space.ulyssesInEnds = !spOff && !endsSpOff;
  space.maxPipeline = int(spaces.integer("max_pp_deg", space.maxPipeline, 1, kMostOfAnything));

  JsonReader choices = group("options_info"), train = group("common_train_info");
  space.uniform = !choices.toggle("fine_grained_mode", true);
  if (train.has("sequence_parallel")) {
    space.sequenceParallel = train.toggle("sequence_parallel", true);
    space.plainTensor = !space.sequenceParallel;
  }
  train.toggle("global_memory_buffer", true); // what is gathered counts where it is used
  JsonReader sizes = group("batch_size_info");
  if (sizes.has("settle_chunk"))
    space.microBatches = int(std::max<std::int64_t>(0, sizes.integer("settle_chunk", -1, -1, kMostOfAnything)));
  if (sizes.has("min_bsz") || sizes.has("max_bsz") || sizes.has("bsz_scale"))
    batches = readBatches(sizes);
  for (JsonReader *reader : {&spaces, &choices, &train, &sizes})
    if (auto error = reader->finish())
      return error;
  return std::nullopt;
}

std::optional<Error> restrictParallelism(const Json &group, SearchSpace &space) {
  JsonReader reader(group, "options of 'parallelism_info'");
  std::string schedule = reader.text("pipeline_type", ""), type = reader.text("default_dp_type", "");
  bool said = reader.has("async_grad_reduce"), once = reader.toggle("async_grad_reduce", true);
  reader.text("mixed_precision", "");
  if (!schedule.empty()) {
    auto known = parseSchedule(schedule);
    if (known)
      space.schedules = {*known};
    else
      reader.fail("key 'pipeline_type' expects gpipe, pipedream_flush, interleaved, zb-h1 or zb-v, but got '" +
                  schedule + "'");
  }
  // ZeRO-2 in the reference's words: its state is sharded and, when gradients are
  // summed every micro-batch, they are too. Ours calls the first alone ZeRO-1.
  unsigned sharded = !said ? 0b0110 : once ? 0b0010 : 0b0100;
  if (type.empty())
    space.zeroLevels &= 0b1001 | sharded;
  else if (type == "ddp" || type == "zero2" || type == "zero3")
    space.zeroLevels &= 0b1000 | (type == "ddp" ? 0b0001 : type == "zero2" ? sharded : 0);
  else
    reader.fail("key 'default_dp_type' expects ddp, zero2 or zero3, but got '" + type + "'");
  if (!reader.failed() && !space.zeroLevels)
    reader.fail("key 'default_dp_type' " + type + " conflicts with what is disabled of the space; drop one");
  return reader.finish();
}

} // namespace galvatron::search
