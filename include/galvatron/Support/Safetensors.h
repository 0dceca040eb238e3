// Reading and writing safetensors: 8 bytes of header length, a JSON header, then raw tensors, little
// endian, row-major. The format is Hugging Face's; files written here load with its own library.
//
// No MLIR: the compiler and the runtime compile the same source. Access is by range (`pread`,
// `pwrite`), so that a rank touches only the slices that it owns and several ranks can write one file.
#ifndef GALVATRON_SUPPORT_SAFETENSORS_H
#define GALVATRON_SUPPORT_SAFETENSORS_H

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::safetensors {

enum class ElementType { F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, Bool, C64 };

/// Bytes of one element.
int64_t byteWidth(ElementType type);
/// The format's own word, e.g. "BF16".
const char *name(ElementType type);
std::optional<ElementType> parseElementType(const std::string &name);

/// Elements of any type but complex ones, one after another, as floats.
void convertToFloats(ElementType type, const char *raw, int64_t count, float *out);

struct Tensor {
  ElementType type = ElementType::F32;
  std::vector<int64_t> shape;
  /// Bytes from the start of the file, and number of bytes.
  int64_t offset = 0, bytes = 0;

  int64_t numElements() const;
};

using Metadata = std::map<std::string, std::string>;

/// An open file. All functions that can fail return false (or nothing) and set `error` to one
/// sentence that names file, tensor and what was expected.
class Reader {
public:
  static std::optional<Reader> open(const std::string &path, std::string &error);

  /// The tensor of that name, or null.
  const Tensor *find(const std::string &name) const;
  const std::map<std::string, Tensor> &tensors() const { return entries; }
  const Metadata &metadata() const { return fileMetadata; }

  /// Reads `count` elements from row-major element `first` on, converted to float; complex ones are an error.
  bool readFloats(const std::string &name, int64_t first, int64_t count, float *out, std::string &error) const;
  /// Reads raw bytes of a tensor from byte `first` on.
  bool readBytes(const std::string &name, int64_t first, int64_t count, void *out, std::string &error) const;

private:
  std::string path;
  std::shared_ptr<int> file; // closes the descriptor when the last copy goes
  std::map<std::string, Tensor> entries;
  Metadata fileMetadata;
};

/// Lays a file out before any tensor is there: a list of names, types and shapes fixes every offset,
/// the same on every rank that adds the same list. Write to a temporary name, then rename.
class Writer {
public:
  /// Names are unique. Order of addition is the order in the file.
  void add(const std::string &name, ElementType type, std::vector<int64_t> shape);
  void setMetadata(const std::string &key, const std::string &value) { metadata[key] = value; }

  /// Creates the file at full size with its header; tensors are zero until written.
  bool create(const std::string &path, std::string &error);
  /// Opens a file that another process created from the same list.
  bool openExisting(const std::string &path, std::string &error);
  /// Writes elements of a tensor from row-major element `first` on; float, so its type is F32.
  bool writeFloats(const std::string &name, int64_t first, int64_t count, const float *values, std::string &error);
  bool writeBytes(const std::string &name, int64_t first, int64_t count, const void *bytes, std::string &error);
  /// Flushes to disk and closes.
  bool close(std::string &error);

private:
  std::string header() const;
  bool open(const std::string &path, int flags, std::string &error);

  std::string path;
  std::shared_ptr<int> file;
  std::vector<std::string> order;
  std::map<std::string, Tensor> entries; // offsets from `dataStart`
  int64_t dataStart = 0, dataBytes = 0;
  Metadata metadata;
};

/// A whole tensor in memory, for small files and tests.
struct FloatTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

/// Writes all tensors as F32, through a temporary file that is renamed at the end.
bool writeAll(const std::string &path, const std::map<std::string, FloatTensor> &tensors, std::string &error);

/// Reads every tensor as float.
bool readAll(const std::string &path, std::map<std::string, FloatTensor> &tensors, std::string &error);

} // namespace galvatron::safetensors

#endif // GALVATRON_SUPPORT_SAFETENSORS_H
