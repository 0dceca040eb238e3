//===- ReferencePlan.cpp - Hetu-Galvatron's plan JSON ---------------------===//
//
// One flat object; a per-layer list is one string of comma-separated integers.
// Keys, types and defaults as its runtime reads them (GALVATRON.md 2.1), with
// two differences: `vocab_sdp`, which its runtime reads, and `embed_sdp`, which
// its search writes, are one thing here; and what its runtime would ignore or
// assert on is an error with a remedy.
//
//===----------------------------------------------------------------------===//

#include "PlanFormats.h"

#include <algorithm>
#include <charconv>

namespace galvatron::search {

namespace {
std::string number(std::int64_t value) { return std::to_string(value); }

/// A per-layer list. `expected` 0: any length. Values lie in [low, high].
std::vector<int> readList(JsonReader &reader, const char *key, std::size_t expected, const char *ofWhat, int low,
                          int high, int fallback) {
  const Json *member = reader.member(key);
  if (!member)
    return std::vector<int>(expected, fallback);
  std::string name = std::string("key '") + key + "' ";
  if (!member->is_string()) {
    reader.fail(name + "expects a string of comma-separated integers, but got " + describeJson(*member));
    return std::vector<int>(expected, fallback);
  }
  std::string text = member->get<std::string>();
  std::vector<int> values;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    std::size_t end = std::min(text.find(',', begin), text.size());
    std::size_t first = begin, last = end;
    while (first < last && text[first] == ' ')
      ++first;
    while (last > first && text[last - 1] == ' ')
      --last;
    int value = 0;
    auto [stop, code] = std::from_chars(text.data() + first, text.data() + last, value);
    if (code != std::errc() || stop != text.data() + last || first == last) {
      reader.fail(name + "expects comma-separated integers, but entry " + number(std::int64_t(values.size())) +
                  " is '" + text.substr(first, std::min<std::size_t>(last - first, 24)) + "'");
      return std::vector<int>(expected, fallback);
    }
    if (value < low || value > high) {
      reader.fail(name + "expects values from " + number(low) + " to " + number(high) + ", but " + ofWhat + " " +
                  number(std::int64_t(values.size())) + " has " + number(value));
      return std::vector<int>(expected, fallback);
    }
    values.push_back(value);
    begin = end + 1;
  }
  if (expected && values.size() != expected) {
    reader.fail(name + "expects " + number(std::int64_t(expected)) + " entries, one for each " + ofWhat + ", but got " +
                number(std::int64_t(values.size())) + "; was the plan made for another model?");
    return std::vector<int>(expected, fallback);
  }
  return values;
}

struct Lists {
  std::vector<int> degree, consecutive, sp, zero3, recompute, cp, ep, etp;
};

std::vector<Layer> layersOf(const PlanTarget &target, std::size_t blocks) {
  if (!target.layers.empty())
    return target.layers;
  std::vector<Layer> layers = {{"embedding", "embedding", LayerRole::Embedding}};
  for (std::size_t block = 0; block < blocks; ++block)
    layers.push_back({"layers." + number(std::int64_t(block)), "layer", LayerRole::Block});
  layers.push_back({"head", "head", LayerRole::Head});
  return layers;
}

/// Stage of every layer.
std::vector<int> layerStages(JsonReader &reader, std::size_t layers, int stages) {
  std::vector<int> division = readList(reader, "pp_division", 0, "stage", 0, 1 << 24, 0);
  if (division.empty()) {
    // Its runtime: equal, the remainder on the last stage.
    division.assign(stages, int(layers) / stages);
    division.back() += int(layers) % stages;
  }
  std::int64_t sum = 0;
  for (int count : division)
    sum += count;
  if (int(division.size()) != stages || sum != std::int64_t(layers)) {
    reader.fail("key 'pp_division' expects " + number(stages) +
                " counts (pp_deg) that add up "
                "to the model's " +
                number(std::int64_t(layers)) + " layers, but got " + number(std::int64_t(division.size())) +
                " counts with the sum " + number(sum));
    return std::vector<int>(layers, 0);
  }
  std::vector<int> stageOf;
  for (int stage = 0; stage < stages; ++stage)
    stageOf.insert(stageOf.end(), division[stage], stage);
  return stageOf;
}

/// As `plan::StrategyValues::reduceEveryMicroBatch`: the reference's key says the opposite, of all layers.
int reductionOf(JsonReader &reader) {
  if (!reader.has("async_grad_reduce"))
    return 0;
  return reader.toggle("async_grad_reduce", true) ? 1 : 2;
}

int zeroLevel(int defaultLevel, bool zero3, const PlannedLayer &layer) {
  // One shard is no sharding; its search calls that ddp.
  if (layer.strategy.shardRanks(layer.dp) == 1)
    return 0;
  return zero3 ? 3 : defaultLevel;
}
} // namespace

