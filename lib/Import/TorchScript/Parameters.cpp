// Collecting parameters and writing them as safetensors.
#include "Parameters.h"

#include "../Value.h"

#include "galvatron/Support/Safetensors.h"

using namespace galvatron::importer;

/// One zero (or nothing) behind all elements.
static bool hasNoMemory(const at::Tensor &tensor) {
  if (tensor.is_meta())
    return true;
  return tensor.numel() > 1 && llvm::all_of(tensor.strides(), [](int64_t stride) { return stride == 0; });
}

Parameters::Parameters(const torch::jit::Module &module, const Description &description) {
  std::map<std::string, std::string> canonical;
  for (const auto &group : description.ties)
    for (const std::string &name : group)
      canonical[name] = group.front();
  std::map<std::pair<const void *, std::vector<int64_t>>, Parameter *> byMemory;
  std::unordered_map<std::string, Parameter *> byName;
  weightless = description.weightless;
  for (const auto &entry : module.named_parameters(/*recurse=*/true)) {
    // A frozen parameter is a constant: buffers and it are treated alike.
    if (!entry.value.requires_grad() && !hasNoMemory(entry.value))
      continue;
    std::string name = entry.name;
    if (!description.prefix.empty() && name.rfind(description.prefix, 0) == 0)
      name = name.substr(description.prefix.size());
    if (!at::isFloatingType(entry.value.scalar_type()))
      throw ImportError("parameter " + name + " is not floating point; make it a buffer");
    Parameter *known = nullptr;
    if (description.present) {
      if (auto first = canonical.find(name); first != canonical.end())
        if (auto it = byName.find(first->second); it != byName.end())
          known = it->second;
    } else if (!hasNoMemory(entry.value)) {
      auto &slot = byMemory[{entry.value.data_ptr(), entry.value.sizes().vec()}];
      known = slot;
      if (!known) {
        all.push_back(std::make_unique<Parameter>());
        slot = all.back().get();
      }
      if (!known)
        slot->tensor = entry.value, known = slot;
    }
    if (!known) {
      all.push_back(std::make_unique<Parameter>());
      known = all.back().get();
      known->tensor = entry.value;
    }
    known->names.push_back(name);
    byName[name] = byPath[entry.name] = known;
    weightless |= hasNoMemory(entry.value);
    if (auto init = description.inits.find(name); init != description.inits.end() && !known->init)
      known->init = init->second;
  }
  for (const auto &parameter : all)
    if (weightless && !parameter->init)
      throw ImportError("parameter " + parameter->names[0] +
                        " has neither values nor a distribution to draw them from; export with weights, or "
                        "weightless with galvatron.export (--init-std for a module of your own)");
}

const Parameter *Parameters::find(const std::string &path) const {
  auto it = byPath.find(path);
  return it == byPath.end() ? nullptr : it->second;
}

std::string Parameters::write(const std::string &file) const {
  safetensors::Writer writer;
  std::string error;
  writer.setMetadata("format", "pt"); // what transformers asks for
  for (const auto &parameter : all) {
    writer.add(parameter->names[0], safetensors::ElementType::F32, parameter->tensor.sizes().vec());
    for (size_t i = 1; i < parameter->names.size(); ++i)
      writer.setMetadata("tied:" + parameter->names[i], parameter->names[0]);
  }
  if (!writer.create(file, error))
    return error;
  for (const auto &parameter : all) {
    at::Tensor values = parameter->tensor.detach().to(at::kFloat).contiguous();
    if (!writer.writeFloats(parameter->names[0], 0, values.numel(), values.data_ptr<float>(), error))
      return error;
  }
  return writer.close(error) ? "" : error;
}
