//===- Adapter.cpp - the folder of a checkpoint that peft loads ---------------------------------===//
#include "runtime/checkpoint/Adapter.h"
#include "galvatron/Support/Json.h"
#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/core/Files.h"

namespace fs = std::filesystem;
using nlohmann::json;

namespace galvatron {

/// Elements that pass through host memory at once.
static constexpr int64_t kBatch = 1 << 21;

std::vector<std::string> adapterFiles() {
  std::vector<std::string> names;
  for (const char *name : kAdapterFiles)
    names.push_back(std::string(kAdapterFolder) + "/" + name);
  return names;
}

Status Adapter::parse(const std::string &text, const Catalog &catalog, Adapter &adapter) {
  std::string error;
  std::optional<json> root = parseJson(text, kAdapter, error);
  if (!root)
    return Status::error(error, "; compile the program again");
  auto config = root->find("config"), tensors = root->find("tensors");
  if (!root->is_object() || config == root->end() || !config->is_object() || tensors == root->end() ||
      !tensors->is_object())
    return Status::error(kAdapter, ": expects an object with config and tensors; compile the program again");
  adapter.config = config->dump(2) + "\n";
  for (const auto &[key, name] : tensors->items()) {
    std::string known = name.is_string() ? catalog.canonicalName(name) : "";
    if (known.empty())
      return Status::error(kAdapter, ": tensor ", key, " is of ", name.dump(),
                           ", which the program has not; compile the program again");
    adapter.tensors[key] = known;
  }
  return Status::success();
}

std::set<std::string> Adapter::names() const {
  std::set<std::string> result;
  for (const auto &[key, name] : tensors)
    result.insert(name);
  return result;
}

Status Adapter::write(const fs::path &checkpoint) const {
  Status status;
  fs::path folder = checkpoint / kAdapterFolder;
  std::error_code failure;
  fs::create_directory(folder, failure);
  if (failure)
    return Status::error("cannot create ", folder.string(), ": ", failure.message());
  std::optional<safetensors::ShardedReader> model =
      safetensors::ShardedReader::open(weightsOfCheckpoint(checkpoint), status.message);
  if (!model)
    return status;
  safetensors::Writer writer;
  writer.setMetadata("format", "pt");
  for (const auto &[key, name] : tensors)
    writer.add(key, safetensors::ElementType::F32, model->find(name)->shape);
  if (!writer.create(folder / kAdapterFiles[1], status.message))
    return status;
  std::vector<float> host;
  for (const auto &[key, name] : tensors) {
    int64_t elements = model->find(name)->numElements();
    for (int64_t done = 0; done < elements; done += kBatch) {
      host.resize(std::min(kBatch, elements - done));
      if (!model->readFloats(name, done, host.size(), host.data(), status.message) ||
          !writer.writeFloats(key, done, host.size(), host.data(), status.message))
        return status;
    }
  }
  if (!writer.close(status.message))
    return status;
  if (status = writeText(folder / kAdapterFiles[0], config); status.ok())
    status = synchronize(folder);
  return status;
}

} // namespace galvatron