namespace {
/// What a plan in the reference's format says, key by key.
class ReferenceReader {
public:
  ReferenceReader(const Json &json, const PlanTarget &target);
  Result<Plan> read();

private:
  void readLists();
  void readWhole();
  void readSchedule();
  void readZero();
  Strategy strategyOf(const Layer &layer, std::size_t block) const;
  Result<PlannedLayer> planLayer(const Layer &layer, std::size_t block) const;

  JsonReader reader;
  const PlanTarget &target;
  Plan plan;
  std::size_t layers = 0; ///< blocks of the model, or of the plan where no model is known
  Lists lists;
  std::vector<int> stages; ///< of every block
  int level = 0;           ///< of ZeRO, where a layer does not say 3
  int vtp = 1, vcp = 1;    ///< of both ends
  bool vsp = false, endsZero3 = false;
  int reduction = 0;
};
} // namespace

ReferenceReader::ReferenceReader(const Json &json, const PlanTarget &target) : reader(json, "plan"), target(target) {
  plan.canSayPad = false;
  for (const Layer &layer : target.layers)
    layers += layer.role == LayerRole::Block;
}

void ReferenceReader::readLists() {
  if (!reader.has("tp_sizes_enc"))
    reader.fail("lacks the key 'tp_sizes_enc'");
  lists.degree = readList(reader, "tp_sizes_enc", layers, "layer", 1, kMostOfAnything, 1);
  if (!layers)
    layers = lists.degree.size();
  lists.sp = readList(reader, "use_sp", layers, "layer", 0, 1, 0);
  lists.zero3 = readList(reader, "dp_types_enc", layers, "layer", 0, 1, 0);
  lists.recompute = readList(reader, "checkpoint", layers, "layer", 0, 1, 0);
  lists.cp = readList(reader, "cp_sizes_enc", layers, "layer", 1, kMostOfAnything, 1);
  lists.ep = readList(reader, "ep_sizes_enc", layers, "layer", 1, kMostOfAnything, 1);
  lists.etp = readList(reader, "tp_of_ep_sizes_enc", layers, "layer", 1, kMostOfAnything, 1);
  lists.consecutive = readList(reader, "tp_consecutive_flags", layers, "layer", 0, 1, 1);
}

/// What holds for the whole plan, and for both ends.
void ReferenceReader::readWhole() {
  auto degreeOf = [&](const char *key) { return int(reader.integer(key, 1, 1, kMostOfAnything)); };
  plan.pipeline = int(reader.integer("pp_deg", {}, 1, kMostOfAnything));
  stages = layerStages(reader, layers, std::max(1, plan.pipeline));
  plan.ranks = reader.integer("world_size", target.impliedRanks(), 1, kMostOfAnything);
  expectTargetRanks(reader, "world_size", plan.ranks, target);
  plan.globalBatch = reader.integer("global_bsz", target.impliedGlobalBatch(), 1, kMostOfAnything);
  expectTargetBatch(reader, "global_bsz", plan.globalBatch, target);
  plan.microBatches = int(reader.integer("chunks", 1, 1, kMostMicroBatches));
  readSchedule();
  readZero();
  vtp = degreeOf("vtp");
  vcp = degreeOf("vcp");
  vsp = reader.toggle("vsp", false);
  reduction = reductionOf(reader);
  for (const char *key : {"embed_sdp", "vocab_sdp"})
    endsZero3 |= reader.toggle(key, false);
}

void ReferenceReader::readSchedule() {
  std::string type = reader.text("pipeline_type", "gpipe");
  if (type == "gpipe" || type == "pipedream_flush")
    plan.schedule = *parseSchedule(type);
  else
    reader.fail("key 'pipeline_type' expects gpipe or pipedream_flush, but got '" + type + "'");
}

void ReferenceReader::readZero() {
  std::string dpType = reader.text("default_dp_type", "ddp");
  level = dpType == "ddp" ? 0 : dpType == "zero2" ? 2 : dpType == "zero3" ? 3 : -1;
  if (level == 3 && target.asSearched)
    level = 2;
  if (level < 0)
    reader.fail("key 'default_dp_type' expects ddp, zero2 or zero3, but got '" + dpType + "'");
}

/// Of the `block`-th block, or of an end; ZeRO and reductions follow from dp.
Strategy ReferenceReader::strategyOf(const Layer &layer, std::size_t block) const {
  Strategy s;
  bool isBlock = layer.role == LayerRole::Block;
  int size = isBlock ? lists.degree[block] : vtp;
  (isBlock ? lists.sp[block] : int(vsp)) ? s.ulysses = size : s.tp = size;
  s.cp = isBlock ? lists.cp[block] : vcp;
  s.ep = isBlock ? lists.ep[block] : 1;
  s.recompute = isBlock && lists.recompute[block];
  s.strided = isBlock && s.tp > 1 && !lists.consecutive[block];
  return s;
}

