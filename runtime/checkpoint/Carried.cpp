//===- Carried.cpp - tensors of a checkpoint that no stage computes with --------------------===//
#include "runtime/checkpoint/Carried.h"
#include "runtime/checkpoint/Tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace galvatron {

using safetensors::ElementType;
using Reader = safetensors::ShardedReader;

namespace {

/// Elements that pass through memory at once.
constexpr int64_t kBatch = 1 << 20;

bool isFloat(ElementType type) {
  return type == ElementType::F64 || type == ElementType::F32 || type == ElementType::F16 || type == ElementType::BF16;
}

/// Calls visit(first, count) for runs of all elements, until one fails.
template <typename Visit> Status forRuns(const CarriedInfo &tensor, Visit visit) {
  int64_t total = tensor.numElements();
  for (int64_t first = 0; first < total; first += kBatch)
    if (Status status = visit(first, std::min(kBatch, total - first)); !status.ok())
      return status;
  return Status::success();
}

/// A file may hold floats in another type, for which the tensor has its own.
Status checkForm(const std::string &path, const CarriedInfo &wanted, const safetensors::Tensor &found) {
  bool fits = found.type == wanted.type || (isFloat(found.type) && wanted.type == ElementType::F32);
  if (fits && found.shape == wanted.shape)
    return Status::success();
  return Status::error(path, ": expects tensor ", wanted.name(), " of type ", safetensors::name(wanted.type),
                       " and shape ", shapeText(wanted.shape), ", but got ", safetensors::name(found.type), " ",
                       shapeText(found.shape));
}

/// Whether two files have the same values, the second under another name, but for rounding where one is of a narrower type.
Status isSame(const CarriedInfo &tensor, const Reader &a, const Reader &b, const std::string &other, bool &same) {
  same = true;
  bool bytes = a.find(tensor.name())->type == b.find(other)->type;
  constexpr float kRounding = 1.f / 128; // of bf16
  return forRuns(tensor, [&](int64_t first, int64_t count) {
    Status status;
    if (bytes) {
      int64_t width = safetensors::byteWidth(tensor.type);
      std::vector<char> x(count * width), y(count * width);
      if (a.readBytes(tensor.name(), first * width, x.size(), x.data(), status.message) &&
          b.readBytes(other, first * width, y.size(), y.data(), status.message))
        same &= x == y;
      return status;
    }
    std::vector<float> x(count), y(count);
    if (a.readFloats(tensor.name(), first, count, x.data(), status.message) &&
        b.readFloats(other, first, count, y.data(), status.message))
      for (int64_t i = 0; i < count; ++i)
        same &= x[i] == y[i] || std::fabs(x[i] - y[i]) <= kRounding * std::fabs(x[i]);
    return status;
  });
}

Status openFile(const std::string &path, std::shared_ptr<const Reader> &reader) {
  Status status;
  if (std::optional<Reader> opened = Reader::open(path, status.message))
    reader = std::make_shared<const Reader>(std::move(*opened));
  return status;
}

} // namespace

Status Carried::open(const Manifest &manifest, const std::string &start, const std::string &buffers, uint64_t seed,
                     Carried &carried) {
  carried.seed = seed;
  std::shared_ptr<const Reader> startFile, buffersFile;
  if (manifest.carried.empty())
    return Status::success();
  if (!start.empty())
    if (Status status = openFile(start, startFile); !status.ok())
      return status;
  if (!manifest.buffers.empty())
    if (Status status = openFile(buffers, buffersFile); !status.ok())
      return status;
  for (const CarriedInfo &tensor : manifest.carried) {
    Source source{tensor, tensor.isBuffer ? buffersFile : nullptr, tensor.name()};
    if (source.file && !source.file->find(tensor.name()))
      return Status::error(buffers, " has no tensor ", tensor.name(), "; compile the program again");
    const safetensors::Tensor *found = nullptr;
    for (size_t i = 0; startFile && !found && i < tensor.names.size(); ++i)
      found = startFile->find(source.name = startFile->resolve(tensor.names[i]));
    if (startFile && !found && !tensor.isBuffer)
      return Status::error(start, " has no tensor ", tensor.name(), ", which the model needs");
    if (found) {
      if (Status status = checkForm(start, tensor, *found); !status.ok())
        return status;
      bool same = true;
      if (tensor.isRead)
        if (Status status = isSame(tensor, *source.file, *startFile, source.name, same); !status.ok())
          return status;
      if (!same)
        return Status::error(start, " has other values of the buffer ", tensor.name(),
                             " than the program was compiled with; export and import the model with them");
      if (!tensor.isRead)
        source.file = startFile;
    }
    if (source.file != startFile || !found)
      source.name = tensor.name();
    if (!source.file && !tensor.init)
      return Status::error("parameter ", tensor.name(),
                           " has no initial distribution, so weights are needed; pass them with --weights or --load");
    carried.sources.push_back(std::move(source));
  }
  return Status::success();
}

void Carried::add(const Manifest &manifest, safetensors::ShardedWriter &writer) {
  for (const CarriedInfo &tensor : manifest.carried)
    writer.add(tensor.name(), tensor.type, tensor.shape);
}

Status Carried::writeOne(const Source &source, safetensors::ShardedWriter &writer) const {
  const CarriedInfo &tensor = source.tensor;
  bool bytes = source.file && source.file->find(source.name)->type == tensor.type;
  int64_t width = safetensors::byteWidth(tensor.type);
  random::Stream stream = random::initialStream(seed, random::hashName(tensor.name().data(), tensor.name().size()));
  return forRuns(tensor, [&](int64_t first, int64_t count) {
    Status status;
    std::vector<char> values(count * (bytes ? width : sizeof(float)));
    auto *floats = reinterpret_cast<float *>(values.data());
    if (bytes) {
      if (source.file->readBytes(source.name, first * width, values.size(), values.data(), status.message))
        writer.writeBytes(tensor.name(), first * width, values.size(), values.data(), status.message);
      return status;
    }
    if (!source.file)
      random::initialValues(stream, first, count, *tensor.init, tensor.initA, tensor.initB, floats);
    else if (!source.file->readFloats(source.name, first, count, floats, status.message))
      return status;
    writer.writeFloats(tensor.name(), first, count, floats, status.message);
    return status;
  });
}

Status Carried::write(safetensors::ShardedWriter &writer) const {
  for (const Source &source : sources)
    if (Status status = writeOne(source, writer); !status.ok())
      return status;
  return Status::success();
}

} // namespace galvatron
