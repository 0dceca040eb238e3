// Names, units and definitions are the reference's: MB of 2^20 bytes, ms, bus traffic 2 (n - 1) / n of an all-reduce's
// message, ms per layer and sample, bytes of one layer in f32.
#include "Export.h"

#include "Journal.h"

#include "galvatron/Search/Formats/PreparedModel.h"
#include "galvatron/Support/Json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>

namespace galvatron::profile {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using search::Error;
using search::MachineProfile;
using search::MeasuredMessage;

namespace {

constexpr double kMB = 1 << 20;
/// Of the message of the reference's bandwidths.
constexpr double kBandwidthBytes = 32 * kMB;
/// Sizes that its line through messages needs, and batches that its mode batch needs.
constexpr std::size_t kFewestSizes = 8, kFewestBatches = 8, kFewestLengths = 3;

/// A type of layers, as one model has it.
struct LayerType {
  std::string name, hash;
  bool operator==(const LayerType &) const = default;
  /// Another model may call another body so.
  bool isOf(const auto &body) const { return body.layerType == name && (hash.empty() || body.hash == hash); }
};

class Exporter {
public:
  Exporter(const MachineProfile &profile, const std::string &folder) : profile(profile), folder(folder) {}

  search::Result<std::string> run(const std::string &modelName);

private:
  std::optional<Error> write(const std::string &part, const std::string &name, const Json &json);
  std::optional<Error> writeHardware();
  std::optional<Error> writeModel(const search::ProfiledModel &model);
  Json bandwidths() const;
  Json sends() const;
  Json messages();
  std::optional<double> overlap() const;
  Json computation(const search::ProfiledModel &model);
  Json memory(const search::ProfiledModel &model);
  const MeasuredMessage *nearest(const char *kind, std::int64_t ranks, std::int64_t stride) const;
  const search::PlannedBody *planned(const LayerType &type, std::int64_t tp, bool isSp, bool recomputes,
                                     std::int64_t seq) const;
  Json layerMemory(const LayerType &type, bool isSp, std::int64_t seq);
  Json endsMemory(const std::vector<LayerType> &types, bool isSp, std::int64_t seq);
  void say(const std::string &line) { text += line + "\n"; }