Result<PlannedLayer> ReferenceReader::planLayer(const Layer &layer, std::size_t block) const {
  if (!layer.block.empty())
    return Error{"plan in the reference's format has whole layers, but this program has '" + layer.path +
                 "', half of '" + layer.block + "'; start from the model as it was imported"};
  PlannedLayer planned{layer.path, layer.layerType, layer.role, strategyOf(layer, block), 1, 0};
  Strategy &s = planned.strategy;
  bool isBlock = layer.role == LayerRole::Block;
  if (isBlock && lists.etp[block] != 1 && lists.etp[block] != s.tp)
    return Error{"plan key 'tp_of_ep_sizes_enc' expects 1 or the layer's tp " + number(s.tp) + ", but layer " +
                 number(std::int64_t(block)) + " has " + number(lists.etp[block])};
  std::int64_t stageRanks = plan.ranksPerStage(), model = s.modelRanks();
  if (model > stageRanks || stageRanks % model)
    return Error{"plan key '" +
                 std::string(s.cp > 1  ? (isBlock ? "cp_sizes_enc" : "vcp")
                             : isBlock ? "tp_sizes_enc"
                                       : "vtp") +
                 "' expects degrees that divide the stage's " + number(stageRanks) +
                 " ranks (world_size / pp_deg), but " +
                 (isBlock ? "layer " + number(std::int64_t(block)) : "'" + layer.path + "'") + " has " + number(model) +
                 "; lower the degree or pp_deg"};
  planned.dp = int(stageRanks / model);
  s.zero = zeroLevel(level, isBlock ? lists.zero3[block] : endsZero3, planned);
  s.reduceEveryMicroBatch = s.shardRanks(planned.dp) > 1 ? reduction : 0;
  planned.stage = layer.role == LayerRole::Embedding ? 0
                  : layer.role == LayerRole::Head    ? plan.pipeline - 1
                                                     : stages[block];
  return planned;
}

Result<Plan> ReferenceReader::read() {
  readLists();
  readWhole();
  if (auto error = reader.finish())
    return *error;
  if (plan.ranks % plan.pipeline)
    return Error{"plan key 'pp_deg' expects a divisor of the " + number(plan.ranks) + " ranks, but got " +
                 number(plan.pipeline)};
  std::size_t block = 0;
  for (const Layer &layer : layersOf(target, layers)) {
    Result<PlannedLayer> planned = planLayer(layer, block);
    if (!planned)
      return planned.error();
    block += layer.role == LayerRole::Block;
    plan.layers.push_back(std::move(*planned));
  }
  return std::move(plan);
}

Result<Plan> readReferencePlan(const Json &json, const PlanTarget &target) {
  return ReferenceReader(json, target).read();
}

namespace {
/// The ends of a plan agree on one strategy, which the format can say once.
Result<const PlannedLayer *> onlyEnd(const Plan &plan) {
  const PlannedLayer *end = nullptr;
  for (const PlannedLayer &layer : plan.layers) {
    if (layer.role == LayerRole::Block)
      continue;
    if (end &&
        (end->strategy.modelRanks() != layer.strategy.modelRanks() || end->strategy.ulysses != layer.strategy.ulysses ||
         end->strategy.cp != layer.strategy.cp || (end->strategy.zero == 3) != (layer.strategy.zero == 3)))
      return Error{"the reference's format has one strategy for embedding and head, but '" + end->path + "' has " +
                   describe(end->strategy, end->dp) + " and '" + layer.path + "' has " +
                   describe(layer.strategy, layer.dp) + "; write this project's format"};
    end = &layer;
  }
  return end;
}
} // namespace

namespace {
/// A plan as lists with one entry a block.
class ReferenceWriter {
public:
  explicit ReferenceWriter(const Plan &plan) : plan(plan), layersOf(plan.pipeline, 0) {}
  Result<std::string> write();

private:
  std::optional<Error> check(const PlannedLayer &layer) const;
  std::optional<Error> readShards(const PlannedLayer &layer);
  void addBlock(const PlannedLayer &layer);
  nlohmann::ordered_json makeJson(const PlannedLayer *ends) const;

  const Plan &plan;
  std::vector<int> layersOf; ///< blocks of every stage
  std::string degree, consecutive, zero3, sp, checkpoint, cp, ep;
  bool hasCp = false, hasEp = false;
  int level = 0; ///< of ZeRO, of all layers that are not zero3
  bool isMixed = false;
  std::optional<int> reduction; ///< of all layers with gradients to reduce
};

void add(std::string &list, std::int64_t value) { list += (list.empty() ? "" : ",") + number(value); }
} // namespace

