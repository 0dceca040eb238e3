//===- PlanFile.cpp - This project's plan.json ----------------------------===//

#include "NcclKey.h"
#include "PlanFormats.h"
#include "galvatron/Search/Formats/StrategyText.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>
#include <set>
#include <utility>

namespace galvatron::search {

//===----------------------------------------------------------------------===//
// This project's format, reading
//===----------------------------------------------------------------------===//

namespace {
std::string number(std::int64_t value) { return std::to_string(value); }

const std::map<std::string, LayerRole> kRoles = {
    {"embedding", LayerRole::Embedding}, {"layer", LayerRole::Block}, {"head", LayerRole::Head}};

std::string roleName(LayerRole role) {
  for (const auto &[name, value] : kRoles)
    if (value == role)
      return name;
  return "layer";
}

int degree(JsonReader &reader, const char *key, std::int64_t fallback = 1) {
  return int(reader.integer(key, fallback, 1, kMostOfAnything));
}

std::vector<std::string> readNames(JsonReader &reader, const std::string &key) {
  const Json *values = reader.member(key.c_str());
  if (!values)
    return {};
  bool names = values->is_array();
  for (std::size_t i = 0; names && i < values->size(); ++i)
    names = (*values)[i].is_string();
  if (names)
    return values->get<std::vector<std::string>>();
  reader.fail("key '" + key + "' expects a list of names, but got " + describeJson(*values));
  return {};
}

/// The number of the word that is given, from 1; 0: left out.
std::int64_t readChoice(JsonReader &reader, const plan::Dimension &row) {
  std::string key(row.key);
  if (!reader.has(key.c_str()))
    return 0;
  if (row.isBoolean())
    return reader.flag(key.c_str()) ? 2 : 1;
  std::string word = reader.text(key.c_str());
  for (std::int64_t choice = 1; choice <= row.most; ++choice)
    if (word == plan::getWord(row.word, choice))
      return choice;
  reader.fail("key '" + key + "' expects one of " + std::string(row.word) + ", but got '" + word + "'");
  return 0;
}

std::optional<Error> readStrategy(const Json &value, const std::string &where, PlannedLayer &layer) {
  JsonReader reader(value, where);
  plan::StrategyValues values;
  for (const plan::Dimension &row : plan::kDimensions) {
    std::string key(row.key);
    std::int64_t &into = values.*row.value;
    switch (row.kind) {
    case plan::DimensionKind::Rest:
      into = reader.has(key.c_str()) ? degree(reader, key.c_str()) : 0; // 0: implied
      break;
    case plan::DimensionKind::Degree:
    case plan::DimensionKind::Part:
      into = degree(reader, key.c_str());
      break;
    case plan::DimensionKind::Flag:
      into = reader.flag(key.c_str(), false);
      break;
    case plan::DimensionKind::Level:
      into = reader.integer(key.c_str(), 0);
      if (into > row.most)
        reader.fail("key '" + key + "' expects 0, 1, 2 or 3, but got " + number(into));
      into = std::min(into, row.most);
      break;
    case plan::DimensionKind::Choice:
      into = readChoice(reader, row);
      break;
    case plan::DimensionKind::Set:
      layer.recomputeValues = readNames(reader, key);
      break;
    }
  }
  layer.strategy = strategyOf(values);
  layer.dp = int(values.dp);
  if (reader.has("split_backward"))
    layer.splitBackward = reader.flag("split_backward");
  return reader.finish();
}

std::optional<Error> readLayer(const Json &value, std::size_t index, const PlanTarget &target, PlannedLayer &layer) {
  JsonReader reader(value, "plan layer " + number(index));
  layer.path = reader.text("path");
  layer.layerType = reader.text("layer_type", "");
  std::string role = reader.text("role", "layer");
  if (auto at = kRoles.find(role); at != kRoles.end())
    layer.role = at->second;
  else
    reader.fail("key 'role' expects embedding, layer or head, but got " + describeJson(*reader.member("role")));
  for (const Layer &known : target.layers)
    if (known.path == layer.path && reader.has("role") && known.role != layer.role)
      reader.fail("key 'role' expects " + roleName(known.role) + ", which the model's '" + layer.path +
                  "' is, but got " + describeJson(*reader.member("role")) + "; was the plan made for another model?");
  layer.stage = int(reader.integer("stage", 0, 0, kMostOfAnything));
  if (reader.has("chunk"))
    layer.chunk = int(reader.integer("chunk", 0, 0, kMostOfAnything));
  static const Json empty = Json::object();
  const Json *strategy = reader.member("strategy");
  if (auto error = reader.finish())
    return error;
  return readStrategy(strategy ? *strategy : empty, "plan layer '" + layer.path + "' strategy", layer);
}

std::vector<std::int64_t> readBytesPerRank(JsonReader &reader, const char *key, std::int64_t ranks) {
  std::vector<std::int64_t> result;
  const Json *list = reader.member(key);
  if (!list)
    return result;
  if (!list->is_array() || (!list->empty() && std::int64_t(list->size()) != ranks)) {
    reader.fail("key '" + std::string(key) + "' expects a list with one entry for each of " + number(ranks) +
                " ranks, but got " + describeJson(*list));
    return result;
  }
  for (const Json &bytes : *list) {
    if (!bytes.is_number_integer() || bytes.get<std::int64_t>() < 0)
      reader.fail("key '" + std::string(key) + "' expects integers of at least 0, but got " + describeJson(bytes));
    else
      result.push_back(bytes.get<std::int64_t>());
  }
  return result;
}

/// Whether it fits the ranks is for `validatePlan` to say.
plan::Mesh readMesh(JsonReader &reader) {
  const Json *list = reader.member("mesh");
  if (!list)
    return {};
  bool integers = list->is_array();
  for (std::size_t i = 0; integers && i < list->size(); ++i)
    integers = (*list)[i].is_number_integer();
  if (integers)
    return list->get<plan::Mesh>();
  reader.fail("key 'mesh' expects a list of integers, but got " + describeJson(*list));
  return {};
}

double readSeconds(JsonReader &reader, const char *key) {
  double seconds = reader.number(key, 0.0);
  if (seconds < 0)
    reader.fail("key '" + std::string(key) + "' expects at least 0, but got " + describeJson(*reader.member(key)));
  return seconds;
}

Result<Plan> readOwn(const Json &json, const PlanTarget &target) {
  JsonReader reader(json, "plan");
  Plan plan;
  if (std::string format = reader.text("format", "galvatron-plan"); format != "galvatron-plan")
    reader.fail("key 'format' expects 'galvatron-plan', but got '" + format + "'");
  if (std::int64_t version = reader.integer("version", 1, 1); version != 1)
    reader.fail("key 'version' expects 1, but got " + number(version));
  plan.ranks = reader.integer("ranks", target.impliedRanks(), 1, kMostOfAnything);
  expectTargetRanks(reader, "ranks", plan.ranks, target);
  plan.globalBatch = reader.integer("global_batch", target.impliedGlobalBatch(), 1, kMostOfAnything);
  expectTargetBatch(reader, "global_batch", plan.globalBatch, target);
  plan.microBatches = int(reader.integer("micro_batches", 1, 1, kMostMicroBatches));
  std::string schedule = reader.text("schedule", "1f1b");
  if (auto known = parseSchedule(schedule))
    plan.schedule = *known;
  else
    reader.fail("key 'schedule' expects gpipe, 1f1b, interleaved, zb-h1 or zb-v, but got '" + schedule + "'");
  plan.virtualStages = degree(reader, "virtual_stages", plan.schedule == Schedule::ZeroBubbleV ? 2 : 1);
  plan.mesh = readMesh(reader);
  plan.predictedStepSeconds = readSeconds(reader, "predicted_step_seconds");
  // The prediction is of the program that it lowered to, which another one may not be; the search's own stays.
  if (reader.has("estimated_step_seconds"))
    plan.predictedStepSeconds = readSeconds(reader, "estimated_step_seconds");
  plan.peakBytesPerRank = readBytesPerRank(reader, "peak_bytes_per_rank", plan.ranks);
  plan.overheadBytesPerRank = readBytesPerRank(reader, "reserved_bytes_per_rank", plan.ranks);
  std::optional<Error> ncclError;
  plan.nccl = readNccl(reader, "plan", std::nullopt, ncclError);
  if (ncclError)
    return *ncclError;
  reader.member("recomputable_values");                              // written for people, the model's
  (void)readBytesPerRank(reader, "host_bytes_per_rank", plan.ranks); // of a lowered plan, which makes it anew
  reader.member("memory_per_stage");                                 // written for people, derived
  reader.member("model_flops_per_step");                             // written for the runtime, the model's
  reader.member("peak_flops_per_second");                            // likewise, the cluster's
  reader.member("devices_per_node");                                 // likewise, for launch
  reader.member("reasons");
  const Json *layers = reader.member("units");
  if (!layers || !layers->is_array() || layers->empty())
    reader.fail("key 'units' expects a list of at least one layer");
  else
    for (const Json &value : *layers) {
      plan.layers.emplace_back();
      if (auto error = readLayer(value, plan.layers.size() - 1, target, plan.layers.back()))
        return *error;
    }
  // Layers stand in any order.
  std::set<int> stages = {0};
  for (const PlannedLayer &layer : plan.layers)
    stages.insert(layer.stage);
  plan.pipeline = degree(reader, "pipeline", *stages.rbegin() + 1);
  for (int stage = 0; stage < *stages.rbegin(); ++stage)
    if (!stages.contains(stage)) {
      reader.fail("key 'units' expects layers on each stage up to the last, " + number(*stages.rbegin()) +
                  ", but stage " + number(stage) + " is empty; number the stages one by one from 0");
      break;
    }
  if (auto error = reader.finish())
    return *error;
  for (PlannedLayer &layer : plan.layers)
    if (!layer.dp) // implied; validatePlan complains if this does not come out even
      layer.dp = int(std::max<std::int64_t>(1, plan.ranksPerStage() / layer.strategy.modelRanks()));
  return plan;
}

/// Insertions, deletions and substitutions of letters that make one name the other (Levenshtein).
int editDistance(std::string_view from, std::string_view to) {
  std::vector<int> row(to.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < from.size(); ++i) {
    int diagonal = std::exchange(row[0], int(i) + 1);
    for (std::size_t j = 0; j < to.size(); ++j)
      diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, diagonal + (from[i] != to[j])}));
  }
  return row.back();
}

