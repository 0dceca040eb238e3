//===- MachineProfileFile.cpp - profile.json ------------------------------===//

#include "galvatron/Search/Formats/MachineProfileFile.h"

#include "BodyWorkJson.h"
#include "JsonReader.h"
#include "NcclKey.h"
#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/StrategyText.h"
#include "galvatron/Support/Json.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <tuple>

namespace galvatron::search {

namespace {
using OrderedJson = nlohmann::ordered_json;

constexpr int kVersion = 1;
/// The remedy where a file is no profile at all.
const char *const kForeign = "; name a profile.json that galvatron-profile wrote";
/// A figure beyond this many seconds is damaged: nothing that is measured takes days.
constexpr double kMostSeconds = 1e5;
/// One below this is, too: no clock tells a nanosecond's tenth.
constexpr double kLeastSeconds = 1e-10;
/// Rates that no device or link comes near.
constexpr double kMostBytesPerSecond = 1e16, kMostFlopsPerSecond = 1e19;
constexpr std::int64_t kMostBytes = 1ll << 50;
constexpr double kMostSpread = 1e6;

const char *const kMessageKinds[] = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send", "exchange"};
const char *const kKernelKinds[] = {"gemm", "attention", "copy", "elementwise", "to_host", "from_host"};
const char *const kPrecisions[] = {"fp32", "bf16"};

/// A member out of `words`.
template <typename Words> std::string readWord(JsonReader &reader, const char *key, const Words &words) {
  std::string text = reader.text(key), list;
  for (const auto &word : words) {
    if (text == word)
      return text;
    list += (list.empty() ? "" : ", ") + std::string(word);
  }
  reader.fail("key '" + std::string(key) + "' expects one of " + list + ", but got '" + text + "'");
  return text;
}

/// At least 0, and above 0 where `isPositive`; at most `largest`.
double readFigure(JsonReader &reader, const char *key, double largest, bool isPositive,
                  std::optional<double> fallback = {}) {
  double value = isPositive ? reader.positive(key, fallback) : reader.number(key, fallback);
  if (value < 0 || value > largest)
    reader.fail("key '" + std::string(key) + "' expects a number from 0 to " + Json(largest).dump() + ", but got " +
                Json(value).dump());
  return value;
}

double readSeconds(JsonReader &reader, const char *key, bool isPositive = true) {
  double seconds = readFigure(reader, key, kMostSeconds, isPositive);
  if (seconds > 0 && seconds < kLeastSeconds)
    reader.fail("key '" + std::string(key) + "' expects what can be measured, at least " + Json(kLeastSeconds).dump() +
                " s, but got " + Json(seconds).dump());
  return seconds;
}

/// `amount` in `seconds` is no more than what can be.
void checkRate(JsonReader &reader, double amount, double seconds, double most, const char *unit) {
  if (!reader.failed() && amount > most * seconds)
    reader.fail("key 'seconds' expects at most " + Json(most).dump() + " " + unit + " a second, but " +
                Json(seconds).dump() + " makes " + Json(amount / seconds).dump());
}

std::int64_t readCount(JsonReader &reader, const char *key) { return reader.integer(key, {}, 1, kMostOfAnything); }
std::int64_t readBytes(JsonReader &reader, const char *key, std::int64_t least = 1) {
  return reader.integer(key, {}, least, kMostBytes);
}

/// Calls read(entry reader) for each entry of a list; a missing list is empty. The first complaint, if any.
template <typename Read>
std::optional<Error> readList(JsonReader &parent, const char *key, const std::string &where, Read read) {
  const Json *list = parent.member(key);
  if (!list)
    return std::nullopt;
  if (!list->is_array())
    return Error{where + " key '" + key + "' expects a list, but got " + describeJson(*list)};
  for (std::size_t index = 0; index < list->size(); ++index) {
    JsonReader reader((*list)[index], where + " " + key + "[" + std::to_string(index) + "]");
    read(reader);
    if (auto error = reader.finish())
      return error;
  }
  return std::nullopt;
}

bool isPaired(const std::string &kind) { return kind == "send" || kind == "exchange"; }

auto keyOf(const MeasuredMessage &m) { return std::tie(m.kind, m.ranks, m.stride, m.groups, m.bytes); }
auto keyOf(const MeasuredKernel &k) { return std::tie(k.kind, k.precision, k.shape); }
auto keyOf(const MeasuredBody &b) { return std::tie(b.hash, b.precision, b.strategy, b.samples, b.seq); }
auto keyOf(const PlannedBody &b) { return std::tie(b.hash, b.precision, b.strategy, b.samples, b.seq); }
auto keyOf(const MeasuredOverlap &o) { return std::tie(o.first, o.second, o.bytes); }

/// Refuses a second figure for the same thing.
template <typename Entry> void addOnce(JsonReader &reader, Entry entry, std::vector<Entry> &entries, auto &known) {
  using Key = typename std::remove_reference_t<decltype(known)>::value_type;
  if (reader.failed())
    return;
  if (!known.insert(Key(keyOf(entry))).second)
    reader.fail("is of the same kind, size and ranks as an entry before it; keep one");
  else
    entries.push_back(std::move(entry));
}

/// Reads entries of the tables; knows which there are.
class EntryReader {
public:
  explicit EntryReader(MachineProfile &profile) : profile(profile) {
    for (const MeasuredMessage &each : profile.messages)
      messages.emplace(keyOf(each));
    for (const MeasuredKernel &each : profile.kernels)
      kernels.emplace(keyOf(each));
    for (const MeasuredOverlap &each : profile.overlaps)
      overlaps.emplace(keyOf(each));
    for (const MeasuredBody &each : profile.bodies)
      bodies.emplace(keyOf(each));
  }

