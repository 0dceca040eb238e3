// The formats of data folders: NumPy's .npy (its format document, versions 1 to 3) and safetensors.
#include "galvatron/Support/DataFolder.h"
#include "runtime/api/CounterRandom.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <numeric>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;
using galvatron::safetensors::ElementType;

namespace galvatron::data {
namespace {

constexpr int64_t kMostHeaderBytes = 1 << 16;

int64_t product(const std::vector<int64_t> &shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t(1), std::multiplies<>());
}

/// "3 x 224 x 224", "a number" of none.
std::string describe(const std::vector<int64_t> &shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text.empty() ? "a number" : text;
}

bool isInteger(ElementType type) {
  switch (type) {
  case ElementType::I64:
  case ElementType::I32:
  case ElementType::I16:
  case ElementType::I8:
  case ElementType::U64:
  case ElementType::U32:
  case ElementType::U16:
  case ElementType::U8:
  case ElementType::Bool:
    return true;
  default:
    return false;
  }
}

template <typename T> T load(const char *bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

/// An element of an integer type; U64 beyond int64 becomes negative, and is refused where numbers are checked.
int64_t integerAt(ElementType type, const char *at) {
  switch (type) {
  case ElementType::I64:
  case ElementType::U64:
    return load<int64_t>(at);
  case ElementType::I32:
    return load<int32_t>(at);
  case ElementType::U32:
    return load<uint32_t>(at);
  case ElementType::I16:
    return load<int16_t>(at);
  case ElementType::U16:
    return load<uint16_t>(at);
  case ElementType::I8:
    return load<int8_t>(at);
  default:
    return load<uint8_t>(at);
  }
}

/// The type that NumPy describes so; nothing where programs cannot take it.
std::optional<ElementType> numpyType(const std::string &described) {
  static const std::map<std::string, ElementType> kTypes = {
      {"b1", ElementType::Bool}, {"i1", ElementType::I8},  {"u1", ElementType::U8},  {"i2", ElementType::I16},
      {"u2", ElementType::U16},  {"i4", ElementType::I32}, {"u4", ElementType::U32}, {"i8", ElementType::I64},
      {"u8", ElementType::U64},  {"f2", ElementType::F16}, {"f4", ElementType::F32}, {"f8", ElementType::F64}};
  if (described.size() != 3 || (described[0] != '<' && described[0] != '|'))
    return std::nullopt;
  auto found = kTypes.find(described.substr(1));
  return found == kTypes.end() ? std::nullopt : std::optional(found->second);
}

/// What stands behind 'key': in the dictionary of a .npy header, up to `ends`; empty where it is not there.
std::string valueOf(const std::string &header, const std::string &key, const char *ends) {
  size_t at = header.find("'" + key + "'");
  if (at == std::string::npos)
    return "";
  at = header.find(':', at);
  size_t begin = header.find_first_not_of(" ", at == std::string::npos ? at : at + 1);
  size_t end = begin == std::string::npos ? begin : header.find_first_of(ends, begin);
  return end == std::string::npos ? "" : header.substr(begin, end - begin);
}

/// "(2, 3)" without its closing bracket; false where it is none.
bool readShape(const std::string &text, std::vector<int64_t> &shape) {
  if (text.empty() || text[0] != '(')
    return false;
  for (size_t at = 1; at < text.size();) {
    at = text.find_first_not_of(" ,", at);
    if (at == std::string::npos)
      break;
    int64_t extent = 0;
    size_t begin = at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at)
      if (__builtin_mul_overflow(extent, 10, &extent) || __builtin_add_overflow(extent, text[at] - '0', &extent))
        return false;
    if (at == begin)
      return false;
    shape.push_back(extent);
  }
  return true;
}

/// A regular file, open for reading; null and an error otherwise.
std::shared_ptr<int> openFile(const std::string &path, int64_t &bytes, std::string &error) {
  struct stat status;
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    error = "cannot open " + path + ": " + std::strerror(errno);
    return nullptr;
  }
  std::shared_ptr<int> file(new int(descriptor), [](int *open) {
    ::close(*open);
    delete open;
  });
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    error = path + " is no regular file";
    return nullptr;
  }
  bytes = status.st_size;
  return file;
}

bool readAll(int file, int64_t offset, int64_t count, char *out) {
  while (count > 0) {
    ssize_t got = pread(file, out, size_t(count), offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return false;
    out += got, offset += got, count -= got;
  }
  return true;
}

} // namespace

int64_t Field::numElements() const { return product(shape); }

