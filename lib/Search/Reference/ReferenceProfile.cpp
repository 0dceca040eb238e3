//===- ReferenceProfile.cpp - Reading Hetu-Galvatron's measurements -------===//
//
// Keys are GALVATRON.md 2.2 and 2.3. Files are read in order of their keys,
// because mode "static" takes the first entry of the file.
//
//===----------------------------------------------------------------------===//

#include "galvatron/Search/Reference/ReferenceProfile.h"

#include "LeastSquares.h"
#include "ProfileFile.h"
#include "RawMemory.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <optional>

namespace galvatron::search {

namespace {
//===----------------------------------------------------------------------===//
// Computation
//===----------------------------------------------------------------------===//

/// ms per layer (or ends) per sample at one batch and length.
struct TimePoint {
  int batch = 0, sequence = 0;
  double milliseconds = 0;
};

struct TimePoints {
  std::vector<TimePoint> layer, ends;
};

/// Older and newer raw keys, `layernum[<L>]_bsz<b>_seq<s>` and
/// `layernum<L>_bsz<b>_seq<s>`: whole forward passes of two depths.
Result<TimePoints> deriveFromRaw(const ProfileFile &file) {
  struct Raw {
    int depth;
    double milliseconds;
  };
  std::map<std::pair<int, int>, std::vector<Raw>> raws;
  for (const auto &item : file.json.items()) {
    std::string_view key = item.key();
    if (!takePrefix(key, "layernum"))
      continue;
    bool bracket = takePrefix(key, "[");
    std::optional<int> depth = takeInteger(key), batch, sequence;
    if (bracket && !takePrefix(key, "]"))
      continue; // several layer types: not a whole model of one type
    if (depth && takePrefix(key, "_bsz"))
      batch = takeInteger(key);
    if (batch && takePrefix(key, "_seq"))
      sequence = takeInteger(key);
    if (!sequence || !key.empty())
      continue;
    Result<double> value = file.value(item.key(), item.value());
    if (!value)
      return value.error();
    raws[{*sequence, *batch}].push_back({*depth, *value});
  }
  TimePoints points;
  for (auto &[key, depths] : raws) {
    if (depths.size() < 2)
      continue;
    std::sort(depths.begin(), depths.end(), [](const Raw &a, const Raw &b) { return a.depth < b.depth; });
    const Raw &low = depths.front(), &high = depths.back();
    if (low.depth == high.depth)
      continue;
    // GALVATRON.md 2.3: difference over depth; the rest is the ends.
    double batch = key.second;
    double layer = (high.milliseconds - low.milliseconds) / (batch * (high.depth - low.depth));
    double ends = std::max(0.0, low.milliseconds / batch - low.depth * layer);
    if (layer <= 0)
      return Error{"'" + file.path + "' raw times at batch " + shortNumber(batch) + ", length " +
                   shortNumber(key.first) + " do not grow with depth; measure them again"};
    points.layer.push_back({key.second, key.first, layer});
    points.ends.push_back({key.second, key.first, ends});
  }
  return points;
}

Result<TimePoints> readTimePoints(const ProfileFile &file) {
  TimePoints points;
  for (const auto &item : file.json.items()) {
    std::string_view key = item.key();
    if (!takePrefix(key, "layertype_"))
      continue;
    bool ends = takePrefix(key, "other");
    std::optional<int> type = ends ? std::optional<int>(0) : takeInteger(key), batch, sequence;
    if (type && takePrefix(key, "_bsz"))
      batch = takeInteger(key);
    if (batch && takePrefix(key, "_seq"))
      sequence = takeInteger(key);
    if (!sequence || !key.empty())
      return Error{"'" + file.path + "' has a malformed key '" + item.key() +
                   "'; expects layertype_<i|other>_bsz<b>_seq<s>"};
    if (*type > 0)
      return Error{"'" + file.path + "' has the key '" + item.key() +
                   "' of a second layer type; this model description has one"};
    Result<double> value = file.value(item.key(), item.value(), ends);
    if (!value)
      return value.error();
    (ends ? points.ends : points.layer).push_back({*batch, *sequence, *value});
  }
  if (points.layer.empty() || points.ends.empty()) {
    Result<TimePoints> derived = deriveFromRaw(file);
    if (!derived)
      return derived;
    if (points.layer.empty())
      points.layer = derived->layer;
    if (points.ends.empty())
      points.ends = derived->ends;
  }
  for (bool ends : {false, true})
    if ((ends ? points.ends : points.layer).empty())
      return Error{"'" + file.path + "' lacks a key layertype_" + (ends ? "other" : "0") +
                   "_bsz<b>_seq<s> (and raw layernum<L>_bsz<b>_seq<s> of two depths to derive "
                   "it from); " +
                   kProfileModel};
  return points;
}

/// F(x) in ms over samples x, by the mode.
Result<Line> forwardLine(const ReferenceArguments &arguments, const std::string &path,
                         const std::vector<TimePoint> &points, const char *name, bool ends) {
  std::string key = std::string("layertype_") + name;
  if (arguments.timeMode == "static")
    return Line{points.front().milliseconds, 0};
  std::vector<std::pair<double, double>> fit;
  if (arguments.timeMode == "batch") {
    for (const TimePoint &point : points)
      if (point.sequence == arguments.sequenceLength)
        fit.emplace_back(point.batch, point.milliseconds * point.batch);
    if (fit.size() < 8)
      return Error{"'" + path + "' has " + std::to_string(fit.size()) + " keys " + key + "_bsz<b>_seq" +
                   std::to_string(arguments.sequenceLength) + ", but time_profile_mode batch needs 8 batch sizes; " +
                   kProfileModel + " in mode batch at this length, or use static"};
    std::vector<double> line = curveFit(fit, 1);
    if (line.empty())
      return Error{"'" + path + "' keys " + key + "_bsz<b>_seq" + std::to_string(arguments.sequenceLength) +
                   " do not determine a line; measure different batch sizes"};
    return Line{line[0], line[1]};
  }
  for (const TimePoint &point : points)
    if (point.batch == 1)
      fit.emplace_back(point.sequence, point.milliseconds);
  std::size_t needed = ends ? 2 : 3;
  std::vector<double> curve;
  if (fit.size() >= needed)
    curve = curveFit(fit, ends ? 1 : 2);
  if (curve.empty())
    return Error{"'" + path + "' has " + std::to_string(fit.size()) + " keys " + key +
                 "_bsz1_seq<s>, but time_profile_mode sequence fits a " + (ends ? "line" : "quadratic") +
                 " through at least " + std::to_string(needed) + " different lengths; " + kProfileModel +
                 " in mode sequence"};
  double value = evaluateCurve(curve, double(arguments.sequenceLength));
  if (value <= 0)
    return Error{"'" + path + "' keys " + key + "_bsz1_seq<s> extrapolate to " + shortNumber(value) + " ms at length " +
                 std::to_string(arguments.sequenceLength) + "; profile lengths nearer to it"};
  return Line{value, 0};
}

std::optional<Error> loadTimes(const ReferenceArguments &arguments, ReferenceProfile &profile) {
  Result<ProfileFile> file = readProfileFile(profile.timeFile, kProfileModel);
  if (!file)
    return file.error();
  Result<TimePoints> points = readTimePoints(*file);
  if (!points)
    return points.error();
  Result<Line> layer = forwardLine(arguments, file->path, points->layer, "0", false);
  Result<Line> ends = forwardLine(arguments, file->path, points->ends, "other", true);
  if (!layer || !ends)
    return layer ? ends.error() : layer.error();
  profile.layerForward = *layer;
  profile.endsForward = *ends;
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// Finds the entry of the wanted length, or of the longest with `scale` set.
struct LengthEntry {
  const Ordered *value = nullptr;
  std::string key;
  double scale = 1;
  /// The entry of the shortest length, where the reference takes parameter
  /// sizes from in mode sequence.
  const Ordered *shortest = nullptr;
  std::string shortestKey;
};

Result<LengthEntry> findLength(const ReferenceArguments &arguments, const ProfileFile &file, const std::string &name) {
  auto at = file.json.find(name);
  if (at == file.json.end() || !at->is_object() || at->empty())
    return Error{"'" + file.path + "' lacks the key '" + name + "'; " + kProfileModel +
                 (arguments.sequenceParallel ? " with" : " without") +
                 " sequence_parallel, or switch sequence_parallel"};
  std::string wanted = std::to_string(arguments.sequenceLength);
  LengthEntry entry;
  if (arguments.memoryMode == "static") {
    auto length = at->find(wanted);
    if (length == at->end())
      return Error{"'" + file.path + "' lacks the key '" + name + "/" + wanted + "'; " + kProfileModel +
                   " at sequence length " + wanted + ", or use memory_profile_mode sequence"};
    entry.value = entry.shortest = &*length;
    entry.key = entry.shortestKey = name + "/" + wanted;
    return entry;
  }
  int longest = 0, shortest = std::numeric_limits<int>::max();
  for (const auto &item : at->items()) {
    std::string_view key = item.key();
    std::optional<int> length = takeInteger(key);
    if (!length || !key.empty() || *length < 1)
      return Error{"'" + file.path + "' key '" + name + "' expects sequence lengths, but has '" + item.key() + "'"};
    if (*length < shortest) {
      shortest = *length;
      entry.shortest = &item.value();
      entry.shortestKey = name + "/" + item.key();
    }
    if (*length > longest) {
      longest = *length;
      entry.value = &item.value();
      entry.key = name + "/" + item.key();
    }
  }
  entry.scale = double(arguments.sequenceLength) / longest;
  return entry;
}

std::optional<Error> readTable(const ProfileFile &file, const LengthEntry &entry, const char *member, double scale,
                               DegreeTable &table, double *checkpoint = nullptr, bool *hasCheckpoint = nullptr) {
  table.key = entry.key + "/" + member;
  table.file = file.path;
  if (!entry.value->is_object() || !entry.value->contains(member) || !(*entry.value)[member].is_object())
    return Error{"'" + file.path + "' lacks the key '" + table.key + "'; " + kProfileModel};
  for (const auto &item : (*entry.value)[member].items()) {
    std::string key = table.key + "/" + item.key();
    Result<double> value = file.value(key, item.value(), true);
    if (!value)
      return value.error();
    if (item.key() == "checkpoint" && checkpoint) {
      *checkpoint = *value * scale;
      *hasCheckpoint = true;
      continue;
    }
    std::string_view text = item.key();
    std::optional<int> degree = takeInteger(text);
    if (!degree || !text.empty())
      return Error{"'" + file.path + "' key '" + table.key + "' expects degrees, but has '" + item.key() + "'"};
    table.megabytes[*degree] = *value * scale;
  }
  return std::nullopt;
}

std::optional<Error> loadMemory(const ReferenceArguments &arguments, ReferenceProfile &profile) {
  Result<ProfileFile> file = readProfileFile(profile.memoryFile, kProfileModel);
  if (!file)
    return file.error();
  if (arguments.memoryMode == "sequence" && !arguments.sequenceParallel)
    return Error{"memory_profile_mode sequence needs sequence_parallel true (the reference "
                 "measures lengths only so); switch it on or use static"};
  if (auto error = deriveMissingMemory(arguments, *file))
    return error;
  std::string suffix = arguments.sequenceParallel ? "_sp" : "";
  Result<LengthEntry> layer = findLength(arguments, *file, "layertype_0" + suffix);
  if (!layer)
    return layer.error();
  std::string sizeKey = layer->shortestKey + "/parameter_size";
  if (!layer->shortest->is_object() || !layer->shortest->contains("parameter_size"))
    return Error{"'" + file->path + "' lacks the key '" + sizeKey + "'; " + kProfileModel};
  Result<double> parameters = file->value(sizeKey, (*layer->shortest)["parameter_size"]);
  if (!parameters)
    return parameters.error();
  profile.layerParameterMB = *parameters;
  if (auto error = readTable(*file, *layer, "tp_activation_per_bsz_dict", layer->scale, profile.layerActivation,
                             &profile.checkpointActivation, &profile.hasCheckpoint))
    return error;
  struct Ends {
    const char *name;
    DegreeTable *states, *activation;
  };
  for (const Ends &ends : {Ends{"other_memory_pp_off", &profile.endsStates, &profile.endsActivation},
                           Ends{"other_memory_pp_on_first", &profile.firstStates, &profile.firstActivation},
                           Ends{"other_memory_pp_on_last", &profile.lastStates, &profile.lastActivation}}) {
    Result<LengthEntry> entry = findLength(arguments, *file, ends.name + suffix);
    if (!entry)
      return entry.error();
    if (auto error = readTable(*file, *entry, "model_states", 1, *ends.states))
      return error;
    if (auto error = readTable(*file, *entry, "activation", entry->scale, *ends.activation))
      return error;
  }
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Hardware
//===----------------------------------------------------------------------===//

std::optional<Error> loadBandwidths(ReferenceProfile &profile) {
  Result<ProfileFile> allReduce = readProfileFile(profile.allReduceFile, kProfileHardware);
  if (!allReduce)
    return allReduce.error();
  for (const auto &item : allReduce->json.items()) {
    std::string_view key = item.key();
    std::optional<int> n, adjacent;
    if (takePrefix(key, "allreduce_size_"))
      n = takeInteger(key);
    if (n && takePrefix(key, "_consec_"))
      adjacent = takeInteger(key);
    if (!adjacent || !key.empty() || *adjacent > 1)
      return Error{"'" + allReduce->path + "' has an unknown key '" + item.key() +
                   "'; expects allreduce_size_<n>_consec_<0|1>"};
    Result<double> bandwidth = allReduce->value(item.key(), item.value());
    if (!bandwidth)
      return bandwidth.error();
    profile.allReduceCoefficient[std::to_string(*n) + "_" + std::to_string(*adjacent)] = 1 / *bandwidth;
  }
  Result<ProfileFile> p2p = readProfileFile(profile.p2pFile, kProfileHardware);
  if (!p2p)
    return p2p.error();
  for (const auto &item : p2p->json.items()) {
    std::string_view key = item.key();
    std::optional<int> n;
    if (takePrefix(key, "pp_size_"))
      n = takeInteger(key);
    if (!n || !key.empty())
      return Error{"'" + p2p->path + "' has an unknown key '" + item.key() + "'; expects pp_size_<p>"};
    Result<double> bandwidth = p2p->value(item.key(), item.value());
    if (!bandwidth)
      return bandwidth.error();
    profile.p2pCoefficient[*n] = 1 / *bandwidth;
  }
  Result<ProfileFile> overlap = readProfileFile(profile.overlapFile, kProfileHardware);
  if (!overlap)
    return overlap.error();
  if (!overlap->json.contains("overlap_coe"))
    return Error{"'" + overlap->path + "' lacks the key 'overlap_coe'; " + kProfileHardware};
  Result<double> kappa = overlap->value("overlap_coe", overlap->json["overlap_coe"]);
  if (!kappa)
    return kappa.error();
  if (*kappa < 1)
    return Error{"'" + overlap->path +
                 "' key 'overlap_coe' expects at least 1 (a slow-down), "
                 "but got " +
                 shortNumber(*kappa) + "; measure it again"};
  profile.overlap = *kappa;
  return std::nullopt;
}

std::optional<Error> loadMessages(const ReferenceArguments &arguments, ReferenceProfile &profile) {
  if (!std::filesystem::exists(profile.spTimeFile) && arguments.disableTp && arguments.disableSp)
    return std::nullopt; // never asked for
  Result<ProfileFile> file = readProfileFile(profile.spTimeFile, kProfileHardware);
  if (!file)
    return file.error();
  for (const auto &item : file->json.items()) {
    std::string_view key = item.key();
    bool allToAll = takePrefix(key, "all2all_size_");
    std::optional<int> n, megabytes;
    if (allToAll || takePrefix(key, "allreduce_size_"))
      n = takeInteger(key);
    if (n && takePrefix(key, "_"))
      megabytes = takeInteger(key);
    if (!megabytes || key != "MB_time")
      return Error{"'" + file->path + "' has an unknown key '" + item.key() +
                   "'; expects allreduce_size_<n>_<m>MB_time or all2all_size_<n>_<m>MB_time"};
    Result<double> value = file->value(item.key(), item.value());
    if (!value)
      return value.error();
    (allToAll ? profile.allToAll : profile.allReduce)[*n].millisecondsOfMB[*megabytes] = *value;
  }
  for (bool allToAll : {false, true})
    for (auto &[n, table] : allToAll ? profile.allToAll : profile.allReduce) {
      // The reference fits half of the all-reduce: an all-gather.
      double part = allToAll ? 1 : 0.5;
      std::vector<std::pair<double, double>> points;
      for (auto [megabytes, milliseconds] : table.millisecondsOfMB)
        points.emplace_back(megabytes, milliseconds * part);
      std::vector<double> line;
      if (points.size() >= 8)
        line = curveFit(points, 1);
      if (line.empty())
        return Error{"'" + file->path + "' has " + std::to_string(points.size()) + " keys " +
                     (allToAll ? "all2all" : "allreduce") + "_size_" + std::to_string(n) +
                     "_<m>MB_time, but a line needs 8 message sizes; " + kProfileHardware};
      table.line = {line[0] / part, line[1] / part};
    }
  return std::nullopt;
}

/// "<folder>/<name>", where `given` replaces the folder, or names the file.
std::string fileIn(const std::string &folder, const std::string &name, const std::string &given) {
  if (!given.empty() && !std::filesystem::is_directory(given))
    return given;
  return (std::filesystem::path(given.empty() ? folder : given) / name).string();
}
} // namespace

double MessageTable::milliseconds(double megabytes) const {
  auto at = millisecondsOfMB.find(megabytes);
  return at != millisecondsOfMB.end() ? at->second : line.at(megabytes);
}

Result<double> DegreeTable::at(int degree) const {
  auto found = megabytes.find(degree);
  if (found != megabytes.end())
    return found->second;
  return Error{"'" + file + "' lacks the key '" + key + "/" + std::to_string(degree) + "'; " + kProfileModel +
               " up to degree " + std::to_string(degree) + ", or lower max_tp_deg and max_sp_deg"};
}

Result<double> ReferenceProfile::allReduceMsPerMB(int n, bool adjacent, int world) const {
  if (n == 1)
    return 0.0;
  // The whole world has only one arrangement.
  std::string key = std::to_string(n) + "_" + (adjacent || n == world ? "1" : "0");
  auto at = allReduceCoefficient.find(key);
  if (at != allReduceCoefficient.end())
    return at->second;
  return Error{"'" + allReduceFile + "' lacks the key 'allreduce_size_" + std::to_string(n) + "_consec_" +
               (adjacent || n == world ? "1" : "0") + "'; " + kProfileHardware};
}

Result<double> ReferenceProfile::p2pMsPerMB(int stages) const {
  if (stages == 1)
    return 0.0;
  auto at = p2pCoefficient.find(stages);
  if (at != p2pCoefficient.end())
    return at->second;
  return Error{"'" + p2pFile + "' lacks the key 'pp_size_" + std::to_string(stages) + "'; " + kProfileHardware +
               ", or set max_pp_deg"};
}

Result<double> ReferenceProfile::allGatherMs(int n, double megabytes) const {
  if (n == 1)
    return 0.0;
  auto at = allReduce.find(n);
  if (at != allReduce.end())
    return at->second.milliseconds(megabytes) / 2;
  return Error{"'" + spTimeFile + "' lacks the keys 'allreduce_size_" + std::to_string(n) + "_<m>MB_time'; " +
               kProfileHardware + " up to group size " + std::to_string(n) + ", or lower max_tp_deg"};
}

Result<double> ReferenceProfile::allToAllMs(int n, double megabytes) const {
  if (n == 1)
    return 0.0;
  auto at = allToAll.find(n);
  if (at != allToAll.end())
    return at->second.milliseconds(megabytes);
  return Error{"'" + spTimeFile + "' lacks the keys 'all2all_size_" + std::to_string(n) + "_<m>MB_time'; " +
               kProfileHardware + " up to group size " + std::to_string(n) + ", or lower max_sp_deg"};
}

Result<ReferenceProfile> loadReferenceProfile(const ReferenceArguments &arguments) {
  ReferenceProfile profile;
  std::string suffix =
      std::to_string(arguments.nodes) + "nodes_" + std::to_string(arguments.devicesPerNode) + "gpus_per_node.json";
  std::string model = arguments.mixedPrecision + "_" + arguments.modelName + "_all.json";
  const std::string &folder = arguments.hardwareFolder;
  profile.timeFile = fileIn(arguments.modelFolder, "computation_profiling_" + model, arguments.timeFile);
  profile.memoryFile = fileIn(arguments.modelFolder, "memory_profiling_" + model, arguments.memoryFile);
  profile.allReduceFile = fileIn(folder, "allreduce_bandwidth_" + suffix, arguments.allReduceFile);
  profile.p2pFile = fileIn(folder, "p2p_bandwidth_" + suffix, arguments.p2pFile);
  profile.overlapFile = fileIn(folder, "overlap_coefficient.json", arguments.overlapFile);
  profile.spTimeFile = fileIn(folder, "sp_time_" + suffix, arguments.spTimeFile);
  if (auto error = loadTimes(arguments, profile))
    return *error;
  if (auto error = loadMemory(arguments, profile))
    return *error;
  if (auto error = loadBandwidths(profile))
    return *error;
  if (auto error = loadMessages(arguments, profile))
    return *error;
  return profile;
}

} // namespace galvatron::search
