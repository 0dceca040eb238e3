//===- Tensors.cpp - the model's tensors in files, each rank its slices ------------------------===//
//
// Every rank knows every tensor's place in a file, because all add the same list of names and shapes; so ranks write
// side by side, without gathering a tensor anywhere, and a file looks the same under every plan.
//
//===-------------------------------------------------------------------------------------------===//
#include "runtime/checkpoint/Tensors.h"
#include "galvatron/Support/Json.h"
#include "runtime/checkpoint/Carried.h"
#include "runtime/checkpoint/Slices.h"
#include "runtime/kernels/HalfTypes.h"
#include "runtime/optim/Update.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <sched.h>
#include <set>
#include <thread>

using nlohmann::json;

namespace galvatron {

Status Catalog::gather(const World &world, const Manifest &manifest, const gvrt_context &context, Catalog &catalog) {
  json counted = json::array(), names = json::array();
  if (context.device == 0)
    for (const ParameterInfo &parameter : manifest.parameters) {
      names.push_back(parameter.names);
      if (parameter.counted)
        counted.push_back({parameter.name(), parameter.shape, parameter.isTrained()});
    }
  auto add = [&](const std::vector<std::string> &tied) {
    for (const std::string &name : tied)
      catalog.canonical.emplace(name, tied[0]);
    catalog.names.insert(tied.begin(), tied.end());
  };
  for (const CarriedInfo &tensor : manifest.carried)
    add(tensor.names);
  std::set<std::string> seen;
  json own = {{"counted", counted}, {"names", names}};
  for (const std::string &text : world.gatherText(own.dump())) {
    json stage = parseOwnJson(text);
    for (const json &tied : stage["names"]) {
      add(tied);
      catalog.parameters.insert(tied.begin(), tied.end());
    }
    for (const json &entry : stage["counted"]) {
      catalog.list.push_back({entry[0], entry[1], entry[2]});
      if (!seen.insert(catalog.list.back().name).second)
        return Status::error("parameter ", catalog.list.back().name,
                             " is counted by two stages; compile the program again");
    }
  }
  return Status::success();
}

std::string Catalog::canonicalName(const std::string &name) const {
  auto known = canonical.find(name);
  return known == canonical.end() ? "" : known->second;
}

int64_t Catalog::Entry::numElements() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
}

std::string shapeText(const std::vector<int64_t> &shape) {
  std::string result = "[";
  for (int64_t extent : shape)
    result += (result.size() > 1 ? ", " : "") + std::to_string(extent);
  return result + "]";
}

TensorPlace placeOf(const Manifest &manifest, const ParameterInfo &parameter, const TensorKind &kind) {
  if (kind.offset == kWeight.offset && parameter.isCopyAlone())
    return {parameter.copy, gvrt_type(manifest.copyType())};
  return {parameter.*kind.offset, GVRT_F32};
}

void widen(gvrt_type type, const void *elements, int64_t count, float *out) {
  if (type == GVRT_F32)
    std::memcpy(out, elements, count * sizeof(float));
  else
    withHalf(type, [&]<typename T>(T) {
      std::transform(static_cast<const T *>(elements), static_cast<const T *>(elements) + count, out,
                     [](T element) { return float(element); });
    });
}

/// To elements [local, local + count) of a tensor on the device.
static void writeDevice(const ModelState &state, const TensorPlace &place, int64_t local, int64_t count,
                        const float *values) {
  char *to = state.arena + place.offset + local * bytesOfElement(place.type);
  if (place.type == GVRT_F32)
    return state.device.hooks->copyToDevice(&state.context, to, values, count * sizeof(float));
  withHalf(place.type, [&]<typename T>(T) {
    std::vector<T> narrow(values, values + count);
    state.device.hooks->copyToDevice(&state.context, to, narrow.data(), count * sizeof(T));
  });
}

