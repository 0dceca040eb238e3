// Safetensors by range. Headers are checked completely before any tensor is read, since a file comes
// from anywhere: length, JSON, types, shapes, and that each tensor lies inside the file.
#include "galvatron/Support/Safetensors.h"
#include "galvatron/Support/Json.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using nlohmann::json;

namespace galvatron::safetensors {
namespace {

struct TypeInfo {
  ElementType type;
  const char *name;
  int64_t bytes;
};
constexpr TypeInfo kTypes[] = {
    {ElementType::F64, "F64", 8},   {ElementType::F32, "F32", 4}, {ElementType::F16, "F16", 2},
    {ElementType::BF16, "BF16", 2}, {ElementType::I64, "I64", 8}, {ElementType::I32, "I32", 4},
    {ElementType::I16, "I16", 2},   {ElementType::I8, "I8", 1},   {ElementType::U64, "U64", 8},
    {ElementType::U32, "U32", 4},   {ElementType::U16, "U16", 2}, {ElementType::U8, "U8", 1},
    {ElementType::Bool, "BOOL", 1}, {ElementType::C64, "C64", 8}};

/// Hugging Face's own limit; a longer one is a foreign file whose first bytes were taken for a length.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
/// Every rank reads every header: some 300,000 tensors, which take half a gigabyte while they are parsed.
constexpr JsonLimits kHeaderLimits = {.depth = 8, .values = 4'000'000};

std::string describeErrno() { return std::strerror(errno); }

std::shared_ptr<int> openFile(const std::string &path, int flags) {
  // Without O_NONBLOCK a FIFO would wait for who opens its other end.
  int fd = ::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666);
  if (fd < 0)
    return nullptr;
  return std::shared_ptr<int>(new int(fd), [](int *p) {
    ::close(*p);
    delete p;
  });
}

/// `pread` until all is there; a short file sets errno to 0.
bool readFully(int fd, void *out, int64_t count, int64_t offset) {
  auto *bytes = static_cast<char *>(out);
  while (count > 0) {
    ssize_t n = ::pread(fd, bytes, count, offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      if (n == 0)
        errno = 0;
      return false;
    }
    bytes += n, offset += n, count -= n;
  }
  return true;
}

bool writeFully(int fd, const void *data, int64_t count, int64_t offset) {
  auto *bytes = static_cast<const char *>(data);
  while (count > 0) {
    ssize_t n = ::pwrite(fd, bytes, count, offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    bytes += n, offset += n, count -= n;
  }
  return true;
}

float fromHalf(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 0) {
    float value = float(mantissa) / 16777216.0f; // 2^-24
    return sign ? -value : value;
  }
  uint32_t bits = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | mantissa << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

template <typename T> void convert(const char *raw, int64_t count, float *out) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, raw + i * sizeof(T), sizeof(T));
    out[i] = static_cast<float>(value);
  }
}

} // namespace

void convertToFloats(ElementType type, const char *raw, int64_t count, float *out) {
  switch (type) {
  case ElementType::F32:
    std::memcpy(out, raw, count * 4);
    return;
  case ElementType::F64:
    return convert<double>(raw, count, out);
  case ElementType::I64:
    return convert<int64_t>(raw, count, out);
  case ElementType::I32:
    return convert<int32_t>(raw, count, out);
  case ElementType::I16:
    return convert<int16_t>(raw, count, out);
  case ElementType::I8:
    return convert<int8_t>(raw, count, out);
  case ElementType::U64:
    return convert<uint64_t>(raw, count, out);
  case ElementType::U32:
    return convert<uint32_t>(raw, count, out);
  case ElementType::U16:
    return convert<uint16_t>(raw, count, out);
  case ElementType::U8:
  case ElementType::Bool:
    return convert<uint8_t>(raw, count, out);
  case ElementType::F16:
  case ElementType::BF16:
    for (int64_t i = 0; i < count; ++i) {
      uint16_t half;
      std::memcpy(&half, raw + i * 2, 2);
      uint32_t bits = uint32_t(half) << 16;
      if (type == ElementType::F16)
        out[i] = fromHalf(half);
      else
        std::memcpy(out + i, &bits, 4);
    }
    return;
  case ElementType::C64:
    return; // refused before
  }
}

