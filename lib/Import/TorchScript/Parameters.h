// The parameters of a loaded module: names, ties and where their numbers are.
#ifndef GALVATRON_LIB_IMPORT_TORCHSCRIPT_PARAMETERS_H
#define GALVATRON_LIB_IMPORT_TORCHSCRIPT_PARAMETERS_H

#include "Description.h"

#include <torch/script.h>

#include <unordered_map>

namespace galvatron::importer {

struct Parameter {
  std::vector<std::string> names; // canonical first
  at::Tensor tensor;
  mlir::DictionaryAttr init;
};

class Parameters {
public:
  Parameters(const torch::jit::Module &module, const Description &description);

  /// By attribute path from the root; null when that attribute is no trained parameter.
  const Parameter *find(const std::string &path) const;
  /// No parameter has memory of its own for its elements.
  bool isWeightless() const { return weightless; }
  /// All of them, float32 and contiguous; an error in one sentence, or empty.
  std::string write(const std::string &file) const;

private:
  std::vector<std::unique_ptr<Parameter>> all;
  std::unordered_map<std::string, Parameter *> byPath;
  bool weightless = false;
};

} // namespace galvatron::importer

#endif // GALVATRON_LIB_IMPORT_TORCHSCRIPT_PARAMETERS_H
