//===- Checksums.cpp - whether a checkpoint's files are as they were saved --------------------===//
//
// Several ranks write one file, so nobody sees its bytes in order until all are done: one rank then reads it back. A
// file's hash and its tensors' come from the same pass, and cost less than the reading (XXH3, some 10 GB/s).
//
//===-------------------------------------------------------------------------------------------===//
#include "runtime/checkpoint/Checksums.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Json.h"
#include "galvatron/Support/Safetensors.h"
#include "runtime/checkpoint/Adapter.h"
#include "runtime/core/Files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

// Compiled in, so that a compiled model needs no library more where it runs.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace fs = std::filesystem;
using nlohmann::json;

namespace galvatron {
namespace {

/// Bytes that pass through host memory at once.
constexpr int64_t kChunk = 1 << 20;
constexpr size_t kHashDigits = 32;

class Hash {
public:
  Hash() : state(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state.get()); }
  void add(const void *bytes, int64_t count) { XXH3_128bits_update(state.get(), bytes, count); }
  /// As `xxhsum -H2` writes it.
  std::string text() const {
    XXH128_hash_t value = XXH3_128bits_digest(state.get());
    char text[kHashDigits + 1];
    std::snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)value.high64,
                  (unsigned long long)value.low64);
    return text;
  }

private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t *)> state;
};

using Texts = std::map<std::string, std::string>;

struct FileHashes {
  std::string whole;
  Texts tensors; // by name
};

/// Reads `count` bytes through `visit`, in order.
template <typename Visit> Status readBytes(int file, const std::string &path, int64_t count, const Visit &visit) {
  std::vector<char> chunk(std::min(count, kChunk));
  while (count > 0) {
    ssize_t got = read(file, chunk.data(), std::min<int64_t>(count, chunk.size()));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return Status::error("cannot read ", path, ": ", got < 0 ? std::strerror(errno) : "the file ends early");
    visit(chunk.data(), got);
    count -= got;
  }
  return Status::success();
}

/// The tensors of a safetensors file in the order of their bytes; none of any other file.
Status findTensors(const std::string &path, std::vector<std::pair<std::string, safetensors::Tensor>> &tensors) {
  if (fs::path(path).extension() != ".safetensors")
    return Status::success();
  Status status;
  std::optional<safetensors::Reader> reader = safetensors::Reader::open(path, status.message);
  if (reader)
    tensors.assign(reader->tensors().begin(), reader->tensors().end());
  std::sort(tensors.begin(), tensors.end(), [](const auto &a, const auto &b) {
    return std::pair(a.second.offset, a.second.bytes) < std::pair(b.second.offset, b.second.bytes);
  });
  return status;
}

Status hashFile(const std::string &path, FileHashes &hashes) {
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::unique_ptr<int, void (*)(int *)> closing(nullptr, [](int *file) { close(*file); });
  struct stat info;
  if (file >= 0)
    closing.reset(&file);
  if (file < 0 || fstat(file, &info) != 0)
    return Status::error("cannot read ", path, ": ", std::strerror(errno));
  std::vector<std::pair<std::string, safetensors::Tensor>> tensors;
  Status status = findTensors(path, tensors);
  Hash whole;
  int64_t place = 0;
  auto readTo = [&](int64_t end, Hash *tensor) {
    Status result = readBytes(file, path, end - place, [&](const char *bytes, int64_t count) {
      whole.add(bytes, count);
      if (tensor)
        tensor->add(bytes, count);
    });
    place = end;
    return result;
  };
  for (const auto &[name, tensor] : tensors) {
    if (!status.ok() || tensor.offset < place) // only a damaged header lets tensors overlap
      continue;
    Hash hash;
    status = readTo(tensor.offset, nullptr);
    if (status.ok())
      status = readTo(tensor.offset + tensor.bytes, &hash);
    hashes.tensors[name] = hash.text();
  }
  if (status.ok())
    status = readTo(std::max<int64_t>(info.st_size, place), nullptr);
  hashes.whole = whole.text();
  return status;
}

/// A name without a folder, or of one of the adapter's files.
bool isOfCheckpoint(const std::string &name) {
  std::vector<std::string> adapter = adapterFiles();
  return whyNoBaseName(name).empty() || std::find(adapter.begin(), adapter.end(), name) != adapter.end();
}

