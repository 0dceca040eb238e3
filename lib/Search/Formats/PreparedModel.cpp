// bodies.json, and what is asked to make it.
#include "galvatron/Search/Formats/PreparedModel.h"

#include "BodyWorkJson.h"
#include "JsonReader.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Support/Json.h"

namespace galvatron::search {

using OrderedJson = nlohmann::ordered_json;

namespace {

constexpr std::int64_t kVersion = 2;
const char *const kRoles[] = {"embedding", "layer", "head"};

const char *roleName(LayerRole role) {
  return role == LayerRole::Embedding ? kRoles[0] : role == LayerRole::Head ? kRoles[2] : kRoles[1];
}

/// Whole numbers from 1 on.
std::vector<std::int64_t> readCounts(JsonReader &reader, const char *key) {
  std::vector<std::int64_t> counts;
  const Json *list = reader.member(key);
  if (list && list->is_array())
    for (const Json &each : *list)
      if (each.is_number_integer() && each > 0)
        counts.push_back(each.get<std::int64_t>());
  if (!list || counts.empty() || counts.size() != list->size())
    reader.fail(std::string("key '") + key + "' expects a list of whole numbers from 1 on");
  return counts;
}

/// Calls read(entry reader) for each object of a list.
template <typename Read> void readObjects(JsonReader &reader, const char *key, const std::string &where, Read read) {
  const Json *list = reader.member(key);
  if (!list || !list->is_array())
    return reader.fail(std::string("key '") + key + "' expects a list");
  for (std::size_t index = 0; index < list->size(); ++index) {
    JsonReader entry((*list)[index], where + " " + key + "[" + std::to_string(index) + "]");
    read(entry);
    if (auto error = entry.finish())
      return reader.fail(error->message);
  }
}

std::string readObject(JsonReader &reader, const char *key) {
  const Json *object = reader.member(key);
  if (!object || !object->is_object())
    reader.fail(std::string("key '") + key + "' expects an object");
  return object ? object->dump() : "{}";
}

PreparedLayer readLayer(JsonReader &reader) {
  PreparedLayer layer;
  layer.path = reader.text("path"), layer.layerType = reader.text("layer_type"), layer.hash = reader.text("hash");
  if (const Json *names = reader.member("parameters"); names && names->is_array())
    for (const Json &name : *names)
      layer.parameters.push_back(name.is_string() ? name.get<std::string>() : "");
  layer.stateBytes = reader.integer("state_bytes"), layer.savedBytes = reader.integer("saved_bytes");
  layer.scratchBytes = reader.integer("scratch_bytes");
  layer.parameterBytes = reader.integer("parameter_bytes"), layer.sharedBytes = reader.integer("shared_bytes");
  layer.forwardWork = readWork(reader, "forward_work"), layer.backwardWork = readWork(reader, "backward_work");
  return layer;
}

PreparedBodies readBodies(JsonReader &reader) {
  PreparedBodies bodies;
  bodies.library = reader.text("library"), bodies.why = reader.text("why", "");
  bodies.strategy = readObject(reader, "strategy");
  bodies.samples = reader.integer("samples", {}, 1), bodies.ranks = reader.integer("ranks", {}, 1);
  bodies.recomputes = reader.flag("recomputes"), bodies.arenaBytes = reader.integer("arena_bytes");
  readObjects(reader, "layers", "bodies", [&](JsonReader &entry) { bodies.layers.push_back(readLayer(entry)); });
  return bodies;
}

ProfiledModel readModel(const Json &json, JsonReader &outer) {
  JsonReader reader(json, "bodies model");
  ProfiledModel model;
  model.name = reader.text("name"), model.hash = reader.text("hash"), model.seq = reader.integer("seq", {}, 1);
  readObjects(reader, "units", "bodies model", [&](JsonReader &unit) {
    model.units.push_back({unit.text("path"), unit.text("layer_type"), unit.text("role"), unit.text("hash", "")});
  });
  if (auto error = reader.finish())
    outer.fail(error->message);
  return model;
}

OrderedJson toJson(const PreparedLayer &layer) {
  return {{"path", layer.path},
          {"layer_type", layer.layerType},
          {"hash", layer.hash},
          {"parameters", layer.parameters},
          {"state_bytes", layer.stateBytes},
          {"saved_bytes", layer.savedBytes},
          {"scratch_bytes", layer.scratchBytes},
          {"parameter_bytes", layer.parameterBytes},
          {"shared_bytes", layer.sharedBytes},
          {"forward_work", writeWork(layer.forwardWork)},
          {"backward_work", writeWork(layer.backwardWork)}};
}

OrderedJson toJson(const PreparedBodies &bodies) {
  OrderedJson json = {{"library", bodies.library}, {"why", bodies.why}};
  json["strategy"] = parseOwnOrderedJson(bodies.strategy);
  json["samples"] = bodies.samples, json["ranks"] = bodies.ranks, json["recomputes"] = bodies.recomputes;
  json["arena_bytes"] = bodies.arenaBytes;
  json["layers"] = OrderedJson::array();
  for (const PreparedLayer &layer : bodies.layers)
    json["layers"].push_back(toJson(layer));
  return json;
}

} // namespace

std::string writePreparedModel(const PreparedModel &model) {
  OrderedJson units = OrderedJson::array(), bodies = OrderedJson::array();
  for (const ProfiledModel::Unit &unit : model.model.units)
    units.push_back({{"path", unit.path}, {"layer_type", unit.layerType}, {"role", unit.role}, {"hash", unit.hash}});
  for (const PreparedBodies &each : model.bodies)
    bodies.push_back(toJson(each));
  OrderedJson json = {{"format", "galvatron-bodies"},
                      {"version", kVersion},
                      {"made_by", model.version},
                      {"target", model.target},
                      {"precision", model.precision}};
  json["model"] = {{"name", model.model.name}, {"hash", model.model.hash}, {"seq", model.model.seq}, {"units", units}};
  json["bodies"] = bodies;
  return json.dump(1) + "\n";
}

Result<PreparedModel> parsePreparedModel(std::string_view text) {
  Result<Json> json = parseJson(text, "bodies");
  if (!json)
    return json.error();
  JsonReader reader(*json, "bodies");
  PreparedModel model;
  if (reader.text("format") != "galvatron-bodies" || reader.integer("version") != kVersion)
    reader.fail("expects what this version's galvatron-profile prepares; prepare the model again");
  model.version = reader.text("made_by"), model.target = reader.text("target");
  model.precision = reader.text("precision");
  if (const Json *member = reader.member("model"))
    model.model = readModel(*member, reader);
  readObjects(reader, "bodies", "bodies", [&](JsonReader &entry) { model.bodies.push_back(readBodies(entry)); });
  if (auto error = reader.finish())
    return *error;
  return model;
}

std::string writeBodiesRequest(const BodiesRequest &request) {
  OrderedJson json = {{"samples", request.samples}, {"strategies", OrderedJson::array()}};
  for (const std::string &strategy : request.strategies)
    json["strategies"].push_back(parseOwnOrderedJson(strategy));
  for (const std::string &strategy : request.planned)
    json["planned"].push_back(parseOwnOrderedJson(strategy));
  return json.dump() + "\n";
}

Result<BodiesRequest> parseBodiesRequest(std::string_view text) {
  Result<Json> json = parseJson(text, "bodies request");
  if (!json)
    return json.error();
  JsonReader reader(*json, "bodies request");
  BodiesRequest request;
  request.samples = readCounts(reader, "samples");
  const Json *strategies = reader.member("strategies"), *planned = reader.member("planned");
  if (strategies && strategies->is_array())
    for (const Json &each : *strategies)
      if (each.is_object())
        request.strategies.push_back(each.dump());
  if (planned && planned->is_array())
    for (const Json &each : *planned)
      request.planned.push_back(each.dump());
  if (!strategies || request.strategies.empty() || request.strategies.size() != strategies->size())
    reader.fail("key 'strategies' expects a list of objects as in plan.json");
  if (auto error = reader.finish())
    return *error;
  return request;
}

std::int64_t countStrategyRanks(const std::string &strategy) {
  std::string ignored;
  Json json = galvatron::parseJson(strategy, "", ignored).value_or(Json());
  std::int64_t ranks = 1;
  for (const plan::Dimension &row : plan::kDimensions)
    if (row.kind == plan::DimensionKind::Degree && json.is_object() && json.contains(row.key) &&
        json[row.key].is_number_integer())
      ranks *= std::clamp<std::int64_t>(json[row.key].get<std::int64_t>(), 1, kMostOfAnything / ranks);
  return ranks;
}

std::string writeBodyStrategy(const Strategy &strategy) {
  Plan plan;
  plan.layers.resize(1);
  plan.layers[0].strategy = strategy;
  OrderedJson json = parseOwnOrderedJson(writePlan(plan))["units"][0]["strategy"];
  // What does not change a body's time beside it: what is recomputed has a figure of its own.
  for (const char *key : {"dp", "recompute", "zero"})
    json.erase(key);
  return json.dump();
}

std::string shortenStrategy(const std::string &strategy) {
  std::string ignored, text;
  Json json = galvatron::parseJson(strategy, "", ignored).value_or(Json());
  for (const auto &item : json.items()) {
    const Json &value = item.value();
    if (value == 1 || value == false)
      continue;
    text += (text.empty() ? "" : ", ") + item.key();
    if (!value.is_boolean())
      text += " " + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text.empty() ? "1 rank" : text;
}

std::string writeUniformPlan(const std::vector<Layer> &layers, const std::string &strategy, std::int64_t ranks,
                             std::int64_t samples, bool recomputes) {
  OrderedJson json = {
      {"format", "galvatron-plan"}, {"version", 1},      {"ranks", ranks}, {"pipeline", 1}, {"schedule", "1f1b"},
      {"global_batch", samples},    {"micro_batches", 1}};
  json["units"] = OrderedJson::array();
  for (const Layer &layer : layers) {
    OrderedJson unit = {{"path", layer.path}, {"layer_type", layer.layerType}, {"role", roleName(layer.role)}};
    unit["stage"] = 0;
    unit["strategy"] = parseOwnOrderedJson(strategy);
    unit["strategy"]["recompute"] = recomputes;
    json["units"].push_back(unit);
  }
  return json.dump(1) + "\n";
}

} // namespace galvatron::search