namespace {

/// Elements that pass through host memory at once.
constexpr int64_t kBatch = 1 << 21;
/// Elements that one thread draws at a time.
constexpr int64_t kDraw = 1 << 15;

/// A run of this rank's piece without padding: `count` elements from `local` on, which are these slices one after
/// another.
struct Batch {
  int64_t local = 0, count = 0;
  std::vector<Slice> slices;
};

/// Calls visit for the batches that make up the piece, in order, until one fails. Between them is padding, which stays
/// 0, as all of the arena is at first.
Status forBatches(const ModelState &state, const ParameterInfo &parameter,
                  const std::function<Status(const Batch &)> &visit) {
  Batch batch;
  auto flush = [&] {
    Status status = batch.count ? visit(batch) : Status::success();
    batch = {batch.local + batch.count, 0, {}};
    return status;
  };
  Status status = forSlices(state.context, parameter, [&](const Slice &slice) {
    if (slice.local != batch.local + batch.count) {
      if (Status status = flush(); !status.ok())
        return status;
      batch.local = slice.local;
    }
    for (int64_t done = 0; done < slice.count;) {
      int64_t count = std::min(kBatch - batch.count, slice.count - done);
      batch.slices.push_back({slice.local + done, slice.global + done, count});
      batch.count += count;
      done += count;
      if (batch.count == kBatch)
        if (Status status = flush(); !status.ok())
          return status;
    }
    return Status::success();
  });
  return status.ok() ? flush() : status;
}

Status writeKind(const ModelState &state, const ReadPiece &read, safetensors::ShardedWriter &writer,
                 const TensorKind &kind) {
  std::vector<float> host;
  for (const ParameterInfo &parameter : state.manifest.parameters) {
    if (placeOf(state.manifest, parameter, kind).offset < 0 || !answersFor(state.context, parameter) ||
        !writer.has(parameter.name() + kind.suffix))
      continue;
    Status status = forBatches(state, parameter, [&](const Batch &batch) {
      host.resize(batch.count);
      read(parameter, kind, batch.local, batch.count, host.data());
      Status result;
      for (const Slice &slice : batch.slices)
        if (!writer.writeFloats(parameter.name() + kind.suffix, slice.global, slice.count,
                                host.data() + (slice.local - batch.local), result.message))
          break;
      return result;
    });
    if (!status.ok())
      return status;
  }
  return Status::success();
}

/// The names that the file has of a tensor; more than one only of a tied parameter.
Status findNames(const safetensors::ShardedReader &reader, const std::string &path, const ParameterInfo &parameter,
                 const TensorKind &kind, std::vector<std::string> &names) {
  for (const std::string &candidate : parameter.names) {
    std::string name = reader.resolve(candidate + kind.suffix);
    if (name.empty())
      continue;
    const safetensors::Tensor *tensor = reader.find(name);
    if (tensor->shape != parameter.shape)
      return Status::error(path, ": expects tensor ", name, " of shape ", shapeText(parameter.shape), ", but got ",
                           shapeText(tensor->shape));
    names.push_back(name);
  }
  if (names.empty() && kind.offset != kWeight.offset)
    return Status::error(path, " has no moments of ", parameter.name(),
                         ", which was frozen, or not there, when it was written; start from its weights alone with "
                         "--weights");
  return names.empty() ? Status::error(path, " has no tensor ", parameter.name(), ", which the model needs")
                       : Status::success();
}

Status readBatch(const safetensors::ShardedReader &reader, const std::string &name, const Batch &batch,
                 std::vector<float> &host) {
  host.resize(batch.count);
  Status status;
  for (const Slice &slice : batch.slices)
    if (!reader.readFloats(name, slice.global, slice.count, host.data() + (slice.local - batch.local), status.message))
      break;
  return status;
}

/// Reads this rank's piece of a tensor to its place, and compares what the file has under other names.
Status readPiece(const ModelState &state, const safetensors::ShardedReader &reader, const std::string &path,
                 const ParameterInfo &parameter, const TensorKind &kind, std::vector<float> &host,
                 std::vector<float> &other) {
  std::vector<std::string> names;
  if (Status status = findNames(reader, path, parameter, kind, names); !status.ok())
    return status;
  TensorPlace place = placeOf(state.manifest, parameter, kind);
  return forBatches(state, parameter, [&](const Batch &batch) {
    Status status = readBatch(reader, names[0], batch, host);
    for (size_t i = 1; i < names.size() && status.ok(); ++i) {
      status = readBatch(reader, names[i], batch, other);
      if (status.ok() && std::memcmp(host.data(), other.data(), batch.count * sizeof(float)) != 0)
        return Status::error(path, ": ", names[0], " and ", names[i],
                             " differ, but are one parameter of this program, which ties them; export the model with "
                             "two (tie_word_embeddings=False), or take the one that is not meant out of the file");
    }
    if (status.ok())
      writeDevice(state, place, batch.local, batch.count, host.data());
    return status;
  });
}

/// Threads that draw: the cores this process may use, few enough to start quickly.
unsigned drawingThreads() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  bool known = sched_getaffinity(0, sizeof(allowed), &allowed) == 0;
  return known ? std::clamp(CPU_COUNT(&allowed), 1, 16) : 1;
}