void drawSample(const Field &field, uint64_t seed, int64_t sample, char *out) {
  uint64_t key = random::mix(~random::mix(seed)) ^ random::hashName(field.name.data(), field.name.size());
  random::Stream stream{key, uint64_t(sample)};
  int64_t count = field.numElements();
  if (field.isFloat) {
    random::initialValues(stream, 0, count, random::Distribution::Normal, 0, 1, reinterpret_cast<float *>(out));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    int64_t value = field.below ? int64_t(uint64_t(stream.bits(i)) * uint64_t(field.below) >> 32) : 1;
    std::memcpy(out + i * 8, &value, 8);
  }
}

std::optional<Folder::Array> Folder::openNumpy(const std::string &path, std::string &error) {
  Array array;
  array.path = path;
  int64_t bytes = 0;
  array.file = openFile(path, bytes, error);
  if (!array.file)
    return std::nullopt;
  char start[12];
  auto refuse = [&](const std::string &why) {
    error = path + " " + why;
    return std::nullopt;
  };
  if (bytes < 12 || !readAll(*array.file, 0, 12, start) || std::memcmp(start, "\x93NUMPY", 6) != 0)
    return refuse("is no .npy file; write it with numpy.save");
  int version = start[6];
  if (version < 1 || version > 3)
    return refuse("is of version " + std::to_string(version) + " of the format, but 1 to 3 are read");
  int64_t begin = version == 1 ? 10 : 12;
  int64_t length = version == 1 ? int64_t(load<uint16_t>(start + 8)) : int64_t(load<uint32_t>(start + 8));
  if (length > kMostHeaderBytes || begin + length > bytes)
    return refuse("has a header of " + std::to_string(length) +
                  " bytes, of which there are not as many, or more than " + std::to_string(kMostHeaderBytes) +
                  "; it is damaged");
  std::string header(size_t(length), '\0');
  if (!readAll(*array.file, begin, length, header.data()))
    return refuse("cannot be read: " + std::string(std::strerror(errno)));
  std::string described = valueOf(header, "descr", ",}");
  if (described.size() >= 2 && described.front() == '\'')
    described = described.substr(1, described.find('\'', 1) - 1);
  std::optional<ElementType> type = numpyType(described);
  if (!type)
    return refuse(
        "has elements of type " + (described.empty() ? "that its header does not tell" : described) +
        ", but little-endian integers, bool and floats of 16, 32 and 64 bits are read; convert it with astype");
  if (valueOf(header, "fortran_order", ",}") != "False")
    return refuse("is in Fortran order; write numpy.ascontiguousarray of it");
  if (!readShape(valueOf(header, "shape", ")"), array.shape))
    return refuse("has a header without a shape; it is damaged");
  array.type = *type;
  array.offset = begin + length;
  int64_t expected = safetensors::byteWidth(*type);
  for (int64_t extent : array.shape)
    if (__builtin_mul_overflow(expected, extent, &expected))
      return refuse("has a shape of too many elements; it is damaged");
  if (expected != bytes - array.offset)
    return refuse("has " + std::to_string(bytes - array.offset) + " bytes of elements, but its shape of " +
                  describe(array.shape) + " takes " + std::to_string(expected) + "; it is truncated or damaged");
  return array;
}

bool Folder::add(size_t number, Array array, std::string &error) {
  const Field &field = fields[number];
  auto refuse = [&](const std::string &why) {
    error = array.path + ": " + field.name + " " + why;
    return false;
  };
  bool isTaken = field.isFloat ? !isInteger(array.type) || array.type == ElementType::U8 : isInteger(array.type);
  if (!isTaken || array.type == ElementType::C64)
    return refuse(std::string("is ") + safetensors::name(array.type) + ", but this program reads " +
                  (field.isFloat ? "floats (F32, F16, BF16, F64, or U8 as 0 to 255)" : "integers or bool") +
                  "; convert it");
  if (array.shape.empty() ||
      !std::equal(array.shape.begin() + 1, array.shape.end(), field.shape.begin(), field.shape.end()))
    return refuse("is of shape " + describe(array.shape) + ", but this program takes samples of " +
                  describe(field.shape) + "; convert it, or import the model with --shape or --seq for these");
  if (array.shape[0] == 0)
    return refuse("has no samples");
  arrays[number].push_back(std::move(array));
  return true;
}

