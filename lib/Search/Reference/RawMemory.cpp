//===- RawMemory.cpp - Memory tables out of raw measurements --------------===//
//
// Runs of the same kind at two depths give a layer: what a rank holds more of. A
// run less its layers gives the ends. Of several runs that say the same, the
// reference takes the largest parameter and the smallest ends.
//
//===----------------------------------------------------------------------===//

#include "RawMemory.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

namespace galvatron::search {

namespace {
/// Where the reference's search for the smallest ends begins, MB.
constexpr double kLargestEnds = 1e6;
/// Sizes of a layer measured at several tp differ by less than this factor.
constexpr double kSameSize = 1.5;

/// How a run was cut: "<pp>_<tp>_<dp>[_c][_vtp][_sp]".
struct Run {
  int pp = 1, tp = 1, dp = 1;
  bool checkpoint = false, vocab = false;
  auto operator<=>(const Run &) const = default;
};

/// The run that a key of the file names, when it is one with the wanted kind of
/// sequence parallelism.
std::optional<Run> parseRun(std::string_view key, bool sequenceParallel) {
  Run run;
  for (int *degree : {&run.pp, &run.tp, &run.dp}) {
    std::optional<int> value = takeInteger(key);
    if (!value || *value < 1 || (degree != &run.dp && !takePrefix(key, "_")))
      return std::nullopt;
    *degree = *value;
  }
  run.checkpoint = takePrefix(key, "_c");
  run.vocab = takePrefix(key, "_vtp");
  if (takePrefix(key, "_sp") != sequenceParallel || !key.empty())
    return std::nullopt;
  return run;
}

std::string nameOf(const Run &run, bool sequenceParallel) {
  return std::to_string(run.pp) + "_" + std::to_string(run.tp) + "_" + std::to_string(run.dp) +
         (run.checkpoint ? "_c" : "") + (run.vocab ? "_vtp" : "") + (sequenceParallel ? "_sp" : "");
}

/// One raw key of a run.
struct RawKey {
  int depth = 0, batch = 0, length = 0, rank = 0;
  std::string kind; ///< ms, act or act_peak
  bool bracket = false;
};

std::optional<RawKey> parseRawKey(std::string_view key) {
  RawKey raw;
  if (!takePrefix(key, "layernum"))
    return std::nullopt;
  raw.bracket = takePrefix(key, "[");
  for (auto [value, after] : {std::pair{&raw.depth, raw.bracket ? "]_bsz" : "_bsz"},
                              {&raw.batch, "_seq"},
                              {&raw.length, "_rank"},
                              {&raw.rank, "_"}}) {
    std::optional<int> number = takeInteger(key);
    if (!number || (*number < 1 && value != &raw.rank) || !takePrefix(key, after))
      return std::nullopt;
    *value = *number;
  }
  raw.kind = key;
  if (key != "ms" && key != "act" && key != "act_peak")
    return std::nullopt;
  return raw;
}

/// Everything measured at one length.
class LengthRuns {
public:
  LengthRuns(const ReferenceArguments &arguments, const ProfileFile &file, int length)
      : arguments(arguments), file(file), length(length) {}

  std::optional<Error> add(const Run &run, const std::string &key, const RawKey &raw, const Ordered &value);
  /// Adds the derived tables under their four keys to `out`.
  std::optional<Error> derive(Ordered &out);

private:
  std::string name(const Run &run) const { return nameOf(run, arguments.sequenceParallel); }
  std::string remedy() const {
    return std::string("; ") + kProfileModel + " (profile_type memory) at length " + std::to_string(length) + " again";
  }
  void fail(const std::string &message) {
    if (!error)
      error = Error{"'" + file.path + "' " + message + remedy()};
  }
  double at(const Run &run, int depth, int rank, const char *kind);
  /// What one layer adds to a value of rank 0.
  double perLayer(const Run &run, const char *kind) {
    return (at(run, high, 0, kind) - at(run, low, 0, kind)) / (high - low);
  }
  bool checkShape();
  void layers();
  void checkDpType();
  void ends();
  void endOf(const Run &run, int rank, const char *where);
  void halve();

  const ReferenceArguments &arguments;
  const ProfileFile &file;
  int length;
  bool bracket = false;
  std::set<int> batches, worlds, depths; ///< depths of runs without a pipeline
  std::map<Run, std::map<std::tuple<int, int, std::string>, double>> runs;
  std::optional<Error> error;