/// The lines, by file; each is a hash, two spaces and a file of the checkpoint.
Status readChecksums(const fs::path &path, Texts &hashes) {
  std::ifstream file(path);
  int64_t number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    bool isSound = line.size() > kHashDigits + 2 && line.compare(kHashDigits, 2, "  ") == 0 &&
                   line.find_first_not_of("0123456789abcdef") == kHashDigits &&
                   isOfCheckpoint(line.substr(kHashDigits + 2)) && !file.eof();
    if (!isSound || !hashes.emplace(line.substr(kHashDigits + 2), line.substr(0, kHashDigits)).second)
      return Status::error(
          path.string(), " is damaged: line ", number,
          " is no hash with the name of another file; copy the whole checkpoint again, or take another");
  }
  return Status::success();
}

/// ": tensor x is the first that differs", where that is known.
std::string describeDamage(const fs::path &folder, const std::string &name, const FileHashes &now,
                           const Texts &checksums) {
  FileHashes own;
  auto known = checksums.find(kTensors);
  if (now.tensors.empty() || known == checksums.end() || !hashFile(folder / kTensors, own).ok() ||
      own.whole != known->second)
    return "";
  std::string ignored;
  json saved = readJsonFile(folder / kTensors, ignored).value_or(json());
  if (!saved.is_object() || !saved.contains(name) || !saved[name].is_object())
    return "";
  std::vector<std::string> different;
  for (const auto &[tensor, hash] : saved[name].items())
    if (auto found = now.tensors.find(tensor); found == now.tensors.end() || json(found->second) != hash)
      different.push_back(tensor);
  if (different.empty())
    return ": its tensors are as they were, but its header is not";
  return ": tensor " + different[0] + " differs" +
         (different.size() > 1 ? ", and " + std::to_string(different.size() - 1) + " more" : "");
}

Status verifyFile(const fs::path &folder, const std::string &name, const Texts &checksums) {
  fs::path path = folder / name;
  bool isThere = false;
  if (Status status = lookFor(path, isThere); !status.ok())
    return status;
  if (!isThere)
    return Status::error(path.string(), " is missing, but ", kChecksums,
                         " names it; copy the whole checkpoint again, or take another");
  FileHashes now;
  if (Status status = hashFile(path, now); !status.ok())
    return status;
  if (now.whole == checksums.at(name))
    return Status::success();
  return Status::error(path.string(), " is damaged, or of another save than ", kChecksums, " beside it",
                       describeDamage(folder, name, now, checksums),
                       "; copy the whole checkpoint again, or take another");
}

} // namespace

Status hashOwn(const std::string &folder, const std::vector<std::string> &files, int rank, int ranks,
               std::string &text) {
  Status status;
  json own = json::object();
  for (size_t i = 0; i < files.size() && status.ok(); ++i)
    if ((int)(i % ranks) == rank) {
      FileHashes hashes;
      status = hashFile(fs::path(folder) / files[i], hashes);
      own[files[i]] = {hashes.whole, hashes.tensors};
    }
  text = own.dump();
  return status;
}

Status writeChecksums(const std::string &folder, const std::vector<std::string> &all) {
  Texts wholes;
  json tensors = json::object();
  for (const std::string &text : all) {
    json own = parseOwnJson(text);
    for (const auto &[name, hashes] : own.items()) {
      wholes[name] = hashes[0];
      if (!hashes[1].empty())
        tensors[name] = hashes[1];
    }
  }
  fs::path path = folder;
  if (Status status = writeText(path / kTensors, tensors.dump(1) + "\n"); !status.ok())
    return status;
  FileHashes own;
  if (Status status = hashFile(path / kTensors, own); !status.ok())
    return status;
  wholes[kTensors] = own.whole;
  std::string lines;
  for (const auto &[name, hash] : wholes)
    lines += hash + "  " + name + "\n";
  return writeText(path / kChecksums, lines);
}

bool isInChecksums(const std::string &folder, const std::string &file) {
  Texts checksums;
  return readChecksums(fs::path(folder) / kChecksums, checksums).ok() && checksums.contains(file);
}

Status verifyChecksums(const World &world, const std::string &folder, const std::vector<std::string> &required,
                       bool &isThere) {
  fs::path path = fs::path(folder) / kChecksums;
  Texts checksums;
  if (Status status = lookTogether(world, path, isThere); !status.ok())
    return status;
  Status status = isThere ? readChecksums(path, checksums) : Status::success();
  for (const std::string &name : required)
    if (status.ok() && isThere && !checksums.contains(name))
      status = Status::error(path.string(), " is damaged: it does not name ", name,
                             "; copy the whole checkpoint again, or take another");
  int64_t place = 0;
  for (const auto &[name, hash] : checksums)
    if (place++ % world.size() == world.rank() && status.ok())
      status = verifyFile(folder, name, checksums);
  return world.agree(status);
}

} // namespace galvatron