/// What to do about a name that the model does not have: names that are near, or the model's first and last.
std::string suggestLayers(const std::string &path, const std::vector<Layer> &layers) {
  int nearest = int(path.size()) / 3 + 1;
  std::vector<std::string> names;
  for (const Layer &layer : layers) {
    int distance = editDistance(path, layer.path);
    if (distance > nearest)
      continue;
    if (distance < nearest)
      names.clear();
    nearest = distance;
    names.push_back("'" + layer.path + "'");
  }
  if (names.empty())
    return "; remove it: the model's first layer is '" + layers.front().path + "', its last '" + layers.back().path +
           "'";
  std::string text = "; remove it, or did you mean " + names.front();
  for (std::size_t i = 1; i < std::min<std::size_t>(names.size(), 3); ++i)
    text += " or " + names[i];
  return text + "?";
}

constexpr std::string_view kLayers = "layers.";

/// "layers.3", or "layers.3.mlp" of a part of it.
struct NumberedName {
  std::int64_t number;
  std::string part;
};

std::optional<NumberedName> parseNumber(const std::string &path) {
  if (path.rfind(kLayers, 0) != 0)
    return std::nullopt;
  NumberedName name{-1, ""};
  const char *first = path.data() + kLayers.size(), *end = path.data() + path.size();
  auto [stop, code] = std::from_chars(first, end, name.number);
  if (code != std::errc() || name.number < 0 || (stop != end && (*stop != '.' || stop + 1 == end)))
    return std::nullopt;
  if (stop != end)
    name.part.assign(stop + 1, end);
  return name;
}

