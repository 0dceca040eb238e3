// Shards are divided as huggingface_hub's split_torch_state_dict_into_shards does.
#include "galvatron/Support/Shards.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Json.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <unistd.h>

using nlohmann::json;
namespace fs = std::filesystem;

namespace galvatron::safetensors {

static std::string shardName(const std::string &stem, size_t number, size_t count) {
  char middle[64];
  std::snprintf(middle, sizeof middle, "-%05zu-of-%05zu", number, count);
  return stem + middle + kFileEnding;
}

bool isShardOf(const std::string &stem, const std::string &file) {
  unsigned number, count;
  if (file == stem + kIndexEnding)
    return true;
  return file.starts_with(stem + "-") &&
         std::sscanf(file.c_str() + stem.size(), "-%5u-of-%5u", &number, &count) == 2 &&
         file == shardName(stem, number, count);
}

//===----------------------------------------------------------------------===//
// ShardedReader
//===----------------------------------------------------------------------===//

static bool isThere(const fs::path &path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::optional<ShardedReader> ShardedReader::open(const std::string &path, std::string &error) {
  ShardedReader reader;
  reader.given = path;
  std::error_code ignored;
  bool good = false;
  if (path.ends_with(kIndexEnding)) {
    good = reader.openIndex(path, error);
  } else if (!fs::is_directory(path, ignored)) {
    good = reader.addFile(path, error);
    if (!good && !isThere(path))
      error += "; name a file of weights, or a folder that has one or an index";
  } else {
    fs::path one = fs::path(path) / (std::string("model") + kFileEnding);
    fs::path index = fs::path(path) / (std::string("model") + kIndexEnding);
    if (isThere(one))
      good = reader.addFile(one, error);
    else if (isThere(index))
      good = reader.openIndex(index, error);
    else
      error = path + " has neither " + one.filename().string() + " nor " + index.filename().string() +
              "; name a file of weights, or a folder that has one of them";
  }
  return good ? std::optional(std::move(reader)) : std::nullopt;
}

bool ShardedReader::addFile(const std::string &path, std::string &error) {
  std::optional<Reader> opened = Reader::open(path, error);
  if (!opened)
    return false;
  for (const auto &[name, tensor] : opened->tensors())
    if (auto [place, isNew] = places.emplace(name, paths.size()); !isNew) {
      error = "tensor " + name + " is in two files, " + paths[place->second] + " and " + path +
              "; which is meant is not known: copy the folder again";
      return false;
    }
  paths.push_back(path);
  readers.push_back(std::move(*opened));
  return true;
}

bool ShardedReader::openIndex(const std::string &path, std::string &error) {
  index = path;
  std::optional<json> text = readJsonFile(path, error);
  if (!text)
    return false;
  json map = text->is_object() ? text->value("weight_map", json()) : json();
  bool isSound = map.is_object() && !map.empty();
  std::map<std::string, std::string> expected; // file by tensor
  for (const auto &[name, value] : map.items())
    if (value.is_string() && whyNoBaseName(value.get_ref<const std::string &>()).empty())
      expected[name] = value.get<std::string>();
    else
      isSound = false;
  if (!isSound) {
    error = path + " is no index of tensors: expects a weight_map of names to files beside it; copy it again";
    return false;
  }
  std::map<std::string, std::string> firstOf; // a tensor by file
  for (const auto &[name, shard] : expected)
    firstOf.emplace(shard, name);
  for (const auto &[shard, name] : firstOf) {
    fs::path full = fs::path(path).parent_path() / shard;
    if (!isThere(full)) {
      error = full.string() + " is missing, but " + path + " says that it holds " + name +
              "; copy it there, or the whole folder again";
      return false;
    }
    if (!addFile(full, error))
      return false;
  }
  for (const auto &[name, shard] : expected)
    if (auto place = places.find(name); place == places.end() || fs::path(paths[place->second]).filename() != shard) {
      error = path + " says that tensor " + name + " is in " + shard + ", but " +
              (place == places.end() ? "no file has it" : "it is in " + paths[place->second]) +
              "; copy the folder again";
      return false;
    }
  for (const auto &[name, place] : places)
    if (!expected.contains(name)) {
      error = paths[place] + " has tensor " + name + ", which " + path + " does not name; copy the folder again";
      return false;
    }
  return true;
}

std::string ShardedReader::resolve(const std::string &wanted) const {
  if (places.contains(wanted))
    return wanted;
  size_t first = wanted.find('.');
  auto isRelated = [&](const std::string &name) {
    return first == std::string::npos ? name.find('.') == std::string::npos
                                      : name.starts_with(wanted.substr(0, first + 1));
  };
  // Where the files have names like it, it is just not there.
  std::string longer;
  int64_t longers = 0;
  for (const auto &[name, place] : places) {
    if (isRelated(name))
      return "";
    size_t dot = name.find('.');
    bool isLonger = dot != std::string::npos && name.compare(dot + 1, std::string::npos, wanted) == 0;
    longers += isLonger;
    longer = isLonger ? name : longer;
  }
  if (first != std::string::npos && places.contains(wanted.substr(first + 1)))
    return wanted.substr(first + 1);
  return longers == 1 ? longer : "";
}

const Tensor *ShardedReader::find(const std::string &name) const {
  auto place = places.find(name);
  return place == places.end() ? nullptr : readers[place->second].find(name);
}

std::vector<std::string> ShardedReader::names() const {
  std::vector<std::string> list;
  for (const auto &[name, place] : places)
    list.push_back(name);
  return list;
}

bool ShardedReader::readFloats(const std::string &name, int64_t first, int64_t count, float *out,
                               std::string &error) const {
  auto place = places.find(name);
  return readers[place == places.end() ? 0 : place->second].readFloats(name, first, count, out, error);
}

bool ShardedReader::readBytes(const std::string &name, int64_t first, int64_t count, void *out,
                              std::string &error) const {
  auto place = places.find(name);
  return readers[place == places.end() ? 0 : place->second].readBytes(name, first, count, out, error);
}

std::vector<std::string> ShardedReader::files() const {
  std::vector<std::string> list = paths;
  if (!index.empty())
    list.push_back(index);
  return list;
}

//===----------------------------------------------------------------------===//
// ShardedWriter
//===----------------------------------------------------------------------===//

void ShardedWriter::add(const std::string &name, ElementType type, std::vector<int64_t> shape) {
  int64_t bytes = Tensor{type, shape, 0, 0}.numElements() * byteWidth(type);
  items.push_back({name, type, std::move(shape), bytes});
}

void ShardedWriter::divide(const std::string &newFolder, const std::string &stem, int64_t limit,
                           const std::string &ending) {
  folder = newFolder;
  std::vector<std::vector<const Item *>> shards;
  size_t open = 0; // the shard that grows, counted from 1; 0: none
  int64_t filled = 0;
  for (const Item &item : items) {
    if (item.bytes > limit) {
      shards.push_back({&item});
      continue;
    }
    if (open == 0 || filled > limit - item.bytes) {
      shards.emplace_back();
      open = shards.size();
      filled = 0;
    }
    shards[open - 1].push_back(&item);
    filled += item.bytes;
  }
  shards.resize(std::max<size_t>(shards.size(), 1));
  for (size_t i = 0; i < shards.size(); ++i) {
    File &file = parts.emplace_back();
    file.name = shards.size() == 1 ? stem + ending : shardName(stem, i + 1, shards.size());
    file.writer.setMetadata("format", "pt"); // what transformers asks for
    for (const Item *item : shards[i]) {
      file.writer.add(item->name, item->type, item->shape);
      places[item->name] = i;
    }
  }
  indexName = shards.size() == 1 ? "" : stem + kIndexEnding;
}

std::vector<std::string> ShardedWriter::files() const {
  std::vector<std::string> list;
  for (const File &file : parts)
    list.push_back(file.name);
  if (!indexName.empty())
    list.push_back(indexName);
  return list;
}

int64_t ShardedWriter::numBytes() const {
  int64_t total = 0;
  for (const Item &item : items)
    total += item.bytes;
  return total;
}

std::string ShardedWriter::indexText() const {
  json map;
  for (const Item &item : items)
    map[item.name] = parts[places.at(item.name)].name;
  return json{{"metadata", {{"total_size", numBytes()}}}, {"weight_map", map}}.dump(2) + "\n";
}

bool ShardedWriter::create(std::string &error) {
  for (File &file : parts) {
    if (!file.writer.create(fs::path(folder) / file.name, error))
      return false;
    file.isOpen = true;
  }
  if (indexName.empty())
    return true;
  fs::path path = fs::path(folder) / indexName;
  std::string text = indexText();
  std::FILE *stream = std::fopen(path.c_str(), "we");
  bool good = stream && std::fwrite(text.data(), 1, text.size(), stream) == text.size() && std::fflush(stream) == 0 &&
              fsync(fileno(stream)) == 0;
  if (!good)
    error = "cannot write " + path.string() + ": " + std::strerror(errno);
  if (stream)
    std::fclose(stream);
  return good;
}

ShardedWriter::File *ShardedWriter::openFor(const std::string &name, std::string &error) {
  auto place = places.find(name);
  File &file = parts[place == places.end() ? 0 : place->second];
  if (!file.isOpen && !file.writer.openExisting(fs::path(folder) / file.name, error))
    return nullptr;
  file.isOpen = true;
  return &file;
}

bool ShardedWriter::writeFloats(const std::string &name, int64_t first, int64_t count, const float *values,
                                std::string &error) {
  File *file = openFor(name, error);
  return file && file->writer.writeFloats(name, first, count, values, error);
}

bool ShardedWriter::writeBytes(const std::string &name, int64_t first, int64_t count, const void *bytes,
                               std::string &error) {
  File *file = openFor(name, error);
  return file && file->writer.writeBytes(name, first, count, bytes, error);
}

bool ShardedWriter::close(std::string &error) {
  bool good = true;
  for (File &file : parts)
    if (file.isOpen) {
      std::string own;
      if (!file.writer.close(own) && good)
        error = own, good = false;
      file.isOpen = false;
    }
  return good;
}

} // namespace galvatron::safetensors