std::optional<Folder> Folder::open(const std::string &path, const std::vector<Field> &fields, std::string &error) {
  Folder folder;
  folder.path = path;
  folder.fields = fields;
  folder.arrays.resize(fields.size());
  std::error_code code;
  std::vector<std::string> shards;
  for (const fs::directory_entry &entry : fs::directory_iterator(path, code))
    if (entry.path().extension() == ".safetensors")
      shards.push_back(entry.path().string());
  if (code) {
    error = "cannot read the folder " + path + ": " + code.message();
    return std::nullopt;
  }
  std::sort(shards.begin(), shards.end());
  for (size_t i = 0; i < fields.size(); ++i) {
    std::string file = (fs::path(path) / (fields[i].name + ".npy")).string();
    if (shards.empty()) {
      if (!fs::exists(file, code)) {
        error = path + " has no " + fields[i].name +
                ".npy, nor any .safetensors; write one file for each input of the "
                "program, samples first";
        return std::nullopt;
      }
      std::optional<Array> array = openNumpy(file, error);
      if (!array || !folder.add(i, std::move(*array), error))
        return std::nullopt;
    } else if (fs::exists(file, code)) {
      error = path + " has " + fields[i].name + ".npy and .safetensors; leave one of the two forms";
      return std::nullopt;
    }
  }
  for (const std::string &shard : shards) {
    int64_t bytes = 0;
    std::shared_ptr<int> file = openFile(shard, bytes, error);
    std::optional<safetensors::Reader> reader = file ? safetensors::Reader::open(shard, error) : std::nullopt;
    if (!reader)
      return std::nullopt;
    int64_t count = -1;
    for (size_t i = 0; i < fields.size(); ++i) {
      const safetensors::Tensor *tensor = reader->find(fields[i].name);
      if (!tensor) {
        error = shard + " has no tensor " + fields[i].name + "; each shard has all inputs of the program";
        return std::nullopt;
      }
      if (!folder.add(i, {shard, file, tensor->type, tensor->shape, tensor->offset}, error))
        return std::nullopt;
      if (count >= 0 && tensor->shape[0] != count) {
        error = shard + " has " + std::to_string(count) + " samples of " + fields[0].name + ", but " +
                std::to_string(tensor->shape[0]) + " of " + fields[i].name;
        return std::nullopt;
      }
      count = tensor->shape[0];
    }
  }
  for (size_t i = 0; i < fields.size(); ++i) {
    int64_t count = 0;
    for (const Array &array : folder.arrays[i])
      count += array.shape[0];
    if (i > 0 && count != folder.samples) {
      error = path + " has " + std::to_string(folder.samples) + " samples of " + fields[0].name + ", but " +
              std::to_string(count) + " of " + fields[i].name;
      return std::nullopt;
    }
    folder.samples = count;
  }
  return folder;
}

int64_t Folder::numBytes() const {
  int64_t bytes = 0;
  for (const std::vector<Array> &list : arrays)
    for (const Array &array : list)
      bytes += product(array.shape) * safetensors::byteWidth(array.type);
  return bytes;
}

std::vector<std::string> Folder::getFiles() const {
  std::vector<std::string> files;
  for (const std::vector<Array> &list : arrays)
    for (const Array &array : list)
      if (std::find(files.begin(), files.end(), array.path) == files.end())
        files.push_back(array.path);
  return files;
}

bool Folder::read(size_t number, int64_t sample, char *out, std::string &error) const {
  const Field &field = fields[number];
  int64_t row = sample;
  const Array *array = nullptr;
  for (const Array &each : arrays[number]) {
    array = &each;
    if (row < each.shape[0])
      break;
    row -= each.shape[0];
  }
  int64_t count = field.numElements(), width = safetensors::byteWidth(array->type);
  std::vector<char> raw(size_t(count * width));
  if (!readAll(*array->file, array->offset + row * count * width, count * width, raw.data())) {
    error = array->path + ": cannot read sample " + std::to_string(sample) + " of " + field.name + ": " +
            (errno ? std::strerror(errno) : "the file ends before it");
    return false;
  }
  if (field.isFloat)
    safetensors::convertToFloats(array->type, raw.data(), count, reinterpret_cast<float *>(out));
  for (int64_t i = 0; i < count && !field.isFloat; ++i) {
    int64_t value = integerAt(array->type, &raw[size_t(i * width)]);
    if (field.below && (value < 0 || value >= field.below) && value != field.ignored) {
      error = array->path + ": " + field.name + " of sample " + std::to_string(sample) + " has " +
              std::to_string(value) + ", but what it is an index of has " + std::to_string(field.below);
      return false;
    }
    std::memcpy(out + i * 8, &value, 8);
  }
  return true;
}

} // namespace galvatron::data