/// The path of the layer, of a half that of the whole.
const std::string &wholePath(const Layer &layer) { return layer.block.empty() ? layer.path : layer.block; }

/// Paths of the blocks in the order of execution, halves together.
std::vector<std::string> blockPaths(const std::vector<Layer> &layers) {
  std::vector<std::string> paths;
  for (const Layer &layer : layers)
    if (layer.role == LayerRole::Block && (layer.block.empty() || paths.empty() || paths.back() != layer.block))
      paths.push_back(wholePath(layer));
  return paths;
}

/// The model's layers of a name that says role and number, as `galvatron-search` writes it for a model of which it
/// knows sizes alone: "embedding", "layers.3", "head"; of a half "layers.3.mlp".
Result<std::vector<const Layer *>> findByRole(const std::string &path, const std::vector<Layer> &layers) {
  std::optional<NumberedName> numbered = parseNumber(path);
  std::string role = numbered ? "layer" : path == "embedding" || path == "head" ? path : "";
  std::vector<const Layer *> found;
  auto known = kRoles.find(role);
  if (known == kRoles.end())
    return found;
  std::vector<std::string> blocks = blockPaths(layers);
  bool isThere = numbered && numbered->number < std::int64_t(blocks.size());
  std::string wanted = isThere ? blocks[numbered->number] + (numbered->part.empty() ? "" : "." + numbered->part) : "";
  for (const Layer &layer : layers)
    if (layer.role == known->second && (!numbered || layer.path == wanted))
      found.push_back(&layer);
  if (found.empty() && !isThere) {
    std::int64_t count = numbered ? std::int64_t(blocks.size()) : 0;
    return Error{"plan names a layer '" + path + "', but the model has " + number(count) + " layers of role '" + role +
                 "'" + (count ? ", layers.0 to layers." + number(count - 1) : "") +
                 "; was the plan made for another model?"};
  }
  return found;
}

