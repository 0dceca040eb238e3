//===- ReferenceConfig.cpp - Hetu-Galvatron's configuration groups --------===//
//
// The `inputs` object of a reference case, or the same groups at top level, in
// JSON or YAML. YAML is turned into JSON first, so that one strict reader
// serves both.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Reference/ReferenceProfile.h"
#include "lib/Search/Formats/JsonReader.h"
#include "lib/Search/Formats/YamlReader.h"

#include <algorithm>
#include <filesystem>

namespace galvatron::search {

namespace {
/// Of 1024 MB; the reference counts in whole MB.
constexpr std::int64_t kMostGigabytes = 1 << 18;
constexpr std::int64_t kMostLayers = 1 << 16;

/// Switches that the guides and the code name differently.
constexpr std::pair<const char *, const char *> kTwoNames[] = {
    {"disable_fsdp", "disable_sdp"},
    {"disable_embedding_lmhead_tp", "disable_vtp"},
    {"disable_embedding_lmhead_sp", "disable_vsp"},
};

int readInt(JsonReader &reader, const char *key, int fallback, int smallest, std::int64_t largest = kMostOfAnything) {
  return int(reader.integer(key, fallback, smallest, largest));
}

/// Two names of one switch: the guides' and the code's.
bool readEither(JsonReader &reader, const char *key, const char *other, bool fallback) {
  bool value = reader.toggle(key, fallback), same = reader.toggle(other, value);
  if (reader.has(key) && same != value)
    reader.fail(std::string("keys '") + key + "' and '" + other + "' name one switch, but differ; keep one");
  return same;
}

std::string readWord(JsonReader &reader, const char *key, const std::string &fallback,
                     std::initializer_list<const char *> allowed) {
  std::string word = reader.text(key, fallback), list;
  for (const char *name : allowed) {
    if (word == name)
      return word;
    list += (list.empty() ? "" : ", ") + std::string(name);
  }
  reader.fail(std::string("key '") + key + "' expects one of " + list + ", but got '" + word + "'");
  return fallback;
}

/// A text member that may be null.
std::string optionalText(JsonReader &reader, const char *key) {
  const Json *member = reader.member(key);
  return !member || member->is_null() ? "" : reader.text(key, "");
}

/// A key that is accepted because the reference's files have it and that the
/// search does not need.
void ignore(JsonReader &reader, std::initializer_list<const char *> keys) {
  for (const char *key : keys)
    reader.member(key);
}

using Reader = void (*)(JsonReader &, ReferenceArguments &);

void readBatch(JsonReader &reader, ReferenceArguments &a) {
  a.minBatch = readInt(reader, "min_bsz", a.minBatch, 1);
  a.maxBatch = readInt(reader, "max_bsz", a.maxBatch, 1);
  a.batchStep = readInt(reader, "bsz_scale", a.batchStep, 1);
  a.settledBatch = readInt(reader, "settle_bsz", a.settledBatch, -1);
  a.settledChunks = readInt(reader, "settle_chunk", a.settledChunks, -1);
  ignore(reader, {"recommend_min_bsz"});
}

void readHardware(JsonReader &reader, ReferenceArguments &a) {
  a.nodes = readInt(reader, "num_nodes", a.nodes, 1);
  a.devicesPerNode = readInt(reader, "num_gpus_per_node", a.devicesPerNode, 1);
  a.memoryGB = readInt(reader, "memory_constraint", a.memoryGB, 1, kMostGigabytes);
}

void readSpace(JsonReader &reader, ReferenceArguments &a) {
  a.disableDp = reader.toggle("disable_dp", a.disableDp);
  a.disableTp = reader.toggle("disable_tp", a.disableTp);
  a.disableSp = reader.toggle("disable_sp", a.disableSp);
  a.disablePp = reader.toggle("disable_pp", a.disablePp);
  a.disableCheckpoint = reader.toggle("disable_ckpt", a.disableCheckpoint);
  a.disableFsdp = readEither(reader, "disable_fsdp", "disable_sdp", a.disableFsdp);
  a.disableCp = reader.toggle("disable_cp", a.disableCp);
  a.disableEndsTp = readEither(reader, "disable_embedding_lmhead_tp", "disable_vtp", a.disableEndsTp);
  a.disableEndsSp = readEither(reader, "disable_embedding_lmhead_sp", "disable_vsp", a.disableEndsSp);
  a.maxTp = readInt(reader, "max_tp_deg", a.maxTp, 1);
  a.maxPp = readInt(reader, "max_pp_deg", a.maxPp, 1);
  a.maxSp = readInt(reader, "max_sp_deg", a.maxSp, 1);
  a.maxCp = readInt(reader, "max_cp_deg", a.maxCp, 1);
  ignore(reader, {"disable_tp_consec"});
}

void readProfiling(JsonReader &reader, ReferenceArguments &a) {
  a.timeMode = readWord(reader, "time_profile_mode", a.timeMode, {"static", "batch", "sequence"});
  a.memoryMode = readWord(reader, "memory_profile_mode", a.memoryMode, {"static", "sequence"});
  a.profileDpType = readWord(reader, "profile_dp_type", a.profileDpType, {"zero3", "ddp"});
  a.timeFile = optionalText(reader, "time_profiling_path");
  a.memoryFile = optionalText(reader, "memory_profiling_path");
  a.allReduceFile = optionalText(reader, "allreduce_bandwidth_config_path");
  a.p2pFile = optionalText(reader, "p2p_bandwidth_config_path");
  a.overlapFile = optionalText(reader, "overlap_coe_path");
  a.spTimeFile = optionalText(reader, "sp_time_path");
}

void readOptions(JsonReader &reader, ReferenceArguments &a) {
  a.fineGrained = reader.toggle("fine_grained_mode", a.fineGrained);
  a.outputPath = optionalText(reader, "output_config_path");
  ignore(reader, {"parallel_search", "worker", "log_dir"});
}

void readParallelism(JsonReader &reader, ReferenceArguments &a) {
  a.defaultDpType = readWord(reader, "default_dp_type", a.defaultDpType, {"ddp", "zero2", "zero3"});
  a.pipelineType = readWord(reader, "pipeline_type", a.pipelineType, {"gpipe", "pipedream_flush"});
  a.mixedPrecision = readWord(reader, "mixed_precision", a.mixedPrecision, {"fp32", "fp16", "bf16"});
  a.asyncGradReduce = reader.toggle("async_grad_reduce", a.asyncGradReduce);
}

void readTrain(JsonReader &reader, ReferenceArguments &a) {
  a.sequenceParallel = reader.toggle("sequence_parallel", a.sequenceParallel);
  a.globalMemoryBuffer = reader.toggle("global_memory_buffer", a.globalMemoryBuffer);
  if (reader.has("seq_length"))
    a.sequenceLength = readInt(reader, "seq_length", 1, 1);
}

void readDebug(JsonReader &reader, ReferenceArguments &a) {
  a.costCoefficient = reader.positive("debug_costmodel_coe", a.costCoefficient);
}

struct ArgumentGroup {
  const char *name;
  Reader read;
};

const ArgumentGroup kGroups[] = {
    {"batch_size_info", readBatch},    {"hardware_info", readHardware}, {"search_space_info", readSpace},
    {"profiling_info", readProfiling}, {"options_info", readOptions},   {"parallelism_info", readParallelism},
    {"common_train_info", readTrain},  {"debug_info", readDebug},
};

/// `{"name", "hidden_size", "num_layers", "seq_length"}`; the reference's own
/// file calls the first two differently.
std::optional<Error> readModel(const Json &json, ReferenceArguments &a) {
  JsonReader reader(json, "config model");
  const char *name = reader.has("model_name") ? "model_name" : "name";
  a.modelName = reader.text(name);
  a.hiddenSize = reader.integer("hidden_size", {}, 1, kMostOfAnything);
  const char *layers = reader.has("num_hidden_layers") ? "num_hidden_layers" : "num_layers";
  a.layers = readInt(reader, layers, reader.has(layers) ? 1 : 0, 1, kMostLayers);
  if (!reader.has(layers))
    reader.fail("lacks the key 'num_layers'");
  const char *length = reader.has("max_sequence_length") ? "max_sequence_length" : "seq_length";
  if (reader.has(length))
    a.sequenceLength = readInt(reader, length, 1, 1);
  // Shape facts of the model that the profiles already contain.
  ignore(reader, {"model_type", "model_size", "num_attention_heads", "num_query_groups", "ffn_hidden_size",
                  "vocab_size", "padded_vocab_size"});
  return reader.finish();
}

/// Puts the members of each group of `changes` into the group of that name,
/// where the config has it: under "args" or at top level.
void override(Json &config, const Json &changes) {
  if (!config.is_object())
    return; // the reader complains
  for (const auto &group : changes.items()) {
    if (!group.value().is_object()) {
      config[group.key()] = group.value();
      continue;
    }
    std::string name = group.key();
    if (name == "model" && config.contains("model_info"))
      name = "model_info";
    bool nested = config.contains("args") && config["args"].is_object() && name != "model" && name != "model_info";
    Json &target = (nested ? config["args"] : config)[name];
    if (target.is_null())
      target = Json::object();
    if (!target.is_object())
      continue;
    // What is said now holds under either name.
    for (auto [name, other] : kTwoNames)
      for (auto [said, silent] : {std::pair{name, other}, {other, name}})
        if (group.value().contains(said) && !group.value().contains(silent))
          target.erase(silent);
    target.update(group.value());
  }
}

std::string resolve(const std::string &path, const std::string &root) {
  if (path.empty() || std::filesystem::path(path).is_absolute() || root.empty())
    return path;
  return (std::filesystem::path(root) / path).string();
}

/// The arguments in a file, with `overrides` in their place: a whole reference case carries its inputs beside its
/// results, a configuration of its tools has one group above all others.
Result<Json> findArguments(const Json &file, std::string_view overrides) {
  Json found = file;
  if (file.is_object() && file.contains("inputs"))
    found = Json(file["inputs"]);
  else if (file.is_object() && file.size() == 1 && file.begin()->is_object() &&
           (file.contains("search_engine") || file.contains("search")))
    found = Json(*file.begin());
  if (!overrides.empty()) {
    Result<Json> changes = parseJson(overrides, "options");
    if (!changes)
      return changes.error();
    override(found, *changes);
  }
  return found;
}

/// Groups stand at top level or in `args`; `nested` reads those, if there are any. The first error within a group.
std::optional<Error> readGroups(JsonReader &reader, std::optional<JsonReader> &nested, ReferenceArguments &arguments) {
  std::optional<Error> first;
  for (const ArgumentGroup &group : kGroups)
    for (JsonReader *holder : {&reader, nested ? &*nested : nullptr}) {
      const Json *value = holder ? holder->member(group.name) : nullptr;
      if (!value || value->is_null())
        continue;
      if (holder != &reader && reader.has(group.name))
        reader.fail(std::string("has the group '") + group.name + "' at top level and in 'args'; keep one");
      JsonReader groupReader(*value, std::string("config group '") + group.name + "'");
      group.read(groupReader, arguments);
      if (auto error = groupReader.finish(); error && !first)
        first = error;
    }
  return first;
}
} // namespace

Result<ReferenceArguments> parseReferenceConfig(std::string_view text, const std::string &root,
                                                std::string_view overrides) {
  std::size_t first = text.find_first_not_of(" \t\r\n");
  bool isJson = first != std::string_view::npos && text[first] == '{';
  Result<Json> json = isJson ? parseJson(text, "config") : parseYaml(text, "config");
  if (!json)
    return json.error();
  Result<Json> top = findArguments(*json, overrides);
  if (!top)
    return top.error();
  ReferenceArguments arguments;
  JsonReader reader(*top, "config");
  arguments.modelFolder = resolve(reader.text("profiles", ""), root);
  arguments.hardwareFolder = resolve(reader.text("hardware", ""), root);
  const Json *model = reader.member(reader.has("model_info") ? "model_info" : "model");
  if (!model)
    reader.fail("lacks the key 'model' (name, hidden_size, num_layers, seq_length)");
  std::optional<JsonReader> nested;
  if (const Json *args = reader.member("args"))
    nested.emplace(*args, "config args");
  std::optional<Error> groupError = readGroups(reader, nested, arguments);
  if (model)
    if (auto error = readModel(*model, arguments))
      return *error;
  if (auto error = reader.finish())
    return *error;
  if (nested)
    if (auto error = nested->finish())
      return *error;
  if (groupError)
    return *groupError;
  for (std::string *path : {&arguments.timeFile, &arguments.memoryFile, &arguments.allReduceFile, &arguments.p2pFile,
                            &arguments.overlapFile, &arguments.spTimeFile})
    *path = resolve(*path, root);
  if (Result<bool> valid = validateArguments(arguments); !valid)
    return valid.error();
  return arguments;
}

Result<bool> validateArguments(const ReferenceArguments &a) {
  auto number = [](std::int64_t value) { return std::to_string(value); };
  if (a.sequenceLength < 1)
    return Error{"config lacks 'seq_length' of the model; set model/seq_length"};
  if (a.layers < 1 || a.hiddenSize < 1)
    return Error{"config expects num_layers and hidden_size above 0"};
  if (a.modelFolder.empty() && (a.timeFile.empty() || a.memoryFile.empty()))
    return Error{"config lacks 'profiles', the folder of computation_profiling_*.json and "
                 "memory_profiling_*.json"};
  if (a.hardwareFolder.empty() &&
      (a.allReduceFile.empty() || a.p2pFile.empty() || a.overlapFile.empty() || a.spTimeFile.empty()))
    return Error{"config lacks 'hardware', the folder of allreduce_bandwidth_*.json and its "
                 "companions"};
  if (a.settledBatch == 0 || a.settledChunks == 0)
    return Error{"settle_bsz and settle_chunk expect -1 (search) or a size of at least 1, but "
                 "got 0"};
  if (a.settledBatch > 0 && a.settledChunks > 0 && a.settledBatch % a.settledChunks)
    return Error{"settle_chunk expects a divisor of settle_bsz " + number(a.settledBatch) + ", but got " +
                 number(a.settledChunks)};
  if (a.settledBatch < 0 && a.minBatch > a.maxBatch)
    return Error{"max_bsz expects at least min_bsz " + number(a.minBatch) + ", but got " + number(a.maxBatch)};
  if (a.disableDp && a.disableTp && a.disableSp && a.disablePp && a.disableCp && a.world() > 1)
    return Error{"disable_dp, disable_tp, disable_sp, disable_pp and disable_cp together leave "
                 "no way to use " +
                 number(a.world()) + " devices; enable one"};
  return true;
}

} // namespace galvatron::search
