// What a loaded module holds: its parameters with names, ties and numbers, and the buffers of its state_dict().
#ifndef GALVATRON_IMPORT_TORCHSCRIPT_PARAMETERS_H
#define GALVATRON_IMPORT_TORCHSCRIPT_PARAMETERS_H

#include "Description.h"

#include "galvatron/Support/Safetensors.h"

#include <torch/script.h>

#include "llvm/ADT/ArrayRef.h"

#include <unordered_map>

namespace galvatron::importer {

struct Parameter {
  std::vector<std::string> names; // canonical first
  at::Tensor tensor;
  mlir::DictionaryAttr init;
  bool frozen = false; // requires_grad is false
};

/// What state_dict() holds beside parameters; integer parameters are no more than that.
struct Buffer {
  std::string name;
  std::string path; // of its attribute
  at::Tensor tensor;

  safetensors::ElementType type() const;
};

class Parameters {
public:
  Parameters(const torch::jit::Module &module, const Description &description);

  /// Does not train what a pattern (fnmatch) matches by any of its names. Throws ImportError for one that matches nothing.
  void freeze(llvm::ArrayRef<std::string> patterns);

  /// By attribute path from the root; null when that attribute is a buffer.
  const Parameter *find(const std::string &path) const;
  llvm::ArrayRef<std::unique_ptr<Parameter>> list() const { return all; }
  llvm::ArrayRef<Buffer> buffers() const { return allBuffers; }
  /// No parameter has memory of its own for its elements.
  bool isWeightless() const { return weightless; }
  /// All of them, float32 and contiguous; an error in one sentence, or empty.
  std::string write(const std::string &file) const;
  /// All buffers, each in its own type; likewise.
  std::string writeBuffers(const std::string &file) const;

private:
  void addBuffers(const torch::jit::Module &module, const Description &description);

  std::vector<std::unique_ptr<Parameter>> all;
  std::vector<Buffer> allBuffers;
  std::unordered_map<std::string, Parameter *> byPath;
  bool weightless = false;
};

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_TORCHSCRIPT_PARAMETERS_H