/// What a name that no layer has may mean where layers are cut in two, or could be.
std::optional<Error> explainHalves(const std::string &path, const std::vector<Layer> &layers) {
  std::string halves;
  for (const Layer &layer : layers)
    if (!layer.block.empty() && isNameOf(path, layer, layers))
      halves += (halves.empty() ? "'" : " and '") + layer.path + "'";
  if (!halves.empty())
    return Error{"plan lists the layer '" + path + "', which this program has as its halves " + halves +
                 "; list these, or start from the model as it was imported"};
  if (std::optional<LayerPart> part = findPart(path, layers))
    return Error{"plan lists '" + path + "', a submodule of layer '" + part->layer->path +
                 "', which this program has as a whole; list the layer, or start from the model as it was imported, "
                 "which a plan may still cut in two"};
  return std::nullopt;
}

/// The plan's layers in the order of the target's, taking names, types and roles from the target.
std::optional<Error> matchLayers(Plan &plan, const PlanTarget &target) {
  if (target.layers.empty())
    return std::nullopt;
  std::map<std::string, const PlannedLayer *> byPath;
  for (const PlannedLayer &layer : plan.layers) {
    std::vector<const Layer *> found;
    for (const Layer &known : target.layers)
      if (known.path == layer.path)
        found = {&known};
    if (found.empty()) {
      Result<std::vector<const Layer *>> byRole = findByRole(layer.path, target.layers);
      if (!byRole)
        return byRole.error();
      found = *byRole;
    } else if (!layer.layerType.empty() && layer.layerType != found.front()->layerType)
      return Error{"plan layer '" + layer.path + "' expects layer_type '" + found.front()->layerType + "', but got '" +
                   layer.layerType + "'; was the plan made for another model?"};
    if (found.empty())
      if (std::optional<Error> error = explainHalves(layer.path, target.layers))
        return error;
    if (found.empty())
      return Error{"plan names a layer '" + layer.path + "' that the model does not have" +
                   suggestLayers(layer.path, target.layers)};
    for (const Layer *known : found)
      if (auto [at, isNew] = byPath.emplace(known->path, &layer); !isNew)
        return Error{"plan lists the layer '" + known->path + "' twice, as '" + at->second->path + "' and as '" +
                     layer.path + "'; keep one"};
  }
  std::vector<PlannedLayer> ordered;
  for (const Layer &layer : target.layers) {
    auto at = byPath.find(layer.path);
    if (at == byPath.end())
      return Error{"plan lacks a layer '" + layer.path + "' (the model has " + number(target.layers.size()) +
                   " layers, the plan " + number(plan.layers.size()) + "); add it to 'units'"};
    PlannedLayer planned = *at->second;
    planned.path = layer.path;
    planned.layerType = layer.layerType;
    planned.role = layer.role;
    planned.block = layer.block;
    ordered.push_back(std::move(planned));
  }
  plan.layers = std::move(ordered);
  return std::nullopt;
}
} // namespace

