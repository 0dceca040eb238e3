// Tensors in one safetensors file or, where they are too large for one, in several with an index, as transformers
// writes and reads them:
//
//   DIR/model.safetensors
//   DIR/model-00001-of-00003.safetensors ..., DIR/model.safetensors.index.json
//
// The index has {"metadata": {"total_size": bytes of all tensors}, "weight_map": {tensor: file}}.
#ifndef GALVATRON_SUPPORT_SHARDS_H
#define GALVATRON_SUPPORT_SHARDS_H

#include "galvatron/Support/Safetensors.h"

#include <limits>

namespace galvatron::safetensors {

inline constexpr const char *kFileEnding = ".safetensors", *kIndexEnding = ".safetensors.index.json";

/// No limit to the size of a file.
inline constexpr int64_t kWhole = std::numeric_limits<int64_t>::max();

/// Whether a file is called as a shard or an index of this stem is: "model-00001-of-00003.safetensors".
bool isShardOf(const std::string &stem, const std::string &file);

/// The same functions as Reader's, over all files.
class ShardedReader {
public:
  /// `path` is a file of tensors, an index, or a folder that has either for the stem "model". Every shard must be
  /// there, and every tensor lie in the one file that the index names.
  static std::optional<ShardedReader> open(const std::string &path, std::string &error);

  const std::string &path() const { return given; }
  /// The name under which the files have a tensor; empty where they do not. As in transformers, what stands before the
  /// first dot (a base model's prefix, "model.") may be missing from all names, or one more stand before them.
  std::string resolve(const std::string &wanted) const;

  /// By the files' names.
  const Tensor *find(const std::string &name) const;
  std::vector<std::string> names() const;
  bool readFloats(const std::string &name, int64_t first, int64_t count, float *out, std::string &error) const;
  bool readBytes(const std::string &name, int64_t first, int64_t count, void *out, std::string &error) const;
  /// The files that hold tensors, and the index if there is one.
  std::vector<std::string> files() const;

private:
  bool openIndex(const std::string &path, std::string &error);
  bool addFile(const std::string &path, std::string &error);

  std::string given, index;
  std::vector<std::string> paths;
  std::vector<Reader> readers;
  std::map<std::string, size_t> places; // by tensor
};

/// The same functions as Writer's. All ranks that add the same list to the same folder agree on the files; each opens
/// those that it writes to.
class ShardedWriter {
public:
  void add(const std::string &name, ElementType type, std::vector<int64_t> shape);

  /// In the order of addition, a new file where the next tensor would make one larger than `limit` bytes; a tensor
  /// larger than that has a file of its own.
  void divide(const std::string &folder, const std::string &stem, int64_t limit,
              const std::string &ending = kFileEnding);
  /// Names in the folder, the index last.
  std::vector<std::string> files() const;
  /// Of all tensors.
  int64_t numBytes() const;
  /// Once divided.
  bool has(const std::string &name) const { return places.contains(name); }

  /// Creates all files at full size, and the index.
  bool create(std::string &error);
  bool writeFloats(const std::string &name, int64_t first, int64_t count, const float *values, std::string &error);
  bool writeBytes(const std::string &name, int64_t first, int64_t count, const void *bytes, std::string &error);
  /// Flushes the files that were written to.
  bool close(std::string &error);

private:
  struct Item {
    std::string name;
    ElementType type;
    std::vector<int64_t> shape;
    int64_t bytes;
  };
  struct File {
    std::string name;
    Writer writer;
    bool isOpen = false;
  };
  File *openFor(const std::string &name, std::string &error);
  std::string indexText() const;

  std::string folder, indexName;
  std::vector<Item> items;
  std::vector<File> parts;
  std::map<std::string, size_t> places; // by tensor
};

} // namespace galvatron::safetensors

#endif // GALVATRON_SUPPORT_SHARDS_H