  const MachineProfile &profile;
  fs::path folder;
  std::string text;
};

std::optional<Error> Exporter::write(const std::string &part, const std::string &name, const Json &json) {
  std::error_code code;
  fs::create_directories(folder / part, code);
  if (code)
    return Error{"cannot make the folder '" + (folder / part).string() + "': " + code.message()};
  say("wrote " + (folder / part / name).string());
  return replaceFile((folder / part / name).string(), json.dump(4) + "\n");
}

/// Of the size that is nearest to the reference's; all groups at once.
const MeasuredMessage *Exporter::nearest(const char *kind, std::int64_t ranks, std::int64_t stride) const {
  const MeasuredMessage *best = nullptr;
  auto distance = [](const MeasuredMessage &message) {
    return std::abs(std::log(double(message.bytes) / kBandwidthBytes));
  };
  for (const MeasuredMessage &each : profile.messages)
    if (each.kind == kind && each.ranks == ranks && each.stride == stride)
      if (!best || std::pair(-each.groups, distance(each)) < std::pair(-best->groups, distance(*best)))
        best = &each;
  return best;
}

Json Exporter::bandwidths() const {
  Json json = Json::object();
  std::int64_t world = profile.cluster.ranks();
  for (std::int64_t ranks = world; ranks >= 2; --ranks)
    for (bool isConsecutive : {true, false}) {
      const MeasuredMessage *message =
          world % ranks ? nullptr : nearest("all_reduce", ranks, isConsecutive ? 1 : world / ranks);
      if (message && (isConsecutive || ranks < world))
        json["allreduce_size_" + std::to_string(ranks) + "_consec_" + (isConsecutive ? "1" : "0")] =
            2.0 * double(ranks - 1) / double(ranks) * double(message->bytes) / kMB / (message->seconds * 1e3);
    }
  return json;
}

/// Between stages, which are blocks of neighbours.
Json Exporter::sends() const {
  Json json = Json::object();
  std::int64_t world = profile.cluster.ranks();
  for (std::int64_t stages = 2; stages <= world; ++stages)
    if (const MeasuredMessage *message = world % stages ? nullptr : nearest("send", 2, world / stages))
      json["pp_size_" + std::to_string(stages)] = double(message->bytes) / kMB / (message->seconds * 1e3);
  return json;
}

std::optional<double> Exporter::overlap() const {
  std::optional<double> most;
  for (const search::MeasuredOverlap &each : profile.overlaps)
    if (each.first == "gemm" || each.second == "gemm")
      most = std::max({most.value_or(1), each.firstSlowdown, each.secondSlowdown});
  return most;
}

/// Of groups of neighbours, of whole MB.
Json Exporter::messages() {
  Json json = Json::object();
  std::map<std::string, std::size_t> sizes;
  for (auto [kind, name] : {std::pair{"all_reduce", "allreduce"}, {"all_to_all", "all2all"}}) {
    std::map<std::pair<std::int64_t, std::int64_t>, std::pair<std::int64_t, double>> points; // groups, ms
    for (const MeasuredMessage &each : profile.messages)
      if (each.kind == kind && each.stride == 1 && each.bytes % std::int64_t(kMB) == 0)
        if (auto &point = points[{-each.ranks, each.bytes / std::int64_t(kMB)}]; each.groups > point.first)
          point = {each.groups, each.seconds * 1e3};
    std::map<std::int64_t, std::size_t> counts;
    for (const auto &[key, point] : points)
      ++counts[key.first];
    for (const auto &[key, point] : points)
      if (counts[key.first] >= kFewestSizes)
        json[std::string(name) + "_size_" + std::to_string(-key.first) + "_" + std::to_string(key.second) + "MB_time"] =
            point.second;
    for (std::int64_t ranks = 2; ranks <= profile.cluster.ranks(); ++ranks)
      if (profile.cluster.ranks() % ranks == 0 && counts[-ranks] < kFewestSizes)
        say("  lacks " + std::string(name) + "_size_" + std::to_string(ranks) + ": " + std::to_string(counts[-ranks]) +
            " sizes of whole MB, of 8 that its line needs; measure --sizes 1MiB:128MiB");
  }
  return json;
}

std::optional<Error> Exporter::writeHardware() {
  std::string suffix = "_" + std::to_string(profile.cluster.nodes) + "nodes_" +
                       std::to_string(profile.cluster.devicesPerNode) + "gpus_per_node.json";
  if (auto error = write("hardware_configs", "allreduce_bandwidth" + suffix, bandwidths()))
    return error;
  if (auto error = write("hardware_configs", "p2p_bandwidth" + suffix, sends()))
    return error;
  if (auto error = write("hardware_configs", "sp_time" + suffix, messages()))
    return error;
  if (std::optional<double> slowdown = overlap())
    return write("hardware_configs", "overlap_coefficient.json", {{"overlap_coe", *slowdown}});
  say("  lacks overlap_coefficient.json, which every search needs: no overlap was measured; measure --kinds overlap");
  return std::nullopt;
}

bool isOneRank(const std::string &strategy) { return search::countStrategyRanks(strategy) == 1; }

/// Of a model's layers by role, in order.
std::vector<LayerType> typesOf(const search::ProfiledModel &model, const std::string &role) {
  std::vector<LayerType> types;
  for (const search::ProfiledModel::Unit &unit : model.units)
    if (LayerType type{unit.layerType, unit.hash};
        unit.role == role && std::find(types.begin(), types.end(), type) == types.end())
      types.push_back(type);
  return types;
}

/// The model's own length first, as mode static takes the first entry; then the others, shortest first.
std::vector<std::int64_t> lengthsOf(const MachineProfile &profile, std::int64_t own) {
  std::set<std::int64_t> all;
  for (const search::MeasuredBody &body : profile.bodies)
    all.insert(body.seq);
  std::vector<std::int64_t> lengths;
  if (all.erase(own))
    lengths.push_back(own);
  lengths.insert(lengths.end(), all.begin(), all.end());
  return lengths;
}

/// Forward of one layer on one rank, ms per sample.
Json Exporter::computation(const search::ProfiledModel &model) {
  Json json = Json::object();
  std::vector<LayerType> blocks = typesOf(model, "layer"), ends = typesOf(model, "embedding");
  for (const LayerType &type : typesOf(model, "head"))
    ends.push_back(type);
  std::map<std::int64_t, std::set<std::int64_t>> batchesOfLength; // of the first type
  auto find = [&](const LayerType &type, std::int64_t samples, std::int64_t seq) -> const search::MeasuredBody * {
    for (const search::MeasuredBody &body : profile.bodies)
      if (type.isOf(body) && body.samples == samples && body.seq == seq && isOneRank(body.strategy) &&
          body.precision == profile.precision && body.isMeasured)
        return &body;
    return nullptr;
  };
  std::set<std::int64_t> batches;
  for (const search::MeasuredBody &body : profile.bodies)
    batches.insert(body.samples);
  Json others = Json::object();
  for (std::int64_t seq : lengthsOf(profile, model.seq))
    for (std::int64_t samples : batches) {
      std::string suffix = "_bsz" + std::to_string(samples) + "_seq" + std::to_string(seq);
      double rest = 0;
      bool hasAll = !blocks.empty();
      for (const LayerType &type : ends)
        if (auto *body = find(type, samples, seq))
          rest += body->forwardSeconds * 1e3 / double(samples);
        else
          hasAll = false;
      for (const LayerType &type : blocks)
        hasAll &= find(type, samples, seq) != nullptr;
      if (!hasAll)
        continue;
      for (std::size_t index = 0; index < blocks.size(); ++index)
        json["layertype_" + std::to_string(index) + suffix] =
            find(blocks[index], samples, seq)->forwardSeconds * 1e3 / double(samples);
      others["layertype_other" + suffix] = rest;
      batchesOfLength[seq].insert(samples);
    }
  json.update(others);
  std::string ofBatch;
  std::size_t ofSequence = 0;
  for (const auto &[seq, samples] : batchesOfLength) {
    if (samples.size() >= kFewestBatches)
      ofBatch += (ofBatch.empty() ? "" : ", ") + std::to_string(seq);
    ofSequence += samples.count(1);
  }
  say(batchesOfLength.empty() ? "  time_profile_mode static: lacks every entry; measure a model's layers on one rank"
                              : "  time_profile_mode static: enough");
  say(ofBatch.empty() ? "  time_profile_mode batch: lacks 8 batch sizes at one length; measure --micro-batch 1:8:1"
                      : "  time_profile_mode batch: enough at length " + ofBatch);
  say(ofSequence < kFewestLengths ? "  time_profile_mode sequence: has " + std::to_string(ofSequence) +
                                        " lengths with batch 1, of 3 that it needs; measure --seq with --micro-batch 1"
                                  : "  time_profile_mode sequence: enough");
  if (blocks.size() > 1)
    say("  the model has " + std::to_string(blocks.size()) + " types of layers; the search takes models of one");
  return json;
}

const search::PlannedBody *Exporter::planned(const LayerType &type, std::int64_t tp, bool isSp, bool recomputes,
                                             std::int64_t seq) const {
  for (const search::PlannedBody &body : profile.planned) {
    Json strategy = parseOwnJson(body.strategy);
    if (type.isOf(body) && body.seq == seq && body.precision == profile.precision &&
        strategy.value("tp", std::int64_t(1)) == tp && search::countStrategyRanks(body.strategy) == tp &&
        strategy.value("sequence_parallel", false) == (isSp && tp > 1) &&
        strategy.value("recompute", false) == recomputes)
      return &body;
  }
  return nullptr;
}

Json Exporter::layerMemory(const LayerType &type, bool isSp, std::int64_t seq) {
  const search::PlannedBody *whole = planned(type, 1, isSp, false, seq), *kept = planned(type, 1, isSp, true, seq);
  if (!whole)
    return nullptr;
  Json activations = Json::object();
  for (std::int64_t tp : {1, 2, 4, 8})
    if (auto *body = planned(type, tp, isSp, false, seq))
      activations[std::to_string(tp)] = double(body->savedBytes) / double(body->samples) / kMB;
  if (kept)
    activations["checkpoint"] = double(kept->savedBytes) / double(kept->samples) / kMB;
  return {{"parameter_size", double(whole->parameterBytes) / kMB}, {"tp_activation_per_bsz_dict", activations}};
}

/// Of layers that one stage has together; a parameter that two of them share counts once.
Json Exporter::endsMemory(const std::vector<LayerType> &types, bool isSp, std::int64_t seq) {
  Json states = Json::object(), activations = Json::object();
  for (std::int64_t tp : {1, 2, 4, 8}) {
    double parameters = 0, saved = 0;
    bool hasAll = !types.empty();
    for (const LayerType &type : types)
      if (auto *body = planned(type, tp, isSp, false, seq)) {
        parameters += double(body->parameterBytes - (types.size() > 1 ? body->sharedBytes : 0));
        saved += double(body->savedBytes) / double(body->samples);
      } else
        hasAll = false;
    if (!hasAll)
      continue;
    states[std::to_string(tp)] = 4 * parameters / kMB; // with gradient and two moments
    activations[std::to_string(tp)] = saved / kMB;
  }
  return {{"model_states", states}, {"activation", activations}};
}

Json Exporter::memory(const search::ProfiledModel &model) {
  Json json = Json::object();
  std::vector<LayerType> blocks = typesOf(model, "layer"), first = typesOf(model, "embedding"),
                         last = typesOf(model, "head"), ends = first;
  ends.insert(ends.end(), last.begin(), last.end());
  std::set<std::int64_t> lengths;
  for (const search::PlannedBody &body : profile.planned)
    if (body.precision == profile.precision)
      lengths.insert(body.seq);
  for (bool isSp : {false, true})
    for (std::int64_t seq : lengths) {
      std::string suffix = isSp ? "_sp" : "", length = std::to_string(seq);
      bool isThere = false;
      for (std::size_t index = 0; index < blocks.size(); ++index)
        if (Json layer = layerMemory(blocks[index], isSp, seq); !layer.is_null()) {
          json["layertype_" + std::to_string(index) + suffix][length] = layer;
          isThere = true;
          if (layer["tp_activation_per_bsz_dict"].size() < 5)
            say("  degrees beyond those in layertype_" + std::to_string(index) + suffix +
                " do not divide the layer; lower max_tp_deg and max_sp_deg");
        }
      if (!isThere)
        continue;
      json["other_memory_pp_off" + suffix][length] = endsMemory(ends, isSp, seq);
      json["other_memory_pp_on_first" + suffix][length] = endsMemory(first, isSp, seq);
      json["other_memory_pp_on_last" + suffix][length] = endsMemory(last, isSp, seq);
    }
  std::string list;
  for (std::int64_t seq : lengths)
    list += (list.empty() ? "" : ", ") + std::to_string(seq);
  say(lengths.empty() ? "  memory_profile_mode static, sequence: lack every entry; measure a model's layers"
                      : "  memory_profile_mode static: enough at length " + list + "; sequence: enough");
  return json;
}

std::optional<Error> Exporter::writeModel(const search::ProfiledModel &model) {
  std::string suffix = profile.precision + "_" + model.name + "_all.json";
  if (auto error = write("configs", "computation_profiling_" + suffix, computation(model)))
    return error;
  return write("configs", "memory_profiling_" + suffix, memory(model));
}

search::Result<std::string> Exporter::run(const std::string &modelName) {
  const search::ProfiledModel *model = nullptr;
  std::string names;
  for (const search::ProfiledModel &each : profile.models) {
    names += (names.empty() ? "" : ", ") + each.name;
    if (modelName.empty() ? profile.models.size() == 1 : each.name == modelName)
      model = &each;
  }
  if (!model && (!modelName.empty() || profile.models.size() > 1))
    return Error{"option --model-name expects one of the profile's models, " + (names.empty() ? "none" : names) +
                 ", but got '" + modelName + "'"};
  if (auto error = writeHardware())
    return *error;
  if (!model)
    say("  lacks configs: the profile has no model; measure one with galvatron-profile model");
  else if (auto error = writeModel(*model))
    return *error;
  return text;
}

} // namespace

search::Result<std::string> exportReference(const MachineProfile &profile, const std::string &folder,
                                            const std::string &modelName) {
  return Exporter(profile, folder).run(modelName);
}

} // namespace galvatron::profile