Result<Strategy> parseStrategy(std::string_view text, const std::string &where) {
  Result<Json> json = parseJson(text, where);
  if (!json)
    return json.error();
  PlannedLayer layer;
  if (std::optional<Error> error = readStrategy(*json, where, layer))
    return *error;
  return layer.strategy;
}

std::vector<std::string> readLayerNames(std::string_view text) {
  Result<Json> json = parseJson(text, "plan");
  std::vector<std::string> names;
  if (!json || !json->is_object() || !json->contains("units") || !(*json)["units"].is_array())
    return names;
  for (const Json &layer : (*json)["units"])
    if (layer.is_object() && layer.contains("path") && layer["path"].is_string())
      names.push_back(layer["path"]);
  return names;
}

namespace {
/// The path of the block that a name gives the number of; empty if it gives none, or none that there is.
std::string numberedBlock(const std::optional<NumberedName> &name, const std::vector<Layer> &layers) {
  std::vector<std::string> blocks = name ? blockPaths(layers) : std::vector<std::string>();
  return name && name->number < std::int64_t(blocks.size()) ? blocks[name->number] : "";
}
} // namespace

std::optional<LayerPart> findPart(const std::string &name, const std::vector<Layer> &layers) {
  std::vector<std::string> paths = {name};
  if (std::optional<NumberedName> numbered = parseNumber(name); numbered && !numbered->part.empty())
    if (std::string block = numberedBlock(numbered, layers); !block.empty())
      paths.push_back(block + "." + numbered->part);
  for (const std::string &path : paths) {
    std::optional<LayerPart> found;
    for (const Layer &layer : layers) {
      if (layer.path == path)
        return std::nullopt;
      if (path.rfind(layer.path + ".", 0) == 0 && (!found || found->layer->path.size() < layer.path.size()))
        found = {&layer, path.substr(layer.path.size() + 1)};
    }
    if (found)
      return found;
  }
  return std::nullopt;
}

bool isNameOf(const std::string &name, const Layer &layer, const std::vector<Layer> &layers) {
  if (name == wholePath(layer))
    return true;
  std::optional<NumberedName> numbered = parseNumber(name);
  return numbered && numbered->part.empty() && numberedBlock(numbered, layers) == wholePath(layer);
}

void expectTargetRanks(JsonReader &reader, const char *key, std::int64_t ranks, const PlanTarget &target) {
  if (target.ranks && ranks != target.ranks)
    reader.fail("key '" + std::string(key) + "' expects the cluster's " + number(target.ranks) + " ranks, but got " +
                number(ranks));
}

void expectTargetBatch(JsonReader &reader, const char *key, std::int64_t batch, const PlanTarget &target) {
  if (target.globalBatch && batch != target.globalBatch)
    reader.fail("key '" + std::string(key) + "' expects the global batch " + number(target.globalBatch) +
                " that was asked for, but got " + number(batch));
}

Result<Plan> parsePlan(std::string_view text, const PlanTarget &target) {
  Result<Json> json = parseJson(text, "plan");
  if (!json)
    return json.error();
  bool reference = json->is_object() && json->contains("pp_deg");
  if (!reference && !(json->is_object() && json->contains("units")))
    return Error{"plan expects an object with 'units' (this project's format) or 'pp_deg' "
                 "(Hetu-Galvatron's), but has neither"};
  Result<Plan> plan = reference ? readReferencePlan(*json, target) : readOwn(*json, target);
  if (!plan)
    return plan;
  if (!reference) {
    // Duplicates would vanish in the match below.
    std::map<std::string, int> paths;
    for (const PlannedLayer &layer : plan->layers)
      if (!paths.emplace(layer.path, 0).second)
        return Error{"plan lists the layer '" + layer.path + "' twice; keep one"};
    if (auto error = matchLayers(*plan, target))
      return *error;
  }
  if (Result<bool> valid = validatePlan(*plan, target.supportedOnly, target.unevenBatch); !valid)
    return valid.error();
  return plan;
}

