// The manifest of a stage: the facts that the runtime needs beside code. Its fields are listed in
// docs/runtime.md.
#include "galvatron/Target/StageBinaries.h"

#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/Precision.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Costs/ModelLayers.h"

#include "runtime/api/MeshAxisWord.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/xxhash.h"

#include <nlohmann/json.hpp>

using namespace mlir;
using namespace galvatron;
using Json = nlohmann::ordered_json;

static Json toJson(dist::PlacementAttr placement) {
  Json dims = Json::array();
  size_t subAxis = 0;
  for (int64_t count : placement.getSubAxesPerDim()) {
    Json subAxes = Json::array();
    for (int64_t i = 0; i < count; ++i, ++subAxis)
      subAxes.push_back(
          {placement.getExtents()[subAxis],
           meshAxisWord(placement.getMeshAxes()[subAxis],
                        llvm::is_contained(placement.getMirroredAxes(), placement.getMeshAxes()[subAxis]))});
    dims.push_back(subAxes);
  }
  return dims;
}

static Json toJson(ArrayRef<int64_t> values) { return std::vector<int64_t>(values.begin(), values.end()); }

/// For each dimension [[own values, padding], …], major first.
static Json toJson(graph::PaddingAttr padding) {
  Json dims = Json::array();
  for (const graph::PaddingAttr::Dim &dim : padding.getDims()) {
    Json factors = Json::array();
    for (graph::PaddingAttr::Factor factor : dim)
      factors.push_back({factor.own, factor.padding});
    dims.push_back(factors);
  }
  return dims;
}

static Json toJson(DictionaryAttr init) {
  Json json = Json::object();
  if (!init)
    return json;
  for (NamedAttribute entry : init) {
    if (auto value = dyn_cast<FloatAttr>(entry.getValue())) {
      json[entry.getName().str()] = value.getValueAsDouble();
    } else if (auto values = dyn_cast<ArrayAttr>(entry.getValue())) {
      Json list = Json::array();
      for (Attribute element : values)
        if (auto number = dyn_cast<FloatAttr>(element))
          list.push_back(number.getValueAsDouble());
      json[entry.getName().str()] = list;
    }
  }
  return json;
}

/// Of a parameter whose states ranks share: who, and where it begins in the list of elements that they share.
static Json shardOf(const StateBucket &bucket, const StageParameter &parameter) {
  Json whole = Json::array();
  if (bucket.isWhole())
    whole.push_back("parameter");
  if (bucket.isReadAsCopy && bucket.isCopyWhole())
    whole.push_back("copy");
  return {
      {"axes", bucket.axes}, {"piece", bucket.pieceElements()}, {"first", parameter.bucketOffset}, {"whole", whole}};
}

static Json parametersOf(const Timetable &timetable) {
  auto offset = [&](int buffer) { return timetable.buffers[buffer].offset; };
  Json parameters = Json::array();
  for (const StageParameter &parameter : timetable.parameters) {
    parameters.push_back({{"names", parameter.names},
                          {"shape", toJson(parameter.ownShape())},
                          {"placement", toJson(parameter.home)},
                          {"init", toJson(parameter.init)},
                          {"count", parameter.count},
                          {"counted", parameter.counted}});
    for (auto [key, buffer] : {std::pair("parameter", parameter.parameterBuffer),
                               {"gradient", parameter.gradientBuffer},
                               {"first_moment", parameter.firstMomentBuffer},
                               {"second_moment", parameter.secondMomentBuffer},
                               {"copy", parameter.copyBuffer}})
      if (buffer >= 0)
        parameters.back()[key] = offset(buffer);
    if (parameter.padding)
      parameters.back()["padding"] = toJson(parameter.padding);
    if (parameter.bucket >= 0)
      parameters.back()["shard"] = shardOf(timetable.buckets[parameter.bucket], parameter);
  }
  return parameters;
}

/// What checkpoints hold beside the parameters of any stage.
static Json carriedOf(ModuleOp module) {
  Json carried = Json::array();
  if (auto list = module->getAttrOfType<ArrayAttr>("graph.carried"))
    for (auto entry : list.getAsRange<DictionaryAttr>())
      carried.push_back({{"names", namesOf(module, entry.getAs<StringAttr>("name"))},
                         {"dtype", entry.getAs<StringAttr>("dtype").str()},
                         {"shape", toJson(entry.getAs<DenseI64ArrayAttr>("shape").asArrayRef())},
                         {"init", toJson(entry.getAs<DictionaryAttr>("init"))},
                         {"buffer", entry.contains("buffer")},
                         {"read", entry.contains("read")}});
  return carried;
}

static Json inputsOf(const Timetable &timetable) {
  Json inputs = Json::array();
  for (const StageInput &input : timetable.inputs)
    inputs.push_back({{"name", input.name},
                      {"offset", timetable.buffers[input.buffer].offset},
                      {"bytes_per_micro_batch", input.bytesPerMicroBatch},
                      {"shape", toJson(input.placement.getGlobalShape())},
                      {"placement", toJson(input.placement)}});
  return inputs;
}

/// What the program reads of other data than tokens, whichever stage does.
static Json fieldsOf(ModuleOp module, ArrayAttr inputs) {
  Json fields = Json::array();
  for (auto input : inputs.getAsRange<DictionaryAttr>()) {
    auto type = cast<RankedTensorType>(input.getAs<TypeAttr>(graph::kInputTypeKey).getValue());
    fields.push_back({{"name", input.getAs<StringAttr>(graph::kInputNameKey).str()},
                      {"type", type.getElementType().isInteger() ? "i64" : "f32"},
                      {"shape", toJson(type.getShape().drop_front())}});
    for (StringRef key : {graph::kInputBelowKey, graph::kInputIgnoredKey})
      if (auto number = input.getAs<IntegerAttr>(key))
        fields.back()[key.str()] = number.getInt();
  }
  return fields;
}

