//===- Adapter.h - the folder of a checkpoint that peft loads -----------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_ADAPTER_H
#define GALVATRON_RUNTIME_CHECKPOINT_ADAPTER_H

#include "runtime/checkpoint/Tensors.h"

#include <filesystem>
#include <map>

namespace galvatron {

/// Beside the program, of a module that peft adapted: {"config": what adapter_config.json says, "tensors": {key: name}}, by
/// the keys of the adapter's file, the parameters and buffers that these are of.
inline constexpr const char *kAdapter = "adapter.json";
/// In a checkpoint.
inline constexpr const char *kAdapterFolder = "adapter";
inline constexpr const char *kAdapterFiles[] = {"adapter_config.json", "adapter_model.safetensors"};

class Adapter {
public:
  /// Of the text of adapter.json; every tensor must be one of the catalog's.
  static Status parse(const std::string &text, const Catalog &catalog, Adapter &adapter);

  /// Of the tensors, as the catalog has them.
  std::set<std::string> names() const;

  /// In a checkpoint whose model's tensors are all written: the folder with both files, tensors in fp32.
  Status write(const std::filesystem::path &checkpoint) const;

private:
  std::string config;
  std::map<std::string, std::string> tensors;
};

/// Of a checkpoint with an adapter: the files' names, with their folder.
std::vector<std::string> adapterFiles();

} // namespace galvatron

#endif