/// out[i] = initial value of element i of the batch. An element's value depends on its number alone, so threads take
/// runs as they come.
void drawBatch(const random::Stream &stream, const ParameterInfo &parameter, const Batch &batch, unsigned threads,
               float *out) {
  std::vector<Slice> runs;
  for (const Slice &slice : batch.slices)
    for (int64_t done = 0; done < slice.count; done += kDraw)
      runs.push_back({slice.local + done, slice.global + done, std::min(kDraw, slice.count - done)});
  std::atomic<size_t> next = 0;
  auto draw = [&] {
    for (size_t i; (i = next++) < runs.size();)
      random::initialValues(stream, runs[i].global, runs[i].count, *parameter.init, parameter.initA, parameter.initB,
                            out + (runs[i].local - batch.local));
  };
  std::vector<std::thread> others;
  for (unsigned i = 1; i < std::min<size_t>(threads, batch.count / kDraw); ++i)
    others.emplace_back(draw);
  draw();
  for (std::thread &other : others)
    other.join();
}

} // namespace

ReadPiece readDevice(const ModelState &state) {
  return [state](const ParameterInfo &parameter, const TensorKind &kind, int64_t local, int64_t count, float *out) {
    TensorPlace place = placeOf(state.manifest, parameter, kind);
    int64_t bytes = bytesOfElement(place.type);
    const char *from = state.arena + place.offset + local * bytes;
    std::vector<char> narrow(place.type == GVRT_F32 ? 0 : count * bytes);
    state.device.hooks->copyToHost(&state.context, narrow.empty() ? (void *)out : narrow.data(), from, count * bytes);
    if (!narrow.empty())
      widen(place.type, narrow.data(), count, out);
    if (kind.offset == kGradient.offset)
      for (int64_t i = 0; i < count; ++i)
        out[i] /= state.context.lossScale;
  };
}

safetensors::ShardedWriter layOutTensors(const Catalog &catalog, const std::vector<TensorKind> &kinds,
                                         const Manifest *carried, const KeptWeights &kept) {
  safetensors::ShardedWriter writer;
  for (const Catalog::Entry &entry : catalog.entries())
    for (const TensorKind &kind : kinds)
      if (entry.isTrained || (kind.offset == kWeight.offset && (kept.areFrozen || kept.named.contains(entry.name))))
        writer.add(entry.name + kind.suffix, safetensors::ElementType::F32, entry.shape);
  if (carried)
    Carried::add(*carried, writer);
  return writer;
}

Status writeOwnTensors(const ModelState &state, const ReadPiece &read, safetensors::ShardedWriter &writer,
                       const std::vector<TensorKind> &kinds, const Carried *carried) {
  Status status;
  for (const TensorKind &kind : kinds)
    if (status.ok())
      status = writeKind(state, read, writer, kind);
  if (status.ok() && carried)
    status = carried->write(writer);
  if (status.ok())
    writer.close(status.message);
  return status;
}

