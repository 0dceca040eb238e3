//===- Manifest.cpp - reads and checks the manifest -------------------------------------------===//
#include "runtime/core/Manifest.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Json.h"
#include "runtime/api/InputNames.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <numeric>

using nlohmann::json;

namespace galvatron {
namespace {

int64_t product(const std::vector<int64_t> &values) {
  return std::accumulate(values.begin(), values.end(), int64_t(1), std::multiplies<>());
}

Placement readPlacement(const json &dimensions) {
  Placement words;
  for (const json &subAxes : dimensions) {
    words.push_back(subAxes.size());
    for (const json &subAxis : subAxes) {
      words.push_back(subAxis.at(0));
      words.push_back(subAxis.at(1));
    }
  }
  return words;
}

std::vector<std::vector<PaddedFactor>> readPadding(const json &dimensions) {
  std::vector<std::vector<PaddedFactor>> padding;
  for (const json &factors : dimensions) {
    std::vector<PaddedFactor> &dim = padding.emplace_back();
    for (const json &factor : factors)
      dim.push_back({factor.at(0), factor.at(1)});
  }
  return padding;
}

template <typename Info> void readInit(const json &init, Info &parameter) {
  if (init.contains("normal")) {
    parameter.init = random::Distribution::Normal;
    parameter.initA = init["normal"].at(0);
    parameter.initB = init["normal"].at(1);
  } else if (init.contains("uniform")) {
    parameter.init = random::Distribution::Uniform;
    parameter.initA = init["uniform"].at(0);
    parameter.initB = init["uniform"].at(1);
  } else if (init.contains("constant")) {
    parameter.init = random::Distribution::Constant;
    const json &value = init["constant"];
    parameter.initA = value.is_array() ? value.at(0) : value;
  }
}

ParameterInfo readParameter(const json &entry) {
  ParameterInfo parameter;
  entry.at("names").get_to(parameter.names);
  entry.at("shape").get_to(parameter.shape);
  parameter.placement = readPlacement(entry.at("placement"));
  if (auto padding = entry.find("padding"); padding != entry.end())
    parameter.padding = readPadding(*padding);
  if (auto init = entry.find("init"); init != entry.end() && init->is_object())
    readInit(*init, parameter);
  parameter.parameter = entry.value("parameter", int64_t(-1));
  parameter.gradient = entry.value("gradient", int64_t(-1));
  parameter.firstMoment = entry.value("first_moment", int64_t(-1));
  parameter.secondMoment = entry.value("second_moment", int64_t(-1));
  parameter.copy = entry.value("copy", int64_t(-1));
  entry.at("count").get_to(parameter.count);
  parameter.counted = entry.value("counted", true);
  if (auto shard = entry.find("shard"); shard != entry.end()) {
    auto whole = shard->at("whole").get<std::vector<std::string>>();
    auto isWhole = [&](const char *kind) { return std::find(whole.begin(), whole.end(), kind) != whole.end(); };
    parameter.shard = {shard->at("axes"), shard->at("piece"), shard->at("first"), isWhole("parameter"),
                       isWhole("copy")};
  }
  return parameter;
}

CarriedInfo readCarried(const json &entry) {
  CarriedInfo tensor;
  entry.at("names").get_to(tensor.names);
  std::optional<safetensors::ElementType> type = safetensors::parseElementType(entry.at("dtype"));
  if (!type)
    throw std::invalid_argument("tensor " + tensor.name() + " is of the unknown type " +
                                std::string(entry.at("dtype")));
  tensor.type = *type;
  entry.at("shape").get_to(tensor.shape);
  if (auto init = entry.find("init"); init != entry.end())
    readInit(*init, tensor);
  tensor.isBuffer = entry.value("buffer", false);
  tensor.isRead = entry.value("read", false);
  return tensor;
}

void read(const json &root, Manifest &m) {
  m.device = root.value("device", "cpu");
  m.stage = root.at("stage");
  m.stages = root.at("stages");
  m.devices = root.at("devices");
  root.at("mesh").get_to(m.mesh);
  m.schedule = root.value("schedule", "");
  m.model = root.value("model", "model");
  m.program = root.value("program", "");
  m.weights = root.value("weights", "");
  m.buffers = root.value("buffers", "");
  m.summary = root.value("summary", "");
  m.globalBatch = root.at("global_batch");
  m.microBatches = root.at("micro_batches");
  m.sequence = root.at("sequence");
  m.vocabulary = root.at("vocabulary");
  m.precision = root.value("precision", "fp32");
  m.isPacked = root.value("packed", false);
  m.countsLabels = root.value("counts_labels", false);
  if (auto ignored = root.find("ignored_label"); ignored != root.end())
    m.ignoredLabel = ignored->get<int64_t>();
  m.arenaBytes = root.at("arena_bytes");
  if (auto workspace = root.find("workspace"); workspace != root.end() && workspace->is_object())
    m.workspace = {workspace->at("offset"), workspace->at("bytes")};
  for (const json &entry : root.at("parameters"))
    m.parameters.push_back(readParameter(entry));
  for (const json &entry : root.value("carried", json::array()))
    m.carried.push_back(readCarried(entry));
  for (const json &entry : root.at("inputs"))
    m.inputs.push_back({entry.at("name"), entry.at("offset"), entry.at("bytes_per_micro_batch"), entry.at("shape"),
                        readPlacement(entry.at("placement"))});
  for (const json &entry : root.value("fields", json::array())) {
    data::Field &field = m.fields.emplace_back();
    field = {entry.at("name"), entry.at("type") == "f32", entry.at("shape"), entry.value("below", int64_t(0)), {}};
    if (entry.contains("ignored"))
      field.ignored = entry.at("ignored");
  }
  for (const json &entry : root.value("losses", json::array()))
    m.losses.push_back({entry.at("offset"), entry.at("partial_axes")});
  for (const json &entry : root.value("totals", json::array()))
    m.totals.push_back({entry.at("name"), entry.at("offset")});
  for (const json &entry : root.at("groups"))
    m.groups.push_back({entry.value("axes", std::vector<int64_t>()), entry.value("stages", std::vector<int64_t>())});
  for (const json &function : root.value("results", json::array())) {
    std::vector<ResultInfo> &results = m.results.emplace_back();
    for (const json &result : function)
      results.push_back({result.at(0), result.at(1), result.at(2)});
  }
  root.at("names").get_to(m.names);
  root.at("units").get_to(m.units);
}

/// Bytes of an arena, elements of a tensor: sums and products of two of them do not overflow.
constexpr int64_t kMost = int64_t(1) << 48;

Status checkWithin(const std::string &what, int64_t value, int64_t low, int64_t high = kMost) {
  return value >= low && value <= high
             ? Status::success()
             : Status::error("expects ", what, " to be from ", low, " to ", high, ", but got ", value);
}

/// Each from `low` on, and their product at most kMost.
Status checkExtents(const std::string &what, const std::vector<int64_t> &extents, int64_t low) {
  int64_t elements = 1;
  for (int64_t extent : extents) {
    if (Status status = checkWithin("the extents of " + what, extent, low); !status.ok())
      return status;
    if (__builtin_mul_overflow(elements, extent, &elements) || elements > kMost)
      return Status::error("expects ", what, " to have at most ", kMost, " elements");
  }
  return Status::success();
}

/// That PositionMap may read it: sub-axes of every dimension, along axes of the mesh.
Status checkPlacement(const Manifest &m, const std::string &what, const Placement &words, size_t rank) {
  std::vector<int64_t> extents;
  size_t at = 0;
  for (size_t d = 0; d < rank; ++d) {
    int64_t subAxes = at < words.size() ? words[at++] : -1;
    if (subAxes < 0 || subAxes > int64_t(words.size() - at) / 2)
      return Status::error("expects a placement of ", rank, " dimensions for ", what);
    for (int64_t i = 0; i < subAxes; ++i, at += 2) {
      extents.push_back(words[at]);
      int64_t word = words[at + 1];
      bool isKnown = word == PositionMap::kLocal || word == PositionMap::kTime ||
                     (word >= 0 && meshAxisOf(word) < (int64_t)m.mesh.size());
      if (!isKnown)
        return Status::error("expects the placement of ", what, " to be along axes of the mesh, of which there are ",
                             m.mesh.size(), ", but got ", word);
    }
  }
  if (at != words.size())
    return Status::error("expects a placement of ", rank, " dimensions for ", what);
  return checkExtents("the placement of " + what, extents, 1);
}

/// What all arithmetic on a manifest relies on.
Status checkNumbers(const Manifest &m) {
  struct Bound {
    const char *key;
    int64_t value, low;
  };
  for (Bound bound : {Bound{"arena_bytes", m.arenaBytes, 0},
                      {"stages", m.stages, 1},
                      {"devices", m.devices, 1},
                      {"global_batch", m.globalBatch, 1},
                      {"micro_batches", m.microBatches, 1},
                      {"sequence", m.sequence, 0},
                      {"vocabulary", m.vocabulary, 0}})
    if (Status status = checkWithin(bound.key, bound.value, bound.low); !status.ok())
      return status;
  if (Status status = checkExtents("the mesh", m.mesh, 1); !status.ok())
    return status;
  for (const CarriedInfo &tensor : m.carried)
    if (Status status = tensor.names.empty() ? Status::error("expects a carried tensor to have a name")
                                             : checkExtents(tensor.name(), tensor.shape, 0);
        !status.ok())
      return status;
  for (const InputInfo &input : m.inputs) {
    Status status = checkPlacement(m, input.name, input.placement, input.shape.size());
    if (status.ok())
      status = checkExtents(input.name, input.shape, 0);
    if (!status.ok())
      return status;
  }
  for (const ParameterInfo &p : m.parameters) {
    Status status =
        p.names.empty() ? Status::error("expects a parameter to have a name") : checkExtents(p.name(), p.shape, 0);
    if (status.ok())
      status = checkPlacement(m, p.name(), p.placement, p.shape.size());
    if (status.ok())
      status = checkWithin("the elements of " + p.name(), p.count, 0);
    for (int64_t offset : {p.parameter, p.gradient, p.firstMoment, p.secondMoment, p.copy})
      if (status.ok())
        status = checkWithin("the offsets of " + p.name(), offset, -1);
    for (const std::vector<PaddedFactor> &factors : p.padding) {
      std::vector<int64_t> extents;
      for (PaddedFactor factor : factors) {
        if (status.ok())
          status = checkWithin("the padding of " + p.name(), factor.padding, 0);
        if (status.ok())
          status = checkWithin("the padded extents of " + p.name(), factor.own, 1);
        if (status.ok())
          extents.push_back(factor.own + factor.padding);
      }
      if (status.ok())
        status = checkExtents("the padding of " + p.name(), extents, 1);
    }
    if (status.ok() && p.shard)
      status = checkWithin("the piece of " + p.name(), p.shard->piece, 0);
    if (!status.ok())
      return status;
  }
  return Status::success();
}

/// Ranks that share a list of elements.
int64_t numPieces(const Manifest &m, const ShardInfo &shard) {
  int64_t pieces = 1;
  for (int64_t axis : shard.axes)
    if (__builtin_mul_overflow(pieces, m.mesh.at(axis), &pieces))
      return std::numeric_limits<int64_t>::max();
  return pieces;
}

Status checkShard(const Manifest &m, const ParameterInfo &p) {
  if (!p.shard)
    return Status::success();
  for (int64_t axis : p.shard->axes)
    if (axis < 0 || axis >= (int64_t)m.mesh.size())
      return Status::error("expects the states of ", p.name(),
                           " to be shared along axes of the mesh, of which there are ", m.mesh.size(),
                           ", but got axis ", axis);
  int64_t elements = 0;
  if (__builtin_mul_overflow(p.shard->piece, numPieces(m, *p.shard), &elements) || elements > kMost)
    return Status::error("expects ranks to share at most ", kMost, " elements with ", p.name());
  if (p.shard->first < 0 || p.shard->first > elements - p.count)
    return Status::error("expects ", p.name(), " inside the ", elements, " elements that ranks share, but got ",
                         p.count, " from ", p.shard->first, " on");
  return Status::success();
}

/// Whatever else a program of tokens read, it would be given tokens.
Status checkInputs(const Manifest &m) {
  for (const InputInfo &input : m.inputs) {
    if (m.readsTokens() &&
        std::find(std::begin(kInputNames), std::end(kInputNames), input.name) == std::end(kInputNames))
      return Status::error("expects input_ids, labels, positions or documents as an input, but got ", input.name);
    if (input.shape.empty() || input.shape[0] != m.globalBatch || (m.readsTokens() && input.shape.size() != 2))
      return Status::error("expects input ", input.name, " of global_batch ", m.globalBatch, " rows, but got ",
                           input.shape.empty() ? 0 : input.shape[0]);
    std::optional<size_t> number = m.findField(input.name);
    if (!m.readsTokens() && !number)
      return Status::error("expects one of the program's fields as an input, but got ", input.name);
    if (number && input.shape.size() != m.fields[*number].shape.size() + 1)
      return Status::error("expects ", input.name, " of ", m.fields[*number].shape.size() + 1, " dimensions, but got ",
                           input.shape.size());
  }
  return Status::success();
}

Status checkPadding(const ParameterInfo &p) {
  for (size_t d = 0; d < p.padding.size(); ++d) {
    int64_t own = 1;
    for (PaddedFactor factor : p.padding[d])
      own *= factor.own;
    if (p.padding.size() != p.shape.size() || own != p.shape[d])
      return Status::error("expects ", p.shape[d], " elements of dimension ", d, " of ", p.name(),
                           " beside its padding, but got ", own);
  }
  return Status::success();
}

/// Weights and buffers lie in the program's folder, or there are none.
Status checkFileName(const char *key, const std::string &name) {
  std::string why = name.empty() ? "" : whyNoBaseName(name);
  return why.empty() ? Status::success()
                     : Status::error("expects ", key, " to be the name of a file in the program's folder, but '", name,
                                     "' ", why);
}

Status check(const Manifest &m) {
  if (Status status = checkNumbers(m); !status.ok())
    return status;
  for (auto [key, name] : {std::pair("weights", &m.weights), {"buffers", &m.buffers}})
    if (Status status = checkFileName(key, *name); !status.ok())
      return status;
  if (m.stage < 0 || m.stage >= m.stages)
    return Status::error("expects a stage below ", m.stages, ", but got ", m.stage);
  if (product(m.mesh) != m.devices)
    return Status::error("expects a mesh of ", m.devices, " devices, but its axes give ", product(m.mesh));
  auto inArena = [&](int64_t offset, int64_t bytes) {
    return offset >= 0 && bytes >= 0 && offset <= m.arenaBytes - bytes;
  };
  if (!inArena(m.workspace.offset, m.workspace.bytes))
    return Status::error("expects the workspace inside the arena of ", m.arenaBytes, " bytes, but got ",
                         m.workspace.bytes, " bytes at ", m.workspace.offset);
  if (Status status = checkInputs(m); !status.ok())
    return status;
  for (const TotalInfo &total : m.totals)
    if (!inArena(total.offset, sizeof(float)))
      return Status::error("expects ", total.name, " inside the arena of ", m.arenaBytes, " bytes, but got offset ",
                           total.offset);
  for (const ParameterInfo &p : m.parameters) {
    if (Status status = checkShard(m, p); !status.ok())
      return status;
    if (p.isCopyAlone() && (p.copy < 0 || p.isTrained() || p.shard))
      return Status::error("expects ", p.name(),
                           " to be in memory in single precision, or frozen and in 16 bits alone");
    if (p.copy >= 0 && !p.shard && !inArena(p.copy, p.count * 2))
      return Status::error("expects the copy of ", p.name(), " inside the arena of ", m.arenaBytes,
                           " bytes, but got offset ", p.copy);
    if (Status status = checkPadding(p); !status.ok())
      return status;
    PositionMap map(std::vector<int64_t>(m.mesh.size(), 0), 0, p.placement.data(), p.shape.size());
    int64_t local = 1;
    for (size_t d = 0; d < p.shape.size(); ++d) {
      local *= map.localExtent(d);
      if (map.globalExtent(d) != p.paddedExtent(d))
        return Status::error("expects the placement of ", p.name(), " to cover ", p.paddedExtent(d),
                             " elements of dimension ", d, ", but got ", map.globalExtent(d));
    }
    if (local != p.count)
      return Status::error("expects ", local, " local elements of ", p.name(), ", but got ", p.count);
  }
  return Status::success();
}

} // namespace

int64_t ParameterInfo::numElements() const { return product(shape); }

int64_t ParameterInfo::paddedExtent(size_t dim) const {
  if (padding.empty())
    return shape[dim];
  int64_t extent = 1;
  for (PaddedFactor factor : padding[dim])
    extent *= factor.own + factor.padding;
  return extent;
}

int64_t ParameterInfo::withoutPadding(size_t dim, int64_t index) const {
  if (padding.empty())
    return index;
  int64_t own = 0, stride = 1;
  for (size_t i = padding[dim].size(); i-- > 0; stride *= padding[dim][i].own) { // minor first
    PaddedFactor factor = padding[dim][i];
    int64_t value = index % (factor.own + factor.padding);
    index /= factor.own + factor.padding;
    if (value >= factor.own)
      return -1;
    own += value * stride;
  }
  return own;
}

std::optional<size_t> Manifest::findField(const std::string &name) const {
  auto found = std::find_if(fields.begin(), fields.end(), [&](const data::Field &field) { return field.name == name; });
  return found == fields.end() ? std::nullopt : std::optional<size_t>(found - fields.begin());
}

int64_t CarriedInfo::numElements() const { return product(shape); }

Status Manifest::parse(const char *text, Manifest &manifest) {
  std::string why;
  std::optional<json> root = parseJson(text, "it", why);
  try {
    if (!root)
      throw std::invalid_argument(why);
    read(*root, manifest);
  } catch (const std::exception &error) {
    return Status::error("this program's manifest cannot be read (", error.what(), "); compile it again");
  }
  Status status = check(manifest);
  if (!status.ok())
    status.message = "this program's manifest is not sound: " + status.message;
  return status;
}

void Manifest::takeShards(const std::vector<int64_t> &coordinates) {
  for (ParameterInfo &p : parameters) {
    if (!p.shard)
      continue;
    int64_t number = 0;
    for (int64_t axis : p.shard->axes)
      number = number * mesh[axis] + coordinates[axis];
    int64_t pieceBegin = number * p.shard->piece, first = p.shard->first;
    int64_t begin = std::max(pieceBegin, first), end = std::min(pieceBegin + p.shard->piece, first + p.count);
    p.count = std::max<int64_t>(0, end - begin);
    if (p.count == 0)
      begin = pieceBegin; // any place that there is
    p.begin = begin - first;
    for (auto [offset, bytes, isWhole] : {std::tuple{&ParameterInfo::parameter, 4, p.shard->isParameterWhole},
                                          {&ParameterInfo::copy, 2, p.shard->isCopyWhole},
                                          {&ParameterInfo::gradient, 4, false},
                                          {&ParameterInfo::firstMoment, 4, false},
                                          {&ParameterInfo::secondMoment, 4, false}})
      if (p.*offset >= 0)
        p.*offset += (isWhole ? begin : begin - pieceBegin) * bytes;
  }
}

uint64_t Manifest::programHash() const {
  std::ostringstream shared;
  shared << model << '/' << program << '/' << schedule << '/' << stages << '/' << devices << '/' << globalBatch << '/'
         << microBatches << '/' << sequence << '/' << vocabulary;
  for (const std::string &path : units)
    shared << '/' << path;
  std::string text = shared.str();
  return random::hashName(text.data(), text.size());
}

} // namespace galvatron