static Json lossesOf(const Timetable &timetable) {
  Json losses = Json::array();
  for (const StageLoss &loss : timetable.losses) {
    Json axes = Json::array();
    for (int64_t meshAxis : loss.placement.getPartialAxes())
      if (meshAxis != dist::PlacementAttr::kTime)
        axes.push_back(meshAxis);
    losses.push_back({{"offset", timetable.buffers[loss.buffer].offset}, {"partial_axes", axes}});
  }
  return losses;
}

static Json totalsOf(const Timetable &timetable) {
  Json totals = Json::array();
  for (int buffer : timetable.totals)
    totals.push_back({{"name", timetable.buffers[buffer].name}, {"offset", timetable.buffers[buffer].offset}});
  return totals;
}

static Json gradientsOf(const Timetable &timetable) {
  if (timetable.gradientRegionFirst < 0)
    return {{"offset", 0}, {"bytes", 0}};
  const Buffer &first = timetable.buffers[timetable.gradientRegionFirst],
               &last = timetable.buffers[timetable.gradientRegionLast];
  return {{"offset", first.offset}, {"bytes", last.offset + last.bytes - first.offset}};
}

/// By function, as its entries have them: [buffer, type, elements].
static Json resultsOf(const Timetable &timetable) {
  std::map<std::string, const Compute *> bodies;
  for (const TimetableEntry &entry : timetable.entries)
    if (auto *compute = entry.getIf<Compute>())
      bodies.try_emplace(compute->function, compute);
  Json results = Json::array();
  for (const std::string &function : functionsOf(timetable)) {
    Json list = Json::array();
    if (auto body = bodies.find(function); body != bodies.end())
      for (const BodyResult &result : body->second->results)
        list.push_back({result.argument, int64_t(result.type), result.count});
    results.push_back(list);
  }
  return results;
}

std::vector<std::string> galvatron::entryNames(const Timetable &timetable) {
  std::vector<std::string> names;
  llvm::StringSet<> seen;
  auto add = [&](const Timetable &list) {
    for (const TimetableEntry &entry : list.entries)
      if (seen.insert(entry.name).second)
        names.push_back(entry.name);
  };
  add(timetable);
  llvm::for_each(timetable.evaluation, add);
  return names;
}

std::string galvatron::hashProgram(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  Attribute predicted = module->removeAttr(kPredictedSecondsAttr);
  module->print(stream);
  if (predicted)
    module->setAttr(kPredictedSecondsAttr, predicted);
  llvm::XXH128_hash_t hash =
      llvm::xxh3_128bits(llvm::ArrayRef(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  return llvm::utohexstr(hash.high64, /*LowerCase=*/true, /*Width=*/16) + llvm::utohexstr(hash.low64, true, 16);
}

std::string galvatron::writeManifest(ModuleOp module, const Timetable &timetable, StringRef modelName,
                                     StringRef program) {
  auto pipeline = module->getAttrOfType<plan::PipelineAttr>(plan::kPipelineAttrName);
  auto integer = [&](StringRef name) {
    auto attribute = module->getAttrOfType<IntegerAttr>(name);
    return attribute ? attribute.getInt() : 0;
  };
  auto text = [&](StringRef name) {
    auto attribute = module->getAttrOfType<StringAttr>(name);
    return attribute ? attribute.getValue().str() : "";
  };
  Json groups = Json::array();
  for (const RankGroup &group : timetable.groups)
    groups.push_back(group.stages.empty() ? Json{{"axes", group.axes}} : Json{{"stages", group.stages}});
  Json manifest = {{"format", 1},
                   {"stage", timetable.stage},
                   {"stages", pipeline.getStages()},
                   {"devices", pipeline.getDevices()},
                   {"mesh", toJson(plan::getMesh(pipeline))},
                   {"schedule", plan::stringifySchedule(pipeline.getSchedule()).str()},
                   {"global_batch", integer("graph.batch")},
                   {"micro_batches", pipeline.getMicroBatches()},
                   {"sequence", integer("graph.seq")},
                   {"vocabulary", integer("graph.vocabulary")},
                   {"precision", graph::getPrecision(module).str()},
                   {"packed", module->hasAttr(graph::kPackedAttr)},
                   {"counts_labels", module->hasAttr(graph::kCountsLabelsAttr)},
                   {"model", modelName.str()},
                   {"device", timetable.device},
                   {"program", program.str()},
                   {"weights", text("graph.weights")},
                   {"buffers", text("graph.buffers")},
                   {"carried", carriedOf(module)},
                   {"arena_bytes", timetable.arenaBytes},
                   {"gradients", gradientsOf(timetable)},
                   {"parameters", parametersOf(timetable)},
                   {"inputs", inputsOf(timetable)},
                   {"losses", lossesOf(timetable)},
                   {"totals", totalsOf(timetable)},
                   {"groups", groups},
                   {"results", resultsOf(timetable)},
                   {"names", entryNames(timetable)},
                   {"units", timetable.layerPaths}};
  if (auto inputs = module->getAttrOfType<ArrayAttr>(graph::kInputsAttr))
    manifest["fields"] = fieldsOf(module, inputs);
  if (module->hasAttr(graph::kIgnoredLabelAttr))
    manifest["ignored_label"] = integer(graph::kIgnoredLabelAttr);
  if (timetable.workspaceBuffer >= 0)
    manifest["workspace"] = {{"offset", timetable.buffers[timetable.workspaceBuffer].offset},
                             {"bytes", timetable.buffers[timetable.workspaceBuffer].bytes}};
  return manifest.dump();
}