namespace {

/// One entry of the header; empty `reason` if it is sound.
std::string parseTensor(const json &entry, int64_t dataStart, int64_t fileBytes, Tensor &out) {
  auto dtype = entry.find("dtype"), shape = entry.find("shape"), offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string() || shape == entry.end() || !shape->is_array() ||
      offsets == entry.end() || !offsets->is_array() || offsets->size() != 2)
    return "expects dtype, shape and data_offsets";
  const auto *info = std::find_if(std::begin(kTypes), std::end(kTypes),
                                  [&](const TypeInfo &t) { return dtype->get_ref<const std::string &>() == t.name; });
  if (info == std::end(kTypes))
    return "has unknown dtype " + dtype->get<std::string>();
  out.type = info->type;
  int64_t elements = 1;
  for (const json &extent : *shape) {
    if (!extent.is_number_unsigned())
      return "expects extents that are not negative";
    int64_t value = extent.get<int64_t>();
    if (value < 0 || __builtin_mul_overflow(elements, value, &elements))
      return "has a shape that overflows";
    out.shape.push_back(value);
  }
  if (!(*offsets)[0].is_number_unsigned() || !(*offsets)[1].is_number_unsigned())
    return "expects data_offsets that are not negative";
  int64_t begin = (*offsets)[0].get<int64_t>(), end = (*offsets)[1].get<int64_t>(), expected;
  if (begin < 0 || end < begin || end > fileBytes - dataStart)
    return "lies at bytes " + std::to_string(begin) + " to " + std::to_string(end) + ", but the file has " +
           std::to_string(fileBytes - dataStart) + " bytes of data; it may be truncated";
  if (__builtin_mul_overflow(elements, info->bytes, &expected) || end - begin != expected)
    return "expects as many bytes as its shape needs, but got " + std::to_string(end - begin);
  out.offset = dataStart + begin;
  out.bytes = end - begin;
  return "";
}

std::string parseMetadata(const json &entry, Metadata &out) {
  if (!entry.is_object())
    return "expects __metadata__ to be an object of texts";
  for (auto &[key, value] : entry.items()) {
    if (!value.is_string())
      return "expects __metadata__ to be an object of texts, but " + key + " is none";
    out[key] = value.get<std::string>();
  }
  return "";
}

/// As Hugging Face's own library demands: one after another, without overlap or hole, to the end of the file.
std::string checkOrder(const std::map<std::string, Tensor> &tensors, int64_t dataStart, int64_t fileBytes) {
  using Entry = std::pair<const std::string, Tensor>;
  std::vector<const Entry *> order;
  for (const Entry &entry : tensors)
    order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const Entry *a, const Entry *b) {
    return std::pair(a->second.offset, a->second.bytes) < std::pair(b->second.offset, b->second.bytes);
  });
  int64_t end = dataStart;
  for (size_t i = 0; i < order.size(); ++i) {
    const auto &[name, tensor] = *order[i];
    if (tensor.offset < end)
      return "tensor " + name + " overlaps " + order[i - 1]->first + "; only a file that was tampered with has that";
    if (tensor.offset > end)
      return "before tensor " + name + " are " + std::to_string(tensor.offset - end) +
             " bytes of no tensor; the file is damaged";
    end = tensor.offset + tensor.bytes;
  }
  if (end < fileBytes)
    return "the last " + std::to_string(fileBytes - end) + " bytes are of no tensor; the file is damaged";
  return "";
}

} // namespace

int64_t byteWidth(ElementType type) { return kTypes[static_cast<int>(type)].bytes; }
const char *name(ElementType type) { return kTypes[static_cast<int>(type)].name; }

std::optional<ElementType> parseElementType(const std::string &name) {
  for (const TypeInfo &info : kTypes)
    if (info.name == name)
      return info.type;
  return std::nullopt;
}

int64_t Tensor::numElements() const {
  int64_t n = 1;
  for (int64_t extent : shape)
    n *= extent;
  return n;
}