//===----------------------------------------------------------------------===//
// This project's format, writing
//===----------------------------------------------------------------------===//

namespace {
using OrderedJson = nlohmann::ordered_json;

OrderedJson writeStrategy(const Strategy &strategy, int dp) {
  plan::StrategyValues values = valuesOf(strategy, dp);
  OrderedJson json;
  for (const plan::Dimension &row : plan::kDimensions) {
    bool isRare = &row == &plan::kDimensions[int(plan::DimensionId::Strided)] ||
                  &row == &plan::kDimensions[int(plan::DimensionId::Pad)];
    bool isChoice = row.kind == plan::DimensionKind::Choice;
    if (row.kind == plan::DimensionKind::Set || ((isRare || isChoice) && !row.isUsed(values)))
      continue;
    std::string key(row.key);
    if (row.kind == plan::DimensionKind::Flag)
      json[key] = row.isUsed(values);
    else if (isChoice && row.isBoolean())
      json[key] = values.*row.value == 2;
    else if (isChoice)
      json[key] = plan::getWord(row.word, values.*row.value);
    else
      json[key] = values.*row.value;
  }
  return json;
}

} // namespace

std::string formatStrategy(const Strategy &strategy, int dp) { return writeStrategy(strategy, dp).dump(); }

namespace {
OrderedJson writeReason(const PlannedLayer &layer, const LayerReason &reason) {
  OrderedJson alternatives = OrderedJson::array();
  for (const LayerReason::Alternative &other : reason.alternatives)
    alternatives.push_back({{"strategy", writeStrategy(other.strategy, other.dp)},
                            {"text", describe(other.strategy, other.dp)},
                            {"extra_seconds", other.extraSeconds},
                            {"extra_bytes", other.extraBytes},
                            {"lost_by", other.lostBy}});
  return {{"path", layer.path},
          {"seconds",
           {{"forward", reason.forwardSeconds},
            {"backward", reason.backwardSeconds},
            {"recompute", reason.recomputeSeconds},
            {"communication", reason.communicationSeconds},
            {"redistribution", reason.redistributionSeconds},
            {"step", reason.stepSeconds}}},
          {"bytes",
           {{"state", reason.stateBytes}, {"activation", reason.activationBytes}, {"scratch", reason.scratchBytes}}},
          {"alternatives", alternatives}};
}
/// What binds, and what more would buy.
OrderedJson writeSummary(const Plan &plan) {
  const Reasons &reasons = plan.reasons;
  OrderedJson json = {
      {"notes", reasons.notes},
      {"slowest_stage", reasons.slowestStage},
      {"bubble", reasons.bubble},
      {"fullest_stage", reasons.fullestStage},
      {"free_bytes", reasons.freeBytes},
      {"memory_binds_at", reasons.memoryBindsAt.empty() ? OrderedJson() : OrderedJson(reasons.memoryBindsAt)}};
  for (auto [key, share] : {std::pair{"ten_percent_more_memory_saves", reasons.moreMemoryBuys},
                            {"ten_percent_more_bandwidth_saves", reasons.moreBandwidthBuys}})
    if (share >= 0)
      json[key] = share;
  if (const std::optional<ProfileReason> &profile = reasons.profile)
    json["profile"] = {{"file", profile->file},
                       {"fingerprint", profile->fingerprint},
                       {"measured_share", profile->measuredShare},
                       {"estimated", profile->estimated}};
  for (const LoweredPlan &each : reasons.lowered)
    json["lowered"].push_back({{"plan", each.plan},
                               {"seconds", each.seconds},
                               {"estimated_bytes", each.estimatedBytes},
                               {"bytes", each.bytes ? OrderedJson(each.bytes) : OrderedJson()},
                               {"lost_by", each.lostBy.empty() ? OrderedJson() : OrderedJson(each.lostBy)}});
  return json;
}
} // namespace

