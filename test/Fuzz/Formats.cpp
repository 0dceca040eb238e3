// The readers of files that carry no program: tensors, data, states, plans, clusters, profiles, configurations.
#include "Fuzz.h"

#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Formats/ModelFile.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Search/Formats/PreparedModel.h"
#include "galvatron/Search/Formats/TimetableFile.h"
#include "galvatron/Search/Reference/ReferenceProfile.h"
#include "galvatron/Support/Safetensors.h"
#include "galvatron/Support/Shards.h"
#include "runtime/checkpoint/TrainingState.h"
#include "runtime/core/Manifest.h"
#include "runtime/data/IndexedDataset.h"
#include "runtime/data/TokenFile.h"

#include <algorithm>
#include <cstring>
#include <fstream>

namespace fs = std::filesystem;
using namespace galvatron;

namespace galvatron::fuzz {
namespace {

void writeFile(const fs::path &path, const std::string &text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc).write(text.data(), text.size());
}

template <typename Value> std::string whyNot(const search::Result<Value> &result) {
  if (result)
    return "";
  if (result.error().message.empty())
    breakPromise("refused without a word");
  return result.error().message;
}

std::string whyNot(const Status &status) {
  if (!status.ok() && status.message.empty())
    breakPromise("refused without a word");
  return status.ok() ? "" : status.message;
}

Format document(const std::string &name, std::function<std::string(const std::string &)> read) {
  return {name, mutateDocument, std::move(read)};
}

//===----------------------------------------------------------------------===//
// Tensors and data
//===----------------------------------------------------------------------===//

/// A length, a header that is a document, and what it speaks of.
std::string mutateSafetensors(Random &random, const std::string &example) {
  uint64_t length = 0;
  std::memcpy(&length, example.data(), 8);
  std::string header = example.substr(8, length), data = example.substr(8 + length);
  if (!random.oneIn(8))
    header = mutateDocument(random, header);
  length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  if (random.oneIn(16))
    mutateInteger(random, bytes, 0, 8);
  if (random.oneIn(16))
    data.resize(random.below(2 * data.size() + 1));
  return bytes + header + data;
}

std::string readSafetensors(const fs::path &path, const std::string &input) {
  writeFile(path, input);
  std::string error;
  std::optional<safetensors::Reader> reader = safetensors::Reader::open(path, error);
  if (!reader)
    return error.empty() ? "refused without a word" : error;
  for (const auto &[name, tensor] : reader->tensors()) {
    if (tensor.offset < 8 || tensor.bytes < 0 || tensor.offset + tensor.bytes > int64_t(input.size()))
      breakPromise("a tensor outside of its file was accepted");
    std::vector<float> values(tensor.numElements());
    if (tensor.type != safetensors::ElementType::C64 &&
        !reader->readFloats(name, 0, values.size(), values.data(), error))
      breakPromise("a tensor that was accepted cannot be read: " + error);
  }
  return "";
}

std::string readShards(const fs::path &folder, const std::string &input) {
  fs::create_directories(folder);
  for (auto [shard, tensor] : {std::pair("model-00001-of-00002", "a"), {"model-00002-of-00002", "b"}})
    if (fs::path path = folder / (std::string(shard) + ".safetensors"); !fs::exists(path)) {
      std::string error;
      if (!safetensors::writeAll(path, {{tensor, {{2}, {1, 2}}}}, error))
        breakPromise(error);
    }
  writeFile(folder / "model.safetensors.index.json", input);
  std::string error;
  std::optional<safetensors::ShardedReader> reader = safetensors::ShardedReader::open(folder, error);
  if (!reader)
    return error.empty() ? "refused without a word" : error;
  for (const std::string &file : reader->files())
    if (fs::path(file).parent_path() != folder)
      breakPromise("a file outside of the folder was accepted: " + file);
  return "";
}

/// Magic, version, type, two counts; lengths, pointers, bounds: integers at known places.
std::string mutateIndex(Random &random, const std::string &example) {
  std::string data = example;
  const std::vector<std::pair<size_t, size_t>> fields = {{9, 8}, {17, 1}, {18, 8}, {26, 8}};
  for (uint64_t count = 1 + random.below(3); count > 0; --count) {
    if (random.oneIn(3)) {
      auto [at, bytes] = random.pick(fields);
      mutateInteger(random, data, at, bytes);
    } else if (random.oneIn(8)) {
      data.resize(random.below(data.size() + 64));
    } else {
      mutateInteger(random, data, 34 + 4 * random.below(data.size() / 4 + 1), random.oneIn(2) ? 4 : 8);
    }
  }
  return data;
}

std::string readIndex(const fs::path &folder, const std::string &input) {
  fs::create_directories(folder);
  std::string prefix = folder / "set";
  if (!fs::exists(prefix + ".bin"))
    writeFile(prefix + ".bin", std::string(64, '\0'));
  writeFile(prefix + ".idx", input);
  IndexedDataset dataset;
  Status status = IndexedDataset::open(prefix, 1 << 20, dataset);
  if (status.ok())
    status = dataset.checkIndex();
  if (status.ok())
    status = dataset.checkTokens(0, dataset.numSequences());
  return whyNot(status);
}

/// Tokens alone: text, other formats' beginnings, or numbers.
std::string mutateTokens(Random &random, const std::string &example) {
  std::string data = example;
  if (random.oneIn(4)) {
    const std::vector<std::string> beginnings = {"PK\3\4", "\x93NUMPY\1", "MMIDIDX", "{\"text\": ", "\x1f\x8b\x08", "PAR1"};
    data = random.pick(beginnings) + data;
  }
  for (uint64_t count = random.below(8); count > 0; --count)
    random.oneIn(2) ? mutateInteger(random, data, 2 * random.below(data.size() + 1), 1 << random.below(4))
                    : mutateText(random, data);
  return data;
}

std::string readTokens(const fs::path &path, const std::string &input) {
  writeFile(path, input);
  std::string why, warning;
  for (const char *type : {"u8", "i32", "i64", "u16"}) {
    TokenFile file;
    Status status = TokenFile::open(path, type, 2000, file, warning);
    if (status.ok())
      status = file.check(0, file.numTokens());
    why = whyNot(status);
    (void)TokenFile::open(path, "", 2000, file, warning).ok();
  }
  return why;
}

//===----------------------------------------------------------------------===//
// What programs leave and read
//===----------------------------------------------------------------------===//

std::string readTraining(const std::string &input) {
  TrainingState state, again;
  Status status = TrainingState::parse(input, state);
  if (status.ok() && !TrainingState::parse(state.toText(), again).ok())
    breakPromise("a state that was accepted is not when written again");
  return whyNot(status);
}

std::string readManifest(const std::string &input) {
  Manifest manifest;
  Status status = Manifest::parse(input.c_str(), manifest);
  if (status.ok()) {
    manifest.programHash();
    manifest.takeShards(std::vector<int64_t>(manifest.mesh.size(), 0));
  }
  return whyNot(status);
}

//===----------------------------------------------------------------------===//
// Planning
//===----------------------------------------------------------------------===//

/// As the tools read one: for a model, and for nobody in particular.
std::string readPlan(const std::string &input) {
  std::string why;
  for (bool isOfModel : {false, true}) {
    search::PlanTarget target;
    if (isOfModel)
      target.layers = search::transformerLayers(2), target.ranks = 4, target.globalBatch = 8;
    search::readLayerNames(input);
    search::Result<search::Plan> plan = search::parsePlan(input, target);
    if (plan) {
      search::writePlan(*plan);
      (void)search::writeReferencePlan(*plan);
    }
    if (why = whyNot(plan); why.empty())
      break;
  }
  return why;
}

std::string readCluster(const std::string &input) {
  search::Result<search::Cluster> cluster = search::parseCluster(input, "/nowhere");
  if (cluster && !search::parseCluster(search::writeCluster(*cluster), "", /*isMeasured=*/true))
    breakPromise("a cluster that was accepted is not when written again");
  return whyNot(cluster);
}

std::string readProfile(const std::string &input) {
  search::Result<search::MachineProfile> profile = search::parseMachineProfile(input);
  if (profile)
    if (auto again = search::parseMachineProfile(search::writeMachineProfile(*profile)); !again)
      breakPromise("a profile that was accepted is not when written again: " + again.error().message);
  return whyNot(profile);
}

std::string readTimetable(const std::string &input) {
  search::Result<search::StepTimetable> timetable = search::parseTimetable(input);
  if (timetable)
    search::writeTimetable(*timetable);
  return whyNot(timetable);
}

std::string readConfig(const std::string &input) { return whyNot(search::parseReferenceConfig(input, "/nowhere")); }

std::string mutateLines(Random &random, const std::string &example) {
  std::string text = example;
  for (uint64_t count = 1 + random.below(4); count > 0; --count)
    mutateText(random, text);
  return text;
}

} // namespace

std::vector<Format> makeFormats(const fs::path &folder) {
  auto in = [folder](const char *name, auto read) {
    return [path = folder / name, read](const std::string &input) { return read(path, input); };
  };
  return {
      {"safetensors", mutateSafetensors, in("x.safetensors", readSafetensors)},
      document("shards", in("shards", readShards)),
      {"idx", mutateIndex, in("indexed", readIndex)},
      {"tokens", mutateTokens, in("tokens", readTokens)},
      document("training", readTraining),
      document("manifest", readManifest),
      document("plan", readPlan),
      document("reference_plan", readPlan),
      document("cluster", readCluster),
      document("profile", readProfile),
      document("timetable", readTimetable),
      document("config_json", readConfig),
      {"config_yaml", mutateLines, readConfig},
      document("model_config", [](const std::string &input) { return whyNot(search::parseTransformerShape(input, 0, 2)); }),
      document("bodies", [](const std::string &input) { return whyNot(search::parsePreparedModel(input)); }),
      document("request", [](const std::string &input) { return whyNot(search::parseBodiesRequest(input)); }),
  };
}

} // namespace galvatron::fuzz
