// galvatron-import --weights: values for an archive that has none, from files that stay one copy.
#ifndef GALVATRON_IMPORT_TORCHSCRIPT_GIVENWEIGHTS_H
#define GALVATRON_IMPORT_TORCHSCRIPT_GIVENWEIGHTS_H

#include "Parameters.h"

#include "galvatron/Support/Shards.h"

#include <filesystem>

namespace galvatron::importer {

class GivenWeights {
public:
  /// Of a file, or of a folder with shards. Throws ImportError where a parameter has no tensor of its shape there, or
  /// has values already.
  GivenWeights(const std::string &path, const Parameters &parameters);

  /// The name beside a program of this path: NAME.safetensors, or the folder NAME.weights of shards.
  std::filesystem::path beside(const std::filesystem::path &program) const;
  /// Makes that name: links, or copies on another disk; shards under their own names, with their index. An error in one
  /// sentence, or empty.
  std::string place(const std::filesystem::path &target) const;

private:
  bool isOneFile() const { return reader->files().size() == 1; }

  std::optional<safetensors::ShardedReader> reader;
};

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_TORCHSCRIPT_GIVENWEIGHTS_H