//===----------------------------------------------------------------------===//
// Reader
//===----------------------------------------------------------------------===//

std::optional<Reader> Reader::open(const std::string &path, std::string &error) {
  Reader reader;
  reader.path = path;
  reader.file = openFile(path, O_RDONLY);
  struct stat status;
  if (!reader.file || fstat(*reader.file, &status) != 0) {
    error = "cannot open " + path + ": " + describeErrno();
    return std::nullopt;
  }
  if (!S_ISREG(status.st_mode)) {
    error = path + " is not a regular file, so it holds no tensors";
    return std::nullopt;
  }
  uint64_t length = 0;
  if (!readFully(*reader.file, &length, 8, 0) || length > kMaxHeaderBytes || int64_t(8 + length) > status.st_size) {
    error = path + " is not a safetensors file, or is truncated: expects a header length, then the header";
    return std::nullopt;
  }
  std::string text(length, '\0');
  if (!readFully(*reader.file, text.data(), length, 8)) {
    error = "cannot read " + path + ": " + describeErrno();
    return std::nullopt;
  }
  std::optional<json> header = parseJson(text, path + " is not a safetensors file: its header", error, kHeaderLimits);
  if (!header)
    return std::nullopt;
  if (!header->is_object()) {
    error = path + " is not a safetensors file: its header is not a JSON object";
    return std::nullopt;
  }
  for (auto &[key, entry] : header->items()) {
    if (key == "__metadata__") {
      if (std::string reason = parseMetadata(entry, reader.fileMetadata); !reason.empty()) {
        error = path + ": " + reason;
        return std::nullopt;
      }
      continue;
    }
    std::string reason = parseTensor(entry, 8 + length, status.st_size, reader.entries[key]);
    if (!reason.empty()) {
      error = path + ": tensor " + key + " " + reason;
      return std::nullopt;
    }
  }
  if (std::string reason = checkOrder(reader.entries, 8 + length, status.st_size); !reason.empty()) {
    error = path + ": " + reason;
    return std::nullopt;
  }
  return reader;
}

const Tensor *Reader::find(const std::string &name) const {
  auto it = entries.find(name);
  return it == entries.end() ? nullptr : &it->second;
}

bool Reader::readBytes(const std::string &name, int64_t first, int64_t count, void *out, std::string &error) const {
  const Tensor *tensor = find(name);
  if (!tensor) {
    error = path + " has no tensor " + name;
    return false;
  }
  if (first < 0 || count < 0 || first > tensor->bytes - count) {
    error = path + ": tensor " + name + " has " + std::to_string(tensor->bytes) + " bytes, but bytes " +
            std::to_string(first) + " to " + std::to_string(first + count) + " were asked for";
    return false;
  }
  if (readFully(*file, out, count, tensor->offset + first))
    return true;
  error = "cannot read tensor " + name + " of " + path + ": " + (errno ? describeErrno() : "the file ends early");
  return false;
}