  void readMessage(JsonReader &reader);
  void readKernel(JsonReader &reader);
  void readOverlap(JsonReader &reader);
  void readBody(JsonReader &reader);
  void readPlanned(JsonReader &reader);

private:
  void readShape(JsonReader &reader, MeasuredKernel &kernel);

  MachineProfile &profile;
  std::set<std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, std::int64_t>> messages;
  std::set<std::tuple<std::string, std::string, KernelShape>> kernels;
  std::set<std::tuple<std::string, std::string, std::int64_t>> overlaps;
  std::set<std::tuple<std::string, std::string, std::string, std::int64_t, std::int64_t>> bodies, planned;
};

void EntryReader::readMessage(JsonReader &reader) {
  MeasuredMessage message;
  message.kind = readWord(reader, "kind", kMessageKinds);
  message.ranks = reader.integer("ranks", {}, 2, kMostOfAnything);
  message.stride = readCount(reader, "stride");
  message.groups = readCount(reader, "groups");
  message.bytes = readBytes(reader, "bytes");
  message.seconds = readSeconds(reader, "seconds");
  message.spread = readFigure(reader, "spread", kMostSpread, false);
  message.repeats = readCount(reader, "repeats");
  std::int64_t world = profile.cluster.ranks();
  if (isPaired(message.kind) && message.ranks != 2)
    reader.fail("key 'ranks' expects 2 for kind '" + message.kind + "', but got " + std::to_string(message.ranks));
  else if (message.ranks * message.stride > world || message.groups * message.ranks > world)
    reader.fail("key 'groups' expects groups that the cluster's " + std::to_string(world) +
                " ranks can form, but got " + std::to_string(message.groups) + " of " + std::to_string(message.ranks) +
                " ranks with stride " + std::to_string(message.stride));
  checkRate(reader, double(message.bytes), message.seconds, kMostBytesPerSecond, "bytes");
  addOnce(reader, std::move(message), profile.messages, messages);
}

void EntryReader::readShape(JsonReader &reader, MeasuredKernel &kernel) {
  KernelShape &shape = kernel.shape;
  if (kernel.kind == "gemm") {
    shape.m = readCount(reader, "m"), shape.n = readCount(reader, "n"), shape.k = readCount(reader, "k");
    if (reader.has("layout"))
      shape.layout = readWord(reader, "layout", std::initializer_list<const char *>{"nn", "nt", "tn"});
  } else if (kernel.kind == "attention") {
    shape.samples = readCount(reader, "samples"), shape.heads = readCount(reader, "heads");
    shape.kvHeads = readCount(reader, "kv_heads"), shape.seq = readCount(reader, "seq");
    shape.headSize = readCount(reader, "head_size"), shape.backward = reader.flag("backward");
    if (!reader.failed() && shape.heads % shape.kvHeads)
      reader.fail("key 'kv_heads' expects a divisor of the " + std::to_string(shape.heads) + " heads, but got " +
                  std::to_string(shape.kvHeads));
  } else {
    shape.bytes = readBytes(reader, "bytes");
  }
}

void EntryReader::readKernel(JsonReader &reader) {
  MeasuredKernel kernel;
  kernel.kind = readWord(reader, "kind", kKernelKinds);
  kernel.precision = readWord(reader, "precision", kPrecisions);
  kernel.seconds = readSeconds(reader, "seconds");
  kernel.spread = readFigure(reader, "spread", kMostSpread, false, 0.0);
  kernel.repeats = reader.integer("repeats", 1, 1, kMostOfAnything);
  const Json none = Json::object(), *shape = reader.member("shape");
  if (!shape)
    reader.fail("lacks the key 'shape'");
  JsonReader shapeReader(shape ? *shape : none, "key 'shape' of kind '" + kernel.kind + "'");
  if (!reader.failed()) {
    readShape(shapeReader, kernel);
    if (auto error = shapeReader.finish())
      reader.fail(error->message);
  }
  const KernelShape &of = kernel.shape;
  checkRate(reader, double(of.bytes), kernel.seconds, kMostBytesPerSecond, "bytes");
  checkRate(reader, 2.0 * double(of.m) * double(of.n) * double(of.k), kernel.seconds, kMostFlopsPerSecond,
            "operations");
  addOnce(reader, std::move(kernel), profile.kernels, kernels);
}

void EntryReader::readOverlap(JsonReader &reader) {
  std::vector<std::string> kinds(std::begin(kMessageKinds), std::end(kMessageKinds));
  kinds.insert(kinds.end(), std::begin(kKernelKinds), std::end(kKernelKinds));
  kinds.push_back("gradients");
  MeasuredOverlap overlap;
  overlap.first = readWord(reader, "first", kinds);
  overlap.second = readWord(reader, "second", kinds);
  overlap.bytes = readBytes(reader, "bytes");
  overlap.firstSlowdown = readFigure(reader, "first_slowdown", kMostSpread, true);
  overlap.secondSlowdown = readFigure(reader, "second_slowdown", kMostSpread, true);
  addOnce(reader, std::move(overlap), profile.overlaps, overlaps);
}

void readDevice(JsonReader &reader, MachineProfile &profile) {
  MeasuredDevice device;
  device.rank = reader.integer("rank", {}, 0, kMostOfAnything);
  device.host = reader.text("host");
  device.device = reader.integer("device", {}, 0, kMostOfAnything);
  device.clockMhz = readFigure(reader, "clock_mhz", 1e6, false);
  device.powerWatts = readFigure(reader, "power_watts", 1e6, false);
  device.celsius = reader.number("celsius");
  device.gemmShare = readFigure(reader, "gemm_share", kMostSpread, true);
  device.copyShare = readFigure(reader, "copy_share", kMostSpread, true);
  if (!reader.failed() && device.rank != std::int64_t(profile.devices.size()))
    reader.fail("key 'rank' expects " + std::to_string(profile.devices.size()) + ", as ranks stand in order, but got " +
                std::to_string(device.rank));
  profile.devices.push_back(std::move(device));
}

void readStraggler(JsonReader &reader, MachineProfile &profile) {
  Straggler straggler;
  straggler.rank = reader.integer("rank", {}, 0, kMostOfAnything);
  straggler.host = reader.text("host");
  straggler.device = reader.integer("device", {}, 0, kMostOfAnything);
  straggler.slowerBy = readFigure(reader, "slower_by", kMostSpread, true);
  if (straggler.rank >= profile.cluster.ranks())
    reader.fail("key 'rank' expects one of the cluster's " + std::to_string(profile.cluster.ranks()) +
                " ranks, but got " + std::to_string(straggler.rank));
  profile.stragglers.push_back(std::move(straggler));
}

/// Of a body, as text and read.
template <typename Body> void readStrategy(JsonReader &reader, Body &body) {
  if (const Json *strategy = reader.member("strategy"); strategy && strategy->is_object())
    body.strategy = strategy->dump();
  else if (!reader.failed())
    reader.fail("key 'strategy' expects an object as in plan.json, but got " +
                (strategy ? describeJson(*strategy) : "nothing"));
  if (body.strategy.empty())
    return;
  Result<Strategy> strategy = parseStrategy(body.strategy, "key 'strategy'");
  if (strategy)
    body.plan = *strategy;
  else
    reader.fail(strategy.error().message);
}

void EntryReader::readPlanned(JsonReader &reader) {
  PlannedBody body;
  body.layerType = reader.text("layer_type"), body.hash = reader.text("hash");
  body.precision = readWord(reader, "precision", kPrecisions);
  readStrategy(reader, body);
  body.samples = readCount(reader, "samples"), body.seq = readCount(reader, "seq");
  body.parameterBytes = readBytes(reader, "parameter_bytes", 0);
  body.sharedBytes = readBytes(reader, "shared_bytes", 0);
  body.stateBytes = readBytes(reader, "state_bytes", 0), body.savedBytes = readBytes(reader, "saved_bytes", 0);
  body.scratchBytes = readBytes(reader, "scratch_bytes", 0);
  addOnce(reader, std::move(body), profile.planned, planned);
}

void EntryReader::readBody(JsonReader &reader) {
  MeasuredBody body;
  body.layerType = reader.text("layer_type");
  body.hash = reader.text("hash");
  body.precision = readWord(reader, "precision", kPrecisions);
  readStrategy(reader, body);
  body.samples = readCount(reader, "samples");
  body.seq = readCount(reader, "seq");
  body.forwardSeconds = readSeconds(reader, "forward_seconds");
  body.backwardSeconds = readSeconds(reader, "backward_seconds", false);
  body.weightSeconds = readSeconds(reader, "weight_seconds", false);
  body.recomputeSeconds = readSeconds(reader, "recompute_seconds", false);
  body.updateSeconds = readSeconds(reader, "update_seconds", false);
  body.stateBytes = readBytes(reader, "state_bytes", 0);
  body.savedBytes = readBytes(reader, "saved_bytes", 0);
  body.scratchBytes = readBytes(reader, "scratch_bytes", 0);
  body.isMeasured = reader.flag("measured");
  if (reader.has("spread"))
    body.spread = readFigure(reader, "spread", kMostSpread, false);
  if (reader.has("repeats"))
    body.repeats = readCount(reader, "repeats");
  if (reader.has("residual")) {
    body.residual = readFigure(reader, "residual", kMostSpread, false);
    if (body.isMeasured)
      reader.fail("key 'residual' is of figures with 'measured' false, but 'measured' is true");
  }
  if (reader.has("forward_work"))
    body.forwardWork = readWork(reader, "forward_work");
  if (reader.has("backward_work"))
    body.backwardWork = readWork(reader, "backward_work");
  if (body.weightSeconds > body.backwardSeconds)
    reader.fail("key 'weight_seconds' expects a part of 'backward_seconds', " + Json(body.backwardSeconds).dump() +
                ", but got " + Json(body.weightSeconds).dump());
  addOnce(reader, std::move(body), profile.bodies, bodies);
}

void readModel(JsonReader &reader, MachineProfile &profile) {
  ProfiledModel model;
  model.name = reader.text("name");
  model.hash = reader.text("hash");
  model.seq = readCount(reader, "seq");
  auto broken = readList(reader, "units", "profile model '" + model.name + "'", [&](JsonReader &unit) {
    model.units.push_back({unit.text("path"), unit.text("layer_type"),
                           readWord(unit, "role", std::initializer_list<const char *>{"embedding", "layer", "head"}),
                           unit.text("hash", "")});
  });
  if (broken)
    reader.fail(broken->message);
  profile.models.push_back(std::move(model));
}

std::optional<Error> readFingerprint(JsonReader &reader, MachineProfile &profile) {
  const Json *prints = reader.member("fingerprint");
  if (!prints || !prints->is_object() || prints->empty())
    return Error{"profile key 'fingerprint' expects an object of texts, but got " +
                 (prints ? describeJson(*prints) : "nothing")};
  for (const auto &item : prints->items()) {
    if (!item.value().is_string())
      return Error{"profile key 'fingerprint' expects texts, but got " + describeJson(item.value()) + " for '" +
                   item.key() + "'"};
    profile.fingerprint[item.key()] = item.value().get<std::string>();
  }
  return std::nullopt;
}

std::optional<Error> readClusterOf(JsonReader &reader, MachineProfile &profile) {
  const Json *member = reader.member("cluster");
  if (!member)
    return Error{"profile lacks the key 'cluster'"};
  if (member->is_object() && member->contains("profile"))
    return Error{"profile key 'cluster' has the key 'profile', which only cluster.json may have; take it out"};
  Result<Cluster> cluster = parseCluster(member->dump(), "", /*isMeasured=*/true);
  if (!cluster)
    return Error{"profile key 'cluster': " + cluster.error().message};
  profile.cluster = std::move(*cluster);
  return std::nullopt;
}

std::optional<Error> readFormat(JsonReader &reader) {
  std::string format = reader.text("format", "");
  if (format != "galvatron-profile")
    return Error{"profile key 'format' expects galvatron-profile, but got '" + format + "'" + kForeign};
  std::int64_t version = reader.integer("version", {}, 1);
  if (reader.failed())
    return reader.finish();
  if (version != kVersion)
    return Error{"profile key 'version' expects " + std::to_string(kVersion) + ", but got " + std::to_string(version) +
                 "; take the profile again with this version's galvatron-profile"};
  return std::nullopt;
}

/// Every kernel is of the profile's precision, every device of the cluster's.
std::optional<Error> checkAgreement(const MachineProfile &profile, bool hasDevices) {
  for (std::size_t index = 0; index < profile.kernels.size(); ++index)
    if (profile.kernels[index].precision != profile.precision)
      return Error{"profile kernels[" + std::to_string(index) + "] key 'precision' expects the profile's, " +
                   profile.precision + ", but got '" + profile.kernels[index].precision + "'"};
  auto target = profile.fingerprint.find("target");
  bool isProcessor = profile.cluster.device.name == "cpu";
  if (target != profile.fingerprint.end() && (target->second == "cpu") != isProcessor)
    return Error{"profile key 'fingerprint' says target '" + target->second +
                 "', but the devices of 'cluster' are of kind " + profile.cluster.device.name};
  for (const Straggler &straggler : profile.stragglers)
    if (std::size_t(straggler.rank) < profile.devices.size() && profile.devices[straggler.rank].host != straggler.host)
      return Error{"profile key 'stragglers' says that rank " + std::to_string(straggler.rank) + " is on host '" +
                   straggler.host + "', but key 'devices' that it is on '" + profile.devices[straggler.rank].host +
                   "'"};
  if ((hasDevices || !profile.devices.empty()) && std::int64_t(profile.devices.size()) != profile.cluster.ranks())
    return Error{"profile key 'devices' expects the cluster's " + std::to_string(profile.cluster.ranks()) +
                 " ranks, but got " + std::to_string(profile.devices.size())};
  return std::nullopt;
}

OrderedJson toJson(const MeasuredMessage &m) {
  return {{"kind", m.kind},   {"ranks", m.ranks},     {"stride", m.stride}, {"groups", m.groups},
          {"bytes", m.bytes}, {"seconds", m.seconds}, {"spread", m.spread}, {"repeats", m.repeats}};
}

OrderedJson toJson(const MeasuredKernel &k) {
  const KernelShape &s = k.shape;
  OrderedJson shape = {{"bytes", s.bytes}};
  if (k.kind == "gemm") {
    shape = {{"m", s.m}, {"n", s.n}, {"k", s.k}};
    if (!s.layout.empty())
      shape["layout"] = s.layout;
  } else if (k.kind == "attention") {
    shape = {{"samples", s.samples}, {"heads", s.heads},        {"kv_heads", s.kvHeads},
             {"seq", s.seq},         {"head_size", s.headSize}, {"backward", s.backward}};
  }
  return {{"kind", k.kind},       {"precision", k.precision}, {"shape", shape},
          {"seconds", k.seconds}, {"spread", k.spread},       {"repeats", k.repeats}};
}

OrderedJson toJson(const MeasuredOverlap &o) {
  return {{"first", o.first},
          {"second", o.second},
          {"bytes", o.bytes},
          {"first_slowdown", o.firstSlowdown},
          {"second_slowdown", o.secondSlowdown}};
}

OrderedJson toJson(const MeasuredDevice &d) {
  return {{"rank", d.rank},
          {"host", d.host},
          {"device", d.device},
          {"clock_mhz", d.clockMhz},
          {"power_watts", d.powerWatts},
          {"celsius", d.celsius},
          {"gemm_share", d.gemmShare},
          {"copy_share", d.copyShare}};
}

OrderedJson toJson(const Straggler &s) {
  return {{"rank", s.rank}, {"host", s.host}, {"device", s.device}, {"slower_by", s.slowerBy}};
}

/// Which body it is: of a measured or of a planned one.
template <typename Body> OrderedJson nameOf(const Body &b) {
  return {{"layer_type", b.layerType}, {"hash", b.hash},
          {"precision", b.precision},  {"strategy", parseOwnOrderedJson(b.strategy)},
          {"samples", b.samples},      {"seq", b.seq}};
}

OrderedJson toJson(const MeasuredBody &b) {
  OrderedJson json = nameOf(b);
  json.update({{"forward_seconds", b.forwardSeconds},
               {"backward_seconds", b.backwardSeconds},
               {"weight_seconds", b.weightSeconds},
               {"recompute_seconds", b.recomputeSeconds},
               {"update_seconds", b.updateSeconds},
               {"state_bytes", b.stateBytes},
               {"saved_bytes", b.savedBytes},
               {"scratch_bytes", b.scratchBytes},
               {"measured", b.isMeasured},
               {"spread", b.spread},
               {"repeats", b.repeats}});
  if (!b.isMeasured)
    json["residual"] = b.residual;
  for (auto [key, work] : {std::pair("forward_work", &b.forwardWork), {"backward_work", &b.backwardWork}})
    if (!work->isEmpty())
      json[key] = writeWork(*work);
  return json;
}

OrderedJson toJson(const PlannedBody &b) {
  OrderedJson json = nameOf(b);
  json.update({{"parameter_bytes", b.parameterBytes},
               {"shared_bytes", b.sharedBytes},
               {"state_bytes", b.stateBytes},
               {"saved_bytes", b.savedBytes},
               {"scratch_bytes", b.scratchBytes}});
  return json;
}

OrderedJson toJson(const ProfiledModel &m) {
  OrderedJson units = OrderedJson::array();
  for (const ProfiledModel::Unit &unit : m.units)
    units.push_back({{"path", unit.path}, {"layer_type", unit.layerType}, {"role", unit.role}, {"hash", unit.hash}});
  return {{"name", m.name}, {"hash", m.hash}, {"seq", m.seq}, {"units", units}};
}

/// In another unit, to 12 digits: so that what is read and written again stays the same.
double scaled(double value, double unit) {
  char text[40];
  std::snprintf(text, sizeof text, "%.12g", value / unit);
  return std::strtod(text, nullptr);
}

OrderedJson toJson(const Link &link) {
  OrderedJson json = {{"GB_per_s", scaled(link.bytesPerSecond, 1e9)}, {"us", scaled(link.latencySeconds, 1e-6)}};
  for (const auto &[bytes, rate] : link.sends)
    json["sends"].push_back({{"MB", scaled(bytes, 1e6)}, {"GB_per_s", scaled(rate, 1e9)}});
  return json;
}

OrderedJson toJson(const Cluster &cluster) {
  OrderedJson json = {{"nodes", cluster.nodes},
                      {"devices_per_node", cluster.devicesPerNode},
                      {"device", cluster.device.name},
                      {"memory_bytes_per_device", cluster.memoryBytesPerDevice}};
  if (cluster.nccl)
    json["nccl"] = writeNccl(*cluster.nccl);
  json["links"]["intra"] = toJson(cluster.intra);
  json["links"]["inter"] = toJson(cluster.inter);
  for (std::size_t node = 0; node < cluster.interOfNode.size(); ++node) {
    if (node == 0)
      json["links"]["inter"] = OrderedJson::array();
    json["links"]["inter"].push_back(toJson(cluster.interOfNode[node]));
  }
  return json;
}

template <typename Entry>
void addList(std::string &text, const char *key, const std::vector<Entry> &entries, bool isLast = false) {
  text += std::string("  \"") + key + "\": [";
  for (std::size_t index = 0; index < entries.size(); ++index)
    text += (index ? ",\n    " : "\n    ") + toJson(entries[index]).dump();
  text += entries.empty() ? "]" : "\n  ]";
  text += isLast ? "\n" : ",\n";
}
} // namespace

Result<MachineProfile> parseMachineProfile(std::string_view text) {
  Result<Json> json = parseJson(text, "profile");
  if (!json)
    return Error{json.error().message + kForeign};
  JsonReader reader(*json, "profile");
  MachineProfile profile;
  if (auto error = readFormat(reader))
    return *error;
  profile.created = reader.text("created");
  profile.precision = readWord(reader, "precision", kPrecisions);
  profile.wasBusy = reader.flag("busy", false);
  std::optional<Error> error = readFingerprint(reader, profile);
  if (!error)
    error = readClusterOf(reader, profile);
  EntryReader entries(profile);
  auto read = [&](const char *key, auto readEntry) {
    if (!error)
      error = readList(reader, key, "profile", readEntry);
  };
  read("devices", [&](JsonReader &entry) { readDevice(entry, profile); });
  read("stragglers", [&](JsonReader &entry) { readStraggler(entry, profile); });
  read("collectives", [&](JsonReader &entry) { entries.readMessage(entry); });
  read("kernels", [&](JsonReader &entry) { entries.readKernel(entry); });
  read("overlap", [&](JsonReader &entry) { entries.readOverlap(entry); });
  read("layers", [&](JsonReader &entry) { entries.readBody(entry); });
  read("planned", [&](JsonReader &entry) { entries.readPlanned(entry); });
  read("models", [&](JsonReader &entry) { readModel(entry, profile); });
  if (const Json *left = reader.member("left_out"); left && !error) {
    for (const Json &line : *left)
      if (line.is_string())
        profile.leftOut.push_back(line.get<std::string>());
    if (!left->is_array() || profile.leftOut.size() != left->size())
      error = Error{"profile key 'left_out' expects a list of texts, but got " + describeJson(*left)};
  }
  if (!error)
    error = reader.finish();
  if (!error)
    error = checkAgreement(profile, json->contains("devices"));
  if (error)
    return *error;
  return profile;
}

Result<MachineProfile> readMachineProfile(const std::string &path) {
  Result<std::string> text = readFile(path);
  if (!text)
    return text.error();
  Result<MachineProfile> profile = parseMachineProfile(*text);
  if (!profile)
    return Error{"'" + path + "': " + profile.error().message};
  return profile;
}

std::string writeMachineProfile(const MachineProfile &profile) {
  std::string text = "{\n  \"format\": \"galvatron-profile\",\n  \"version\": " + std::to_string(kVersion) + ",\n";
  text += "  \"created\": " + OrderedJson(profile.created).dump() + ",\n";
  text += "  \"precision\": " + OrderedJson(profile.precision).dump() + ",\n";
  if (profile.wasBusy)
    text += "  \"busy\": true,\n";
  text += "  \"fingerprint\": " + OrderedJson(profile.fingerprint).dump() + ",\n";
  text += "  \"cluster\": " + toJson(profile.cluster).dump() + ",\n";
  addList(text, "devices", profile.devices);
  addList(text, "stragglers", profile.stragglers);
  addList(text, "collectives", profile.messages);
  addList(text, "kernels", profile.kernels);
  addList(text, "overlap", profile.overlaps);
  addList(text, "layers", profile.bodies);
  if (!profile.planned.empty())
    addList(text, "planned", profile.planned);
  addList(text, "models", profile.models, profile.leftOut.empty());
  if (!profile.leftOut.empty())
    text += "  \"left_out\": " + OrderedJson(profile.leftOut).dump() + "\n";
  return text + "}\n";
}

void mergePlanned(const std::vector<PlannedBody> &planned, MachineProfile &profile) {
  std::map<std::tuple<std::string, std::string, std::string, std::int64_t, std::int64_t>, std::size_t> places;
  for (std::size_t index = 0; index < profile.planned.size(); ++index)
    places.emplace(keyOf(profile.planned[index]), index);
  for (const PlannedBody &body : planned) {
    auto [place, isNew] = places.emplace(keyOf(body), profile.planned.size());
    if (isNew)
      profile.planned.push_back(body);
    else
      profile.planned[place->second] = body;
  }
}

std::string writeEntry(const MeasuredMessage &message) { return OrderedJson{{"collective", toJson(message)}}.dump(); }
std::string writeEntry(const MeasuredKernel &kernel) { return OrderedJson{{"kernel", toJson(kernel)}}.dump(); }
std::string writeEntry(const MeasuredOverlap &overlap) { return OrderedJson{{"overlap", toJson(overlap)}}.dump(); }

std::string writeEntry(const std::vector<MeasuredBody> &bodies) {
  OrderedJson list = OrderedJson::array();
  for (const MeasuredBody &body : bodies)
    list.push_back(toJson(body));
  return OrderedJson{{"layers", list}}.dump();
}

Result<bool> addEntry(std::string_view text, MachineProfile &profile) {
  Result<Json> json = parseJson(text, "profile entry");
  if (!json)
    return json.error();
  JsonReader outer(*json, "profile entry");
  EntryReader entries(profile);
  std::optional<Error> error;
  auto read = [&](const char *key, void (EntryReader::*readEntry)(JsonReader &)) {
    const Json *member = outer.member(key);
    if (!member || error)
      return;
    JsonReader reader(*member, std::string("profile entry '") + key + "'");
    (entries.*readEntry)(reader);
    error = reader.finish();
  };
  read("collective", &EntryReader::readMessage);
  read("kernel", &EntryReader::readKernel);
  read("overlap", &EntryReader::readOverlap);
  if (!error)
    error = readList(outer, "layers", "profile entry", [&](JsonReader &entry) { entries.readBody(entry); });
  if (!error)
    error = outer.finish();
  if (error)
    return *error;
  return true;
}

std::string writeClusterOf(const MachineProfile &profile) {
  OrderedJson json = toJson(profile.cluster);
  json["profile"] = "profile.json";
  return json.dump(2) + "\n";
}

} // namespace galvatron::search