  int batch = 0, world = 0, low = 0, high = 0;
  double parameterMB = 0;
  std::map<int, double> layerMB, layerActivation; ///< by tp; MB of fp32 parameters, MB a sample
  std::optional<double> checkpointActivation;
  /// "off", "on_first", "on_last" → by vocab degree.
  std::map<std::string, std::map<int, double>> states, activation;
};

std::optional<Error> LengthRuns::add(const Run &run, const std::string &key, const RawKey &raw, const Ordered &value) {
  Result<double> number = file.value(key, value, raw.kind != "ms");
  if (!number)
    return number.error();
  bracket = bracket || raw.bracket;
  batches.insert(raw.batch);
  worlds.insert(run.pp * run.tp * run.dp);
  if (run.pp == 1)
    depths.insert(raw.depth);
  auto [place, isNew] = runs[run].try_emplace({raw.depth, raw.rank, raw.kind}, *number);
  if (!isNew && !raw.bracket) // the newer grammar is the later measurement
    place->second = *number;
  return std::nullopt;
}

double LengthRuns::at(const Run &run, int depth, int rank, const char *kind) {
  auto found = runs.find(run);
  if (found != runs.end())
    if (auto value = found->second.find({depth, rank, kind}); value != found->second.end())
      return value->second;
  std::string number = std::to_string(depth);
  fail("lacks the raw key '" + name(run) + "/layernum" + (bracket ? "[" + number + "]" : number) + "_bsz" +
       std::to_string(batch) + "_seq" + std::to_string(length) + "_rank" + std::to_string(rank) + "_" + kind + "'");
  return 0;
}

/// One batch, one number of devices, two depths.
bool LengthRuns::checkShape() {
  auto list = [](const std::set<int> &values) {
    std::string text;
    for (int value : values)
      text += (text.empty() ? "" : ", ") + std::to_string(value);
    return text;
  };
  if (batches.size() > 1)
    fail("has raw memory keys of batch sizes " + list(batches) + "; expects one");
  else if (worlds.size() > 1)
    fail("has raw memory keys of " + list(worlds) + " devices; expects one number of them");
  else if (depths.size() < 2)
    fail("has raw memory keys of " + std::string(depths.empty() ? "no depth" : "depth " + list(depths)) +
         " without a pipeline; expects two depths");
  if (error)
    return false;
  batch = *batches.begin();
  world = *worlds.begin();
  low = *depths.begin();
  high = *depths.rbegin();
  return true;
}

void LengthRuns::layers() {
  bool sharded = arguments.profileDpType == "zero3";
  for (const auto &[run, values] : runs) {
    if (run.pp > 1 || run.vocab)
      continue;
    // MB of one layer and sample on a device that holds 1 / tp of it.
    double kept = perLayer(run, "act") / run.tp * world / batch;
    if (!error && kept <= 0)
      fail("raw keys '" + name(run) + "/layernum…_act' do not grow with depth");
    if (run.checkpoint) {
      checkpointActivation = std::max(checkpointActivation.value_or(kept), kept);
      continue;
    }
    // Parameter, gradient and two moments: 4 times the parameter.
    double size = perLayer(run, "ms") / 4 * (sharded ? run.dp : 1);
    if (!error && size <= 0)
      fail("raw keys '" + name(run) + "/layernum…_ms' do not grow with depth");
    layerMB[run.tp] = size;
    layerActivation[run.tp] = kept;
    parameterMB = std::max(parameterMB, size * run.tp);
  }
  if (!error && layerMB.empty())
    fail("has no raw keys of '" + name({1, 1, world}) + "' or another run without a pipeline and checkpoints");
}

/// The sizes of a layer at several tp agree only for the right type.
void LengthRuns::checkDpType() {
  bool sharded = arguments.profileDpType == "zero3";
  auto spread = [&](bool asMeasured) {
    double smallest = 0, largest = 0;
    for (auto [tp, size] : layerMB) {
      double dp = double(world) / tp, whole = size * tp * (asMeasured ? 1 : sharded ? 1 / dp : dp);
      smallest = smallest == 0 ? whole : std::min(smallest, whole);
      largest = std::max(largest, whole);
    }
    return largest / smallest;
  };
  if (!error && spread(true) > kSameSize && spread(false) < spread(true))
    error =
        Error{"'" + file.path + "' raw keys '…_ms' at length " + std::to_string(length) + " give layers that differ " +
              shortNumber(spread(true)) + " times among tp degrees, as if measured" + " under " +
              (sharded ? "ddp" : "zero3") + "; set profile_dp_type in profiling_info to what the model" +
              " profiler ran with (now " + arguments.profileDpType + ")"};
}

/// What a rank holds beside its layers, scaled to the whole vocabulary's part.
void LengthRuns::endOf(const Run &run, int rank, const char *where) {
  int layers = run.pp > 1 ? 1 : low; // a pipeline is measured with one layer a stage
  int depth = run.pp > 1 ? run.pp : low, vocab = run.vocab ? run.tp : 1;
  if (!layerMB.contains(run.tp)) {
    at({1, run.tp, world / run.tp}, low, 0, "ms"); // says that it is missing
    return;
  }
  double layerStates = 4 * layerMB[run.tp] * layers, states = at(run, depth, rank, "ms");
  bool sharded = arguments.profileDpType == "zero3";
  states = sharded ? (states - layerStates / run.dp) * (world / run.pp) / vocab : states - layerStates;
  double samples = double(batch) / run.dp; // of a device
  double kept = std::max(at(run, depth, rank, "act_peak"), at(run, depth, rank, "act"));
  kept = (kept - layerActivation[run.tp] * layers * samples) / (double(batch) / world * run.pp * vocab);
  auto least = [&](std::map<int, double> &table, double value) {
    double &place = table.try_emplace(vocab, kLargestEnds).first->second;
    place = std::min(place, std::max(value, 0.0));
  };
  least(this->states[where], states);
  least(activation[where], kept);
}

void LengthRuns::ends() {
  bool pipeline = false;
  for (const auto &[run, values] : runs) {
    if (run.checkpoint || (run.vocab && run.tp == 1))
      continue;
    pipeline = pipeline || run.pp > 1;
    endOf(run, 0, run.pp > 1 ? "on_first" : "off");
    if (run.pp > 1)
      endOf(run, world - 1, "on_last");
  }
  if (!pipeline && world > 1)
    at({2, 1, world / 2}, 2, 0, "ms"); // says that it is missing
}

/// With Megatron-SP everything is cut: a degree that was not measured is half of
/// the one before.
void LengthRuns::halve() {
  auto complete = [](std::map<int, double> &table) {
    for (int degree : {2, 4, 8})
      if (table.contains(degree / 2))
        table.try_emplace(degree, table[degree / 2] / 2);
  };
  complete(layerActivation);
  for (auto *tables : {&states, &activation})
    for (auto &[where, table] : *tables)
      complete(table);
}

std::optional<Error> LengthRuns::derive(Ordered &out) {
  if (checkShape()) {
    layers();
    checkDpType();
    ends();
  }
  if (error)
    return error;
  if (arguments.sequenceParallel)
    halve();
  std::string suffix = arguments.sequenceParallel ? "_sp" : "", at = std::to_string(length);
  Ordered &layer = out["layertype_0" + suffix][at];
  auto fill = [](Ordered &table, const std::map<int, double> &values) {
    for (auto [degree, megabytes] : values)
      table[std::to_string(degree)] = megabytes;
  };
  layer["parameter_size"] = parameterMB;
  fill(layer["tp_activation_per_bsz_dict"], layerActivation);
  if (checkpointActivation)
    layer["tp_activation_per_bsz_dict"]["checkpoint"] = *checkpointActivation;
  for (const auto &[where, table] : states) {
    Ordered &ends = out["other_memory_pp_" + where + suffix][at];
    fill(ends["model_states"], table);
    fill(ends["activation"], activation[where]);
  }
  return std::nullopt;
}
} // namespace

std::optional<Error> deriveMissingMemory(const ReferenceArguments &arguments, ProfileFile &file) {
  bool everyLength = arguments.memoryMode == "sequence";
  std::string suffix = arguments.sequenceParallel ? "_sp" : "", wanted = std::to_string(arguments.sequenceLength);
  std::vector<std::string> missing;
  for (const char *name :
       {"layertype_0", "other_memory_pp_off", "other_memory_pp_on_first", "other_memory_pp_on_last"}) {
    auto at = file.json.find(name + suffix);
    if (at == file.json.end() || (at->is_object() && (everyLength ? at->empty() : !at->contains(wanted))))
      missing.push_back(name + suffix);
  }
  if (missing.empty())
    return std::nullopt;
  std::map<int, LengthRuns> lengths;
  for (const auto &entry : file.json.items()) {
    std::optional<Run> run = parseRun(entry.key(), arguments.sequenceParallel);
    if (!run || !entry.value().is_object())
      continue;
    for (const auto &item : entry.value().items()) {
      std::optional<RawKey> raw = parseRawKey(item.key());
      if (!raw || (!everyLength && raw->length != arguments.sequenceLength))
        continue;
      LengthRuns &runs = lengths.try_emplace(raw->length, arguments, file, raw->length).first->second;
      if (auto error = runs.add(*run, entry.key() + "/" + item.key(), *raw, item.value()))
        return error;
    }
  }
  Ordered derived;
  for (auto &[length, runs] : lengths)
    if (auto error = runs.derive(derived))
      return error;
  for (const std::string &name : missing)
    if (derived.contains(name))
      for (const auto &item : derived[name].items())
        file.json[name][item.key()] = item.value();
  return std::nullopt;
}

} // namespace galvatron::search