bool Reader::readFloats(const std::string &name, int64_t first, int64_t count, float *out, std::string &error) const {
  const Tensor *tensor = find(name);
  int64_t width = tensor ? byteWidth(tensor->type) : 1;
  if (tensor && tensor->type == ElementType::C64) {
    error = path + ": tensor " + name + " holds complex numbers, but real ones are needed";
    return false;
  }
  if (tensor && tensor->type == ElementType::F32)
    return readBytes(name, first * 4, count * 4, out, error);
  // A bounded buffer: tensors can be gigabytes.
  constexpr int64_t kChunk = 1 << 20;
  std::vector<char> raw(std::min(std::max<int64_t>(count, 1), kChunk) * width);
  for (int64_t done = 0; done < count || !tensor; done += kChunk) {
    int64_t now = std::min(kChunk, count - done);
    if (!readBytes(name, (first + done) * width, now * width, raw.data(), error))
      return false;
    convertToFloats(tensor->type, raw.data(), now, out + done);
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Writer
//===----------------------------------------------------------------------===//

void Writer::add(const std::string &name, ElementType type, std::vector<int64_t> shape) {
  Tensor tensor{type, std::move(shape), dataBytes, 0};
  tensor.bytes = tensor.numElements() * byteWidth(type);
  dataBytes += tensor.bytes;
  order.push_back(name);
  entries[name] = std::move(tensor);
}

std::string Writer::header() const {
  nlohmann::ordered_json header;
  if (!metadata.empty())
    header["__metadata__"] = metadata;
  for (const std::string &name : order) {
    const Tensor &tensor = entries.at(name);
    header[name] = {{"dtype", safetensors::name(tensor.type)},
                    {"shape", tensor.shape},
                    {"data_offsets", {tensor.offset, tensor.offset + tensor.bytes}}};
  }
  std::string text = header.is_null() ? "{}" : header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' '); // so that tensors are aligned
  return text;
}

bool Writer::open(const std::string &newPath, int flags, std::string &error) {
  path = newPath;
  file = openFile(path, flags);
  if (!file)
    error = "cannot open " + path + " for writing: " + describeErrno();
  dataStart = 8 + int64_t(header().size());
  return file != nullptr;
}

bool Writer::create(const std::string &newPath, std::string &error) {
  std::string text = header();
  uint64_t length = text.size();
  if (!open(newPath, O_RDWR | O_CREAT | O_TRUNC, error))
    return false;
  if (ftruncate(*file, 8 + length + dataBytes) != 0 || !writeFully(*file, &length, 8, 0) ||
      !writeFully(*file, text.data(), length, 8)) {
    error = "cannot write " + path + ": " + describeErrno();
    return false;
  }
  return true;
}

bool Writer::openExisting(const std::string &newPath, std::string &error) { return open(newPath, O_RDWR, error); }

bool Writer::writeBytes(const std::string &name, int64_t first, int64_t count, const void *bytes, std::string &error) {
  auto it = entries.find(name);
  if (it == entries.end() || first < 0 || first + count > it->second.bytes) {
    error = path + ": tensor " + name +
            (it == entries.end() ? " was never added" : " is smaller than what is written to it");
    return false;
  }
  if (writeFully(*file, bytes, count, dataStart + it->second.offset + first))
    return true;
  error = "cannot write tensor " + name + " to " + path + ": " + describeErrno();
  return false;
}

bool Writer::writeFloats(const std::string &name, int64_t first, int64_t count, const float *values,
                         std::string &error) {
  return writeBytes(name, first * 4, count * 4, values, error);
}

bool Writer::close(std::string &error) {
  bool good = fsync(*file) == 0;
  if (!good)
    error = "cannot write " + path + ": " + describeErrno();
  file.reset();
  return good;
}

//===----------------------------------------------------------------------===//
// Whole files
//===----------------------------------------------------------------------===//

bool writeAll(const std::string &path, const std::map<std::string, FloatTensor> &tensors, std::string &error) {
  Writer writer;
  for (const auto &[name, tensor] : tensors)
    writer.add(name, ElementType::F32, tensor.shape);
  writer.setMetadata("format", "pt");
  std::string temporary = path + ".partial";
  bool good = writer.create(temporary, error);
  for (const auto &[name, tensor] : tensors)
    good = good && writer.writeFloats(name, 0, tensor.values.size(), tensor.values.data(), error);
  good = good && writer.close(error);
  if (good && std::rename(temporary.c_str(), path.c_str()) != 0) {
    error = "cannot rename " + temporary + " to " + path + ": " + describeErrno();
    good = false;
  }
  if (!good)
    std::remove(temporary.c_str());
  return good;
}

bool readAll(const std::string &path, std::map<std::string, FloatTensor> &tensors, std::string &error) {
  std::optional<Reader> reader = Reader::open(path, error);
  if (!reader)
    return false;
  for (const auto &[name, info] : reader->tensors()) {
    FloatTensor &tensor = tensors[name];
    tensor.shape = info.shape;
    tensor.values.resize(info.numElements());
    if (!reader->readFloats(name, 0, tensor.values.size(), tensor.values.data(), error))
      return false;
  }
  return true;
}

} // namespace galvatron::safetensors