/// What the format cannot say of one layer.
std::optional<Error> ReferenceWriter::check(const PlannedLayer &layer) const {
  const Strategy &s = layer.strategy;
  if (s.tp > 1 && s.ulysses > 1)
    return Error{"the reference's format has tp or ulysses in a layer, but '" + layer.path +
                 "' has both; write this project's format"};
  if (s.keepGathered)
    return Error{"the reference's format has no word for keep_gathered, which '" + layer.path +
                 "' has; write this project's format"};
  int wanted = layer.role == LayerRole::Embedding ? 0 : plan.pipeline - 1;
  if (layer.role != LayerRole::Block && layer.stage != wanted)
    return Error{"the reference's format puts '" + layer.path + "' on stage " + number(wanted) + ", but the plan on " +
                 number(layer.stage) + "; write this project's format"};
  return std::nullopt;
}

/// What all layers that share gradients must say alike.
std::optional<Error> ReferenceWriter::readShards(const PlannedLayer &layer) {
  const Strategy &s = layer.strategy;
  if (!layer.block.empty())
    return Error{"the reference's format has one strategy for a layer, but the plan has one for '" + layer.path +
                 "', half of '" + layer.block + "'; write this project's format"};
  if (s.shardRanks(layer.dp) == 1)
    return std::nullopt;
  if (s.zero != 3) {
    isMixed |= level && s.zero != level;
    level = std::max(level, s.zero);
  }
  if (reduction.value_or(s.reduceEveryMicroBatch) != s.reduceEveryMicroBatch)
    return Error{"the reference's format has one async_grad_reduce for all layers, but '" + layer.path +
                 "' has another reduce_every_micro_batch than the layers before; write this project's format"};
  reduction = s.reduceEveryMicroBatch;
  return std::nullopt;
}

void ReferenceWriter::addBlock(const PlannedLayer &layer) {
  const Strategy &s = layer.strategy;
  ++layersOf[layer.stage];
  add(degree, std::max(s.tp, s.ulysses));
  add(consecutive, !s.strided);
  add(zero3, s.shardRanks(layer.dp) > 1 && s.zero == 3);
  add(sp, s.ulysses > 1);
  add(checkpoint, s.recompute);
  add(cp, s.cp);
  add(ep, s.ep);
  hasCp |= s.cp > 1;
  hasEp |= s.ep > 1;
}

/// `ends`: what embedding and head have; null where the plan has neither.
nlohmann::ordered_json ReferenceWriter::makeJson(const PlannedLayer *ends) const {
  std::string division;
  for (int count : layersOf)
    add(division, count);
  nlohmann::ordered_json json = {{"pp_deg", plan.pipeline},
                                 {"tp_sizes_enc", degree},
                                 {"tp_consecutive_flags", consecutive},
                                 {"dp_types_enc", zero3},
                                 {"use_sp", sp},
                                 {"checkpoint", checkpoint},
                                 {"world_size", plan.ranks},
                                 {"global_bsz", plan.globalBatch},
                                 {"chunks", plan.microBatches},
                                 {"pp_division", division},
                                 {"pipeline_type", plan.schedule == Schedule::GPipe ? "gpipe" : "pipedream_flush"},
                                 {"default_dp_type", level ? "zero2" : "ddp"}};
  json["vtp"] = ends ? std::max(ends->strategy.tp, ends->strategy.ulysses) : 1;
  json["vsp"] = ends && ends->strategy.ulysses > 1 ? 1 : 0;
  json["embed_sdp"] = ends && ends->strategy.zero == 3 ? 1 : 0;
  if (reduction.value_or(0))
    json["async_grad_reduce"] = *reduction == 1;
  if (hasCp)
    json["cp_sizes_enc"] = cp;
  if (ends && ends->strategy.cp > 1)
    json["vcp"] = ends->strategy.cp;
  if (hasEp)
    json["ep_sizes_enc"] = ep;
  return json;
}

Result<std::string> ReferenceWriter::write() {
  if (plan.schedule != Schedule::GPipe && plan.schedule != Schedule::OneFOneB)
    return Error{"the reference's format has no schedule '" + std::string(scheduleName(plan.schedule)) +
                 "'; write this project's format"};
  Result<const PlannedLayer *> ends = onlyEnd(plan);
  if (!ends)
    return ends.error();
  for (const PlannedLayer &layer : plan.layers) {
    if (auto error = readShards(layer))
      return *error;
    if (auto error = check(layer))
      return *error;
    if (layer.role == LayerRole::Block)
      addBlock(layer);
  }
  if (level == 1 || isMixed)
    return Error{"the reference's format has ddp or zero2 for all layers that are not zero3; "
                 "write this project's format"};
  return makeJson(*ends).dump(4) + "\n";
}

Result<std::string> writeReferencePlan(const Plan &plan) { return ReferenceWriter(plan).write(); }

} // namespace galvatron::search