std::string writePlan(const Plan &plan, const std::vector<std::int64_t> &hostBytesPerRank) {
  // Written by hand at the top level so that a layer is one line to read.
  OrderedJson head = {{"format", "galvatron-plan"},
                      {"version", 1},
                      {"ranks", plan.ranks},
                      {"pipeline", plan.pipeline},
                      {"schedule", std::string(scheduleName(plan.schedule))},
                      {"global_batch", plan.globalBatch},
                      {"micro_batches", plan.microBatches},
                      {"predicted_step_seconds", plan.predictedSeconds()},
                      {"estimated_step_seconds", plan.predictedStepSeconds},
                      {"peak_bytes_per_rank", plan.peakBytesPerRank},
                      {"reserved_bytes_per_rank", plan.overheadBytesPerRank}};
  if (plan.nccl)
    head["nccl"] = writeNccl(*plan.nccl);
  if (!hostBytesPerRank.empty())
    head["host_bytes_per_rank"] = hostBytesPerRank;
  // Whole numbers, which a double holds nearly.
  if (plan.modelFlopsPerStep > 0)
    head["model_flops_per_step"] = std::uint64_t(plan.modelFlopsPerStep);
  if (plan.peakFlopsPerSecond > 0)
    head["peak_flops_per_second"] = std::uint64_t(plan.peakFlopsPerSecond);
  if (plan.devicesPerNode > 0)
    head["devices_per_node"] = plan.devicesPerNode;
  if (plan.virtualStages > 1)
    head["virtual_stages"] = plan.virtualStages;
  if (!plan.mesh.empty())
    head["mesh"] = plan.mesh;
  std::string text = "{\n";
  for (const auto &item : head.items())
    text += "  \"" + item.key() + "\": " + item.value().dump() + ",\n";
  text += "  \"units\": [";
  std::vector<int> parts = plan.partOfLayers();
  for (std::size_t index = 0; index < plan.layers.size(); ++index) {
    const PlannedLayer &layer = plan.layers[index];
    OrderedJson line = {
        {"path", layer.path}, {"layer_type", layer.layerType}, {"role", roleName(layer.role)}, {"stage", layer.stage}};
    if (plan.virtualStages > 1)
      line["chunk"] = plan.shape().chunkOf(parts[index]);
    line["strategy"] = writeStrategy(layer.strategy, layer.dp);
    if (layer.splitBackward)
      line["strategy"]["split_backward"] = *layer.splitBackward;
    if (!layer.recomputeValues.empty())
      line["strategy"]["recompute_values"] = layer.recomputeValues;
    text += (index ? ",\n    " : "\n    ") + line.dump();
  }
  text += "\n  ]";
  if (!plan.recomputableValues.empty())
    text += ",\n  \"recomputable_values\": " + OrderedJson(plan.recomputableValues).dump();
  if (!plan.stageMemory.empty()) {
    text += ",\n  \"memory_per_stage\": [";
    for (std::size_t stage = 0; stage < plan.stageMemory.size(); ++stage) {
      const StageMemory &memory = plan.stageMemory[stage];
      OrderedJson line = {{"state", memory.stateBytes},
                          {"activation", memory.activationBytes},
                          {"scratch", memory.scratchBytes},
                          {"reserved", memory.overheadBytes}};
      text += (stage ? ",\n    " : "\n    ") + line.dump();
    }
    text += "\n  ]";
  }
  if (!plan.reasons.layers.empty() || !plan.reasons.notes.empty()) {
    OrderedJson layers = OrderedJson::array();
    for (std::size_t index = 0; index < plan.reasons.layers.size(); ++index)
      layers.push_back(writeReason(plan.layers[index], plan.reasons.layers[index]));
    OrderedJson reasons = writeSummary(plan);
    reasons["units"] = layers;
    std::string dumped = reasons.dump(1);
    text += ",\n  \"reasons\": ";
    for (char c : dumped) {
      text += c;
      if (c == '\n')
        text += "  ";
    }
  }
  return text + "\n}\n";
}

} // namespace galvatron::search