Status readTensors(const ModelState &state, const std::string &path, const std::vector<TensorKind> &kinds,
                   bool trainedAlone) {
  Status status;
  std::optional<safetensors::ShardedReader> reader = safetensors::ShardedReader::open(path, status.message);
  if (!reader)
    return status;
  std::vector<float> host, other;
  for (const ParameterInfo &parameter : state.manifest.parameters)
    for (const TensorKind &kind : kinds) {
      if (placeOf(state.manifest, parameter, kind).offset < 0 || (trainedAlone && !parameter.isTrained()))
        continue;
      if (status = readPiece(state, *reader, path, parameter, kind, host, other); !status.ok())
        return status;
    }
  return Status::success();
}

std::string hashFrozenWeights(const World &world, const Catalog &catalog, const ModelState &state) {
  constexpr int64_t kStride = 61;
  auto isFrozen = [](const Catalog::Entry &entry) { return !entry.isTrained; };
  if (std::none_of(catalog.entries().begin(), catalog.entries().end(), isFrozen))
    return "";
  uint64_t sum = 0; // of terms in any order
  std::vector<float> host;
  ReadPiece read = readDevice(state);
  for (const ParameterInfo &parameter : state.manifest.parameters) {
    if (parameter.isTrained() || !answersFor(state.context, parameter))
      continue;
    uint64_t name = random::hashName(parameter.name().data(), parameter.name().size());
    (void)forBatches(state, parameter, [&](const Batch &batch) {
      host.resize(batch.count);
      read(parameter, kWeight, batch.local, batch.count, host.data());
      for (const Slice &slice : batch.slices)
        for (int64_t at = (kStride - slice.global % kStride) % kStride; at < slice.count; at += kStride) {
          uint32_t bits = std::bit_cast<uint32_t>(host[slice.local - batch.local + at]);
          sum += random::mix(random::mix(name ^ uint64_t(slice.global + at)) ^ bits);
        }
      return Status::success();
    });
  }
  uint64_t all = 0;
  for (uint64_t one : world.gather(sum))
    all += one;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", (unsigned long long)all);
  return digits;
}

std::string describeUnknownWeights(const Catalog &catalog, const std::string &path) {
  constexpr int64_t kNamed = 5;
  std::string ignored, list;
  std::optional<safetensors::ShardedReader> reader = safetensors::ShardedReader::open(path, ignored);
  if (!reader)
    return "";
  std::set<std::string> taken;
  for (const std::string &name : catalog.allNames())
    taken.insert(reader->resolve(name));
  int64_t count = 0;
  for (const std::string &name : reader->names())
    if (!taken.contains(name) && count++ < kNamed)
      list += (count > 1 ? ", " : "") + name;
  if (count == 0)
    return "";
  return path + " has " + (count == 1 ? "a tensor" : std::to_string(count) + " tensors") +
         " that the program does not know and does not read: " + list + (count > kNamed ? ", ..." : "");
}

Status drawInitialValues(const ModelState &state) {
  std::vector<float> host;
  unsigned threads = drawingThreads();
  for (const ParameterInfo &parameter : state.manifest.parameters) {
    if (!parameter.init)
      return Status::error("parameter ", parameter.name(),
                           " has no initial distribution, so weights are needed; pass them with --weights or --load");
    random::Stream stream =
        random::initialStream(state.context.seed, random::hashName(parameter.name().data(), parameter.name().size()));
    TensorPlace place = placeOf(state.manifest, parameter, kWeight);
    Status status = forBatches(state, parameter, [&](const Batch &batch) {
      host.resize(batch.count);
      drawBatch(stream, parameter, batch, threads, host.data());
      writeDevice(state, place, batch.local, batch.count, host.data());
      return Status::success();
    });
    if (!status.ok())
      return status;
  }
  return Status::success();
}

} // namespace galvatron
