//===- TimetableFile.cpp - timetable.json ---------------------------------===//

#include "galvatron/Search/Formats/TimetableFile.h"

#include "JsonReader.h"
#include "TimetableRows.h"
#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/StrategyText.h"
#include "galvatron/Support/Json.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace galvatron::search {

using OrderedJson = nlohmann::ordered_json;

static constexpr std::string_view kBufferKinds[] = {"weight",        "master",     "gradient", "first_moment",
                                                    "second_moment", "activation", "gathered", "communication",
                                                    "scratch",       "workspace",  "input"};
static constexpr std::string_view kCategories[] = {"compute", "collective",   "send",
                                                   "receive", "redistribute", "update"};
static constexpr std::string_view kCollectiveKinds[] = {"all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                                                        "send_receive"};

/// The version whose buffers and entries are rows (TimetableRows.h).
static constexpr int kWithRows = 2;

namespace {

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

/// To the nanosecond, which is finer than any price.
double rounded(double seconds) { return std::round(seconds * 1e9) / 1e9; }

/// Adds `key` unless the value is what a reader takes without it.
template <typename Value> void put(OrderedJson &json, const char *key, const Value &value, const Value &unless) {
  if (value != unless)
    json[key] = value;
}

OrderedJson writeCall(const BodyCall &call) {
  OrderedJson json = {{"function", call.function}};
  put(json, "flops", call.flops, 0.0);
  put(json, "bytes", call.bytes, 0.0);
  put(json, "pairs", call.pairs, 0.0);
  put(json, "product", call.isProduct, false);
  if (call.collective)
    json["collective"] = std::string(kCollectiveKinds[std::size_t(*call.collective)]);
  put(json, "group", call.group, -1);
  put(json, "handle", call.handle, -1);
  put(json, "waits_for", call.waitsFor, -1);
  if (call.seconds >= 0)
    json["seconds"] = rounded(call.seconds);
  return json;
}

OrderedJson writeBuffer(const StepBuffer &buffer) {
  OrderedJson json = {{"name", buffer.name}};
  put(json, "unit", buffer.unit, std::string());
  json["kind"] = buffer.kind;
  json["bytes"] = buffer.bytes;
  json["offset"] = buffer.offset;
  if (buffer.persistent)
    json["persistent"] = true;
  else
    json["first"] = buffer.first, json["last"] = buffer.last;
  return json;
}

OrderedJson writeEntry(const StepEntry &entry, const std::vector<StepBody> &bodies) {
  OrderedJson json = {{"kind", std::string(kEntryKinds[std::size_t(entry.kind)])}, {"name", entry.name}};
  put(json, "unit", entry.unit, std::string());
  put(json, "micro_batch", entry.microBatch, std::int64_t(-1));
  put(json, "stream", entry.stream, std::string("compute"));
  put(json, "category", entry.category, std::string("compute"));
  put(json, "bytes", entry.bytes, std::int64_t(0));
  put(json, "added_bytes", entry.addedBytes, std::int64_t(0));
  if (entry.body >= 0)
    json["body"] = bodies[entry.body].name;
  put(json, "group", entry.group, -1);
  put(json, "peer", entry.peer, -1);
  put(json, "waits_for", entry.ends, -1);
  put(json, "buffers", entry.buffers, {});
  if (entry.start >= 0)
    json["start"] = rounded(entry.start), json["seconds"] = rounded(entry.seconds);
  return json;
}

/// Whole, as the last of them ends with the step.
std::string writeSpan(const char *key, const std::optional<StepSpan> &span) {
  return span ? ", \"" + std::string(key) +
                    "\": " + OrderedJson{{"start", span->start}, {"seconds", span->seconds}}.dump()
              : "";
}

OrderedJson writeGroup(const StepGroup &group) {
  OrderedJson loops = OrderedJson::array();
  for (const plan::GroupShape::Loop &loop : group.shape.loops)
    loops.push_back({loop.size, loop.stride});
  OrderedJson json = {{"loops", loops}};
  put(json, "axes", group.axes, {});
  put(json, "stages", group.stages, {});
  return json;
}

/// A list with one element a line.
template <typename List, typename Write>
void addLines(std::string &text, const char *indent, const List &list, Write write) {
  text += "[";
  for (const auto &element : list)
    text += (&element == &*std::begin(list) ? "\n" : ",\n") + std::string(indent) + write(element).dump();
  text += "]";
}

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

/// Where a word stands in a list of words; a complaint where it is none of them.
template <typename Words>
int readWord(JsonReader &reader, const char *key, const Words &words, std::optional<std::string> fallback = {}) {
  std::string word = reader.text(key, std::move(fallback));
  auto at = std::find(std::begin(words), std::end(words), word);
  if (at != std::end(words))
    return int(at - std::begin(words));
  std::string all;
  for (std::string_view each : words)
    all += (all.empty() ? "" : ", ") + std::string(each);
  reader.fail(std::string("key '") + key + "' expects one of " + all + ", but got '" + word + "'");
  return 0;
}

/// A number of something there are `count` of, or -1.
int readIndex(JsonReader &reader, const char *key, std::size_t count) {
  return int(reader.integer(key, -1, -1, std::int64_t(count) - 1));
}

std::vector<int> readIntegers(JsonReader &reader, const char *key, std::int64_t largest) {
  std::vector<int> numbers;
  const Json *list = reader.member(key);
  if (!list)
    return numbers;
  bool isGood = list->is_array();
  for (std::size_t i = 0; isGood && i < list->size(); ++i) {
    const Json &value = (*list)[i];
    isGood = value.is_number_integer() && value >= 0 && value <= largest;
    if (isGood)
      numbers.push_back(value.get<int>());
  }
  if (!isGood)
    reader.fail(std::string("key '") + key + "' expects a list of integers from 0 to " + std::to_string(largest) +
                ", but got " + describeJson(*list));
  return numbers;
}

/// Operations, bytes or pairs, and seconds, of which more are damage.
constexpr double kMostWork = 1e30, kMostSeconds = 1e9;

double readAmount(JsonReader &reader, const char *key, double most = kMostWork) {
  double amount = reader.number(key, 0.0);
  if (!(amount >= 0 && amount <= most))
    reader.fail(std::string("key '") + key + "' expects a number from 0 to " + Json(most).dump() + ", but got " +
                Json(amount).dump());
  return amount;
}

/// Whether a buffer may name `unit`: a module of the plan or within one; of states also the parameter that it is of.
bool isUnit(const StepTimetable &table, const StepBuffer &buffer) {
  static constexpr std::string_view kOfParameters[] = {"weight", "master", "gradient", "first_moment", "second_moment"};
  bool isState = std::find(std::begin(kOfParameters), std::end(kOfParameters), buffer.kind) != std::end(kOfParameters);
  return (isState && buffer.name.ends_with(buffer.unit)) ||
         std::any_of(table.units.begin(), table.units.end(), [&](const StepUnit &unit) {
           return buffer.unit.starts_with(unit.path) &&
                  (buffer.unit.size() == unit.path.size() || buffer.unit[unit.path.size()] == '.' ||
                   buffer.unit[unit.path.size()] == ':');
         });
}

/// A span that need not be there.
std::optional<StepSpan> readSpan(JsonReader &reader, const char *key, const std::string &where) {
  const Json *span = reader.member(key);
  if (!span)
    return std::nullopt;
  JsonReader inner(*span, where + " " + key);
  StepSpan read{readAmount(inner, "start", kMostSeconds), readAmount(inner, "seconds", kMostSeconds)};
  if (std::optional<Error> complaint = inner.finish())
    reader.fail(complaint->message);
  return read;
}

class TimetableReader {
public:
  Result<StepTimetable> run(const Json &json);

private:
  void readHead(JsonReader &reader);
  void readCluster(JsonReader &reader);
  void readUnits(JsonReader &reader);
  void readBodies(JsonReader &reader);
  void readStages(JsonReader &reader);
  void readGroups(JsonReader &reader, StageTimetable &stage, const std::string &where);
  void readBuffers(JsonReader &reader, StageTimetable &stage, const std::string &where, std::int64_t entries);
  void readEntries(const Json &list, StageTimetable &stage, const std::string &where);
  StepEntry readEntry(JsonReader &reader, const StageTimetable &stage);
  void checkUses(const StageTimetable &stage, const std::string &where);

  /// Calls `read(reader, index, where)` for each element of a list.
  template <typename Read> void forEach(JsonReader &reader, const char *key, const std::string &what, Read read) {
    const Json *list = reader.member(key);
    if (!list || !list->is_array())
      return reader.fail(std::string("key '") + key + "' expects a list, but got " +
                         (list ? describeJson(*list) : "nothing"));
    for (std::size_t index = 0; index < list->size() && !error; ++index) {
      std::string where = what + " " + std::to_string(index);
      JsonReader element((*list)[index], where);
      read(element, index, where);
      take(element);
    }
  }
  void take(JsonReader &reader) {
    if (auto complaint = reader.finish(); complaint && !error)
      error = complaint;
  }
  void complain(std::string message) {
    if (!error)
      error = Error{std::move(message)};
  }

  StepTimetable table;
  std::optional<Error> error;
};

} // namespace

void TimetableReader::readHead(JsonReader &reader) {
  if (std::string format = reader.text("format"); format != "galvatron-timetable")
    reader.fail("key 'format' expects 'galvatron-timetable', but got '" + format + "'");
  if (std::int64_t version = reader.integer("version", {}, 1); version > kWithRows)
    reader.fail("key 'version' expects 1 or 2, but got " + std::to_string(version) + "; lower the plan again");
  table.version = reader.text("created_by");
  table.plan = reader.text("plan");
  table.model = reader.text("model");
  table.target = reader.text("target");
  table.precision = reader.text("precision");
  table.schedule = reader.text("schedule");
  table.devices = reader.integer("devices_per_stage", {}, 1, kMostOfAnything);
  table.globalBatch = reader.integer("global_batch", {}, 1, kMostOfAnything);
  table.microBatches = reader.integer("micro_batches", {}, 1, kMostOfAnything);
  table.sequence = reader.integer("sequence", 0, 0);
  table.command = reader.text("command", "");
  table.parameters = reader.integer("parameters", 0, 0);
  if (reader.has("predicted_step_seconds"))
    table.predictedStepSeconds = readAmount(reader, "predicted_step_seconds", kMostSeconds);
}

void TimetableReader::readCluster(JsonReader &reader) {
  const Json *cluster = reader.member("cluster");
  Result<Cluster> read = parseCluster(cluster ? cluster->dump() : "null", "", /*isMeasured=*/true);
  if (read)
    table.cluster = *read;
  else
    reader.fail("key 'cluster': " + read.error().message);
}

void TimetableReader::readUnits(JsonReader &reader) {
  forEach(reader, "units", "timetable unit", [&](JsonReader &unit, std::size_t, const std::string &) {
    table.units.push_back(
        {unit.text("path"), unit.text("layer_type"), int(unit.integer("stage", {}, 0, kMostOfAnything))});
  });
}

static void readOrigin(JsonReader &body, BodyOrigin &origin) {
  origin.layerType = body.text("layer_type"), origin.hash = body.text("hash");
  origin.samples = body.integer("samples", {}, 1, kMostOfAnything);
  origin.isBackward = body.flag("backward");
  origin.recomputesSome = body.flag("recomputes_some", false);
  const Json *strategy = body.member("strategy");
  Result<Strategy> read = parseStrategy(strategy ? strategy->dump() : "null", "key 'strategy'");
  if (read)
    origin.strategy = *read;
  else
    body.fail(read.error().message);
}

void TimetableReader::readBodies(JsonReader &reader) {
  forEach(reader, "bodies", "timetable body", [&](JsonReader &body, std::size_t, const std::string &where) {
    table.bodies.push_back({body.text("name"), {}});
    if (body.has("hash"))
      readOrigin(body, table.bodies.back().origin);
    forEach(body, "calls", where + " call", [&](JsonReader &call, std::size_t, const std::string &) {
      BodyCall read;
      read.function = call.text("function");
      read.flops = readAmount(call, "flops");
      read.bytes = readAmount(call, "bytes");
      read.pairs = readAmount(call, "pairs");
      read.isProduct = call.flag("product", false);
      if (call.has("collective"))
        read.collective = CollectiveKind(readWord(call, "collective", kCollectiveKinds));
      read.group = readIndex(call, "group", kMostOfAnything);
      read.handle = readIndex(call, "handle", kMostOfAnything);
      read.waitsFor = readIndex(call, "waits_for", kMostOfAnything);
      if (call.has("seconds"))
        read.seconds = readAmount(call, "seconds");
      table.bodies.back().calls.push_back(std::move(read));
    });
  });
}

void TimetableReader::readGroups(JsonReader &reader, StageTimetable &stage, const std::string &where) {
  forEach(reader, "groups", where + " group", [&](JsonReader &group, std::size_t, const std::string &) {
    StepGroup read;
    read.axes = readIntegers(group, "axes", kMostOfAnything);
    read.stages = readIntegers(group, "stages", kMostOfAnything);
    const Json *loops = group.member("loops");
    bool isGood = loops && loops->is_array();
    for (std::size_t i = 0; isGood && i < loops->size(); ++i) {
      const Json &loop = (*loops)[i];
      isGood = loop.is_array() && loop.size() == 2 && loop[0].is_number_integer() && loop[1].is_number_integer() &&
               loop[0] >= 1 && loop[0] <= kMostOfAnything && loop[1] >= 1 && loop[1] <= kMostOfAnything;
      if (isGood)
        read.shape.loops.push_back({loop[0].get<std::int64_t>(), loop[1].get<std::int64_t>()});
    }
    if (!isGood)
      group.fail("key 'loops' expects a list of pairs [ranks, stride], but got " +
                 (loops ? describeJson(*loops) : "nothing"));
    stage.groups.push_back(std::move(read));
  });
}

void TimetableReader::readBuffers(JsonReader &reader, StageTimetable &stage, const std::string &where,
                                  std::int64_t entries) {
  forEach(reader, "buffers", where + " buffer", [&](JsonReader &buffer, std::size_t, const std::string &) {
    StepBuffer read;
    read.name = buffer.text("name");
    read.unit = buffer.text("unit", "");
    read.kind = kBufferKinds[readWord(buffer, "kind", kBufferKinds)];
    if (!read.unit.empty() && !isUnit(table, read))
      buffer.fail("key 'unit' expects a module of the timetable's units, or a state's parameter, but got '" +
                  read.unit + "'");
    read.bytes = buffer.integer("bytes", {}, 0, stage.arenaBytes);
    read.offset = buffer.integer("offset", {}, 0, stage.arenaBytes - std::min(read.bytes, stage.arenaBytes));
    read.persistent = buffer.flag("persistent", false);
    read.first =
        buffer.integer("first", read.persistent ? std::optional<std::int64_t>(0) : std::nullopt, 0, entries - 1);
    read.last = buffer.integer("last", read.persistent ? std::optional<std::int64_t>(entries - 1) : std::nullopt,
                               read.first, entries - 1);
    stage.buffers.push_back(std::move(read));
  });
}

StepEntry TimetableReader::readEntry(JsonReader &reader, const StageTimetable &stage) {
  StepEntry read;
  read.kind = EntryKind(readWord(reader, "kind", kEntryKinds));
  read.name = reader.text("name");
  read.unit = reader.text("unit", "");
  read.microBatch = reader.integer("micro_batch", -1, 0, table.microBatches - 1);
  read.stream = reader.text("stream", "compute");
  read.category = kCategories[readWord(reader, "category", kCategories, "compute")];
  read.bytes = reader.integer("bytes", 0, 0);
  read.addedBytes = reader.integer("added_bytes", 0, 0, stage.arenaBytes);
  if (reader.has("body")) {
    std::string name = reader.text("body");
    auto at =
        std::find_if(table.bodies.begin(), table.bodies.end(), [&](const StepBody &body) { return body.name == name; });
    if (at == table.bodies.end())
      reader.fail("key 'body' expects the name of a body, but got '" + name + "'");
    read.body = int(at - table.bodies.begin());
  }
  read.group = readIndex(reader, "group", stage.groups.size());
  read.peer = readIndex(reader, "peer", kMostOfAnything);
  read.ends = readIndex(reader, "waits_for", stage.entries.size());
  read.buffers = readIntegers(reader, "buffers", std::int64_t(stage.buffers.size()) - 1);
  if (reader.has("start")) {
    read.start = readAmount(reader, "start", kMostSeconds);
    read.seconds = readAmount(reader, "seconds", kMostSeconds);
    // Both are to the nanosecond.
    if (read.start + read.seconds > table.predictedStepSeconds * (1 + 1e-9) + 2e-9)
      reader.fail("keys 'start' and 'seconds' expect an end within the step's predicted_step_seconds, " +
                  Json(table.predictedStepSeconds).dump() + ", but got " + Json(read.start + read.seconds).dump());
  }
  return read;
}

/// What entries of this kind need to have, and whether every wait has what it ends.
void TimetableReader::checkUses(const StageTimetable &stage, const std::string &where) {
  for (std::size_t index = 0; index < stage.entries.size(); ++index) {
    const StepEntry &entry = stage.entries[index];
    bool isBody = entry.kind <= EntryKind::Total,
         isMessage = entry.kind == EntryKind::Send || entry.kind == EntryKind::Receive;
    const char *lacks = isBody && entry.body < 0                          ? "body"
                        : isCollective(entry.kind) && entry.group < 0     ? "group"
                        : isMessage && entry.peer < 0                     ? "peer"
                        : entry.kind == EntryKind::Wait && entry.ends < 0 ? "waits_for"
                                                                          : nullptr;
    if (lacks)
      return complain(where + " entry " + std::to_string(index) + " lacks the key '" + lacks + "'");
    if (isBody)
      for (const BodyCall &call : table.bodies[entry.body].calls)
        if (call.collective && (call.group < 0 || call.group >= int(stage.groups.size())))
          return complain("timetable body '" + table.bodies[entry.body].name + "' expects the number of a group of " +
                          where + ", but got " + std::to_string(call.group));
  }
}

void TimetableReader::readEntries(const Json &list, StageTimetable &stage, const std::string &where) {
  for (std::size_t index = 0; index < list.size() && !error; ++index) {
    JsonReader reader(list[index], where + " entry " + std::to_string(index));
    StepEntry entry = readEntry(reader, stage);
    if (!reader.failed() && entry.ends >= 0) {
      StepEntry &started = stage.entries[entry.ends];
      bool canBeUnderWay =
          isCollective(started.kind) || started.kind == EntryKind::Send || started.kind == EntryKind::Receive;
      if (!canBeUnderWay || started.endedBy >= 0)
        reader.fail("key 'waits_for' expects a transfer or collective that nothing else waits for, but got entry " +
                    std::to_string(entry.ends));
      started.endedBy = int(index);
    }
    take(reader);
    stage.entries.push_back(std::move(entry));
  }
}

void TimetableReader::readStages(JsonReader &reader) {
  forEach(reader, "stages", "timetable stage", [&](JsonReader &json, std::size_t index, const std::string &where) {
    if (json.integer("stage") != std::int64_t(index))
      json.fail("key 'stage' expects " + std::to_string(index) + ", as stages stand in order");
    StageTimetable stage;
    stage.arenaBytes = json.integer("arena_bytes", {}, 0);
    stage.updateBytes = json.integer("update_bytes", {}, 0);
    stage.sums = readSpan(json, "sums", where);
    stage.update = readSpan(json, "update", where);
    const Json *entries = json.member("entries");
    if (!entries || !entries->is_array())
      return json.fail("key 'entries' expects a list, but got " + (entries ? describeJson(*entries) : "nothing"));
    readGroups(json, stage, where);
    readBuffers(json, stage, where, std::max<std::int64_t>(1, std::int64_t(entries->size())));
    readEntries(*entries, stage, where);
    if (!error)
      checkUses(stage, where);
    table.stages.push_back(std::move(stage));
  });
  if (!error && table.stages.empty())
    reader.fail("key 'stages' expects at least one stage");
  for (std::size_t stage = 0; stage < table.stages.size() && !error; ++stage)
    for (const StepEntry &entry : table.stages[stage].entries)
      if (entry.peer >= int(table.stages.size()) || entry.peer == int(stage))
        complain("timetable stage " + std::to_string(stage) + " entry '" + entry.name +
                 "' key 'peer' expects another stage, but got " + std::to_string(entry.peer));
}

Result<StepTimetable> TimetableReader::run(const Json &json) {
  JsonReader reader(json, "timetable");
  readHead(reader);
  readCluster(reader);
  if (!reader.failed()) {
    readUnits(reader);
    readBodies(reader);
    readStages(reader);
  }
  if (error)
    return *error;
  if (auto complaint = reader.finish())
    return *complaint;
  return std::move(table);
}

Result<StepTimetable> parseTimetable(std::string_view text) {
  Result<Json> json = parseJson(text, "timetable");
  if (!json)
    return json.error();
  if (json->is_object() && json->value("version", Json()) == kWithRows)
    if (std::optional<Error> error = unpackRows(*json))
      return *error;
  return TimetableReader().run(*json);
}

static std::size_t countLines(const StepTimetable &timetable) {
  std::size_t lines = 0;
  for (const StageTimetable &stage : timetable.stages)
    lines += stage.buffers.size() + stage.entries.size();
  return lines;
}

std::string writeTimetable(const StepTimetable &timetable, std::size_t mostObjects) {
  RowPacker packer;
  bool hasRows = countLines(timetable) > mostObjects;
  OrderedJson head = {{"format", "galvatron-timetable"},
                      {"version", hasRows ? kWithRows : 1},
                      {"created_by", timetable.version},
                      {"plan", timetable.plan},
                      {"model", timetable.model},
                      {"target", timetable.target},
                      {"precision", timetable.precision},
                      {"schedule", timetable.schedule},
                      {"devices_per_stage", timetable.devices},
                      {"global_batch", timetable.globalBatch},
                      {"micro_batches", timetable.microBatches},
                      {"sequence", timetable.sequence}};
  put(head, "command", timetable.command, std::string());
  put(head, "parameters", timetable.parameters, std::int64_t(0));
  if (timetable.predictedStepSeconds >= 0)
    head["predicted_step_seconds"] = timetable.predictedStepSeconds;
  head["cluster"] = parseOwnOrderedJson(writeCluster(timetable.cluster));
  std::string text = "{\n";
  for (const auto &item : head.items())
    text += "  \"" + item.key() + "\": " + item.value().dump() + ",\n";
  text += "  \"units\": ";
  addLines(text, "    ", timetable.units, [](const StepUnit &unit) {
    return OrderedJson{{"path", unit.path}, {"layer_type", unit.layerType}, {"stage", unit.stage}};
  });
  text += ",\n  \"bodies\": ";
  addLines(text, "    ", timetable.bodies, [](const StepBody &body) {
    OrderedJson calls = OrderedJson::array();
    for (const BodyCall &call : body.calls)
      calls.push_back(writeCall(call));
    OrderedJson json = {{"name", body.name}};
    if (const BodyOrigin &origin = body.origin; !origin.hash.empty()) {
      json["layer_type"] = origin.layerType, json["hash"] = origin.hash;
      json["strategy"] = parseOwnOrderedJson(formatStrategy(origin.strategy, 1));
      json["samples"] = origin.samples, json["backward"] = origin.isBackward;
      put(json, "recomputes_some", origin.recomputesSome, false);
    }
    json["calls"] = calls;
    return json;
  });
  auto packed = [&](OrderedJson object) { return hasRows ? packer.pack(object) : object; };
  std::string stages = ",\n  \"stages\": [";
  for (std::size_t index = 0; index < timetable.stages.size(); ++index) {
    const StageTimetable &stage = timetable.stages[index];
    stages += std::string(index ? ",\n" : "\n") + "    {\"stage\": " + std::to_string(index) +
              ", \"arena_bytes\": " + std::to_string(stage.arenaBytes) +
              ", \"update_bytes\": " + std::to_string(stage.updateBytes) + writeSpan("sums", stage.sums) +
              writeSpan("update", stage.update) + ",\n     \"groups\": ";
    addLines(stages, "      ", stage.groups, writeGroup);
    stages += ",\n     \"buffers\": ";
    addLines(stages, "      ", stage.buffers, [&](const StepBuffer &buffer) { return packed(writeBuffer(buffer)); });
    stages += ",\n     \"entries\": ";
    addLines(stages, "      ", stage.entries,
             [&](const StepEntry &entry) { return packed(writeEntry(entry, timetable.bodies)); });
    stages += "}";
  }
  if (hasRows)
    text += ",\n  \"words\": " + packer.getWords().dump() + ",\n  \"shapes\": " + packer.getShapes().dump();
  return text + stages + "]\n}\n";
}

} // namespace galvatron::search
