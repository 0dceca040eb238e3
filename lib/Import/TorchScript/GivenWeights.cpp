// Weights that are given: looked through, then linked.
#include "GivenWeights.h"

#include "lib/Import/Expression/Value.h"

using namespace galvatron;
using namespace galvatron::importer;
namespace fs = std::filesystem;

static std::string shapeText(llvm::ArrayRef<int64_t> shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (text.empty() ? "[" : ", ") + std::to_string(extent);
  return text.empty() ? "[]" : text + "]";
}

GivenWeights::GivenWeights(const std::string &path, const Parameters &parameters) {
  if (!parameters.isWeightless())
    throw ImportError("--weights gives values to an archive without any, but this one has its own; leave --weights "
                      "out, or export it with --weightless");
  std::string error;
  reader = safetensors::ShardedReader::open(path, error);
  if (!reader)
    throw ImportError("--weights: " + error);
  for (const auto &parameter : parameters.list()) {
    const safetensors::Tensor *found = nullptr;
    for (const std::string &name : parameter->names)
      if (!found)
        found = reader->find(reader->resolve(name));
    if (!found)
      throw ImportError("--weights: " + path + " has no tensor " + parameter->names[0] +
                        ", which the model needs; give the weights of this model");
    if (found->shape != parameter->tensor.sizes().vec())
      throw ImportError("--weights: " + path + ": expects tensor " + parameter->names[0] + " of shape " +
                        shapeText({parameter->tensor.sizes().data(), parameter->tensor.sizes().size()}) + ", but got " +
                        shapeText(found->shape));
  }
}

fs::path GivenWeights::beside(const fs::path &program) const {
  return fs::path(program).replace_extension(isOneFile() ? ".safetensors" : ".weights");
}

/// What a name stands for, links followed: those of a cache of downloads lead elsewhere.
static std::string link(const fs::path &source, const fs::path &target) {
  std::error_code error;
  fs::path real = fs::canonical(source, error);
  if (!error)
    fs::create_hard_link(real, target, error);
  if (error)
    error.clear(), fs::copy_file(real, target, fs::copy_options::overwrite_existing, error);
  return error ? error.message() : "";
}

std::string GivenWeights::place(const fs::path &target) const {
  std::error_code error;
  fs::remove_all(target, error); // of an import that was stopped
  std::vector<std::string> files = reader->files();
  if (isOneFile())
    return link(files[0], target);
  if (!fs::create_directory(target, error))
    return error.message();
  for (const std::string &file : files) {
    fs::path name = fs::path(file).filename();
    // The reader looks for the index under this name.
    if (file.ends_with(safetensors::kIndexEnding))
      name = std::string("model") + safetensors::kIndexEnding;
    if (std::string why = link(file, target / name); !why.empty())
      return why;
  }
  return "";
}
