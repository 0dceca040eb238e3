// Collecting parameters and buffers, and writing them as safetensors.
#include "Parameters.h"

#include "lib/Import/Archive/CodeCheck.h"
#include "lib/Import/Expression/Value.h"

#include "llvm/Support/JSON.h"

#include <fnmatch.h>

using namespace galvatron;
using namespace galvatron::importer;

static const std::map<at::ScalarType, safetensors::ElementType> kFileTypes = {
    {at::kDouble, safetensors::ElementType::F64}, {at::kFloat, safetensors::ElementType::F32},
    {at::kHalf, safetensors::ElementType::F16},   {at::kBFloat16, safetensors::ElementType::BF16},
    {at::kLong, safetensors::ElementType::I64},   {at::kInt, safetensors::ElementType::I32},
    {at::kShort, safetensors::ElementType::I16},  {at::kChar, safetensors::ElementType::I8},
    {at::kByte, safetensors::ElementType::U8},    {at::kBool, safetensors::ElementType::Bool},
    {at::kUInt64, safetensors::ElementType::U64}, {at::kUInt32, safetensors::ElementType::U32},
    {at::kUInt16, safetensors::ElementType::U16}, {at::kComplexFloat, safetensors::ElementType::C64}};

safetensors::ElementType Buffer::type() const { return kFileTypes.at(tensor.scalar_type()); }

/// Elements of a buffer that is a single one, repeated: 512 MiB of single precision.
static constexpr int64_t kMostRepeated = 1 << 27;

/// One zero (or nothing) after all elements.
static bool hasNoMemory(const at::Tensor &tensor) {
  if (tensor.is_meta())
    return true;
  return tensor.numel() > 1 && llvm::all_of(tensor.strides(), [](int64_t stride) { return stride == 0; });
}

/// Names become keys of files and parts of messages, and may come from anyone.
static void checkName(const std::string &name) {
  bool isPlain = llvm::json::isUTF8(name) && llvm::none_of(name, [](unsigned char c) { return c < ' ' || c == 127; });
  if (!isPlain || name.empty() || name.size() > 1024 || name.find('/') != std::string::npos)
    throw ImportError("parameter or buffer '" + printable(name) +
                      "' has a name that is no key of a weights file: expects UTF-8 without '/' and control "
                      "characters, of at most 1024 bytes; rename it");
}

/// Trained apart, parameters that share some of their memory would no longer be what the module computes with.
static void checkOverlaps(const std::vector<std::unique_ptr<Parameter>> &parameters) {
  struct Range {
    const char *begin, *end;
    const Parameter *parameter;
  };
  std::vector<Range> ranges;
  for (const auto &parameter : parameters)
    if (const at::Tensor &x = parameter->tensor; !hasNoMemory(x) && x.numel() > 0 && x.is_contiguous()) {
      const char *begin = static_cast<const char *>(x.const_data_ptr());
      ranges.push_back({begin, begin + x.nbytes(), parameter.get()});
    }
  llvm::sort(ranges, [](const Range &a, const Range &b) { return std::less<>()(a.begin, b.begin); });
  for (size_t i = 1; i < ranges.size(); ++i)
    if (const Range &last = ranges[i - 1], &next = ranges[i];
        next.begin < last.end && (next.begin != last.begin || next.end != last.end))
      throw ImportError("parameters " + last.parameter->names[0] + " and " + next.parameter->names[0] +
                        " share some of their memory, but not all of it, which is unsupported; clone one of them");
}

/// What the exported module calls the attribute.
static std::string nameOf(const std::string &path, const Description &description) {
  bool hasPrefix = !description.prefix.empty() && path.rfind(description.prefix, 0) == 0;
  return hasPrefix ? path.substr(description.prefix.size()) : path;
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
    std::string name = nameOf(entry.name, description);
    checkName(name);
    if (!at::isFloatingType(entry.value.scalar_type())) {
      allBuffers.push_back({name, entry.name, entry.value});
      continue;
    }
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
    if (known->tensor.sizes() != entry.value.sizes() || known->tensor.scalar_type() != entry.value.scalar_type())
      throw ImportError("galvatron.json ties parameter " + name + " to " + known->names[0] +
                        ", which is of another shape or type; export the model again");
    known->names.push_back(name);
    known->frozen = description.present ? description.frozen.count(name) : !entry.value.requires_grad();
    byName[name] = byPath[entry.name] = known;
    weightless |= hasNoMemory(entry.value);
    if (auto init = description.inits.find(name); init != description.inits.end() && !known->init)
      known->init = init->second;
  }
  addBuffers(module, description);
  checkOverlaps(all);
  for (const auto &parameter : all)
    if (weightless && !parameter->init)
      throw ImportError("parameter " + parameter->names[0] +
                        " has neither values nor a distribution to draw them from; export with weights, or "
                        "weightless with galvatron.export (--init-std for a module of your own)");
}

void Parameters::addBuffers(const torch::jit::Module &module, const Description &description) {
  std::set<std::string> persistent(description.persistentBuffers.begin(), description.persistentBuffers.end());
  for (const auto &entry : module.named_buffers(/*recurse=*/true))
    if (std::string name = nameOf(entry.name, description); persistent.erase(name))
      allBuffers.push_back({name, entry.name, entry.value});
  if (!persistent.empty())
    throw ImportError("the archive lacks the buffer " + *persistent.begin() + " that it describes; export it again");
  for (const Buffer &buffer : allBuffers) {
    checkName(buffer.name);
    if (hasNoMemory(buffer.tensor) && buffer.tensor.numel() > kMostRepeated)
      throw ImportError("buffer " + buffer.name + " shows one element as " + std::to_string(buffer.tensor.numel()) +
                        ", but at most " + std::to_string(kMostRepeated) + " are read; register a smaller one");
  }
  for (const Buffer &buffer : allBuffers)
    if (!kFileTypes.count(buffer.tensor.scalar_type()))
      throw ImportError("buffer " + buffer.name + " is of type " + c10::toString(buffer.tensor.scalar_type()) +
                        ", which a checkpoint cannot hold; register it with persistent=False");
}

void Parameters::freeze(llvm::ArrayRef<std::string> patterns) {
  for (const std::string &pattern : patterns) {
    bool hasMatch = false;
    for (const auto &parameter : all)
      if (llvm::any_of(parameter->names,
                       [&](const std::string &name) { return !fnmatch(pattern.c_str(), name.c_str(), 0); }))
        hasMatch = parameter->frozen = true;
    if (!hasMatch)
      throw ImportError("--freeze " + pattern + " matches no parameter" +
                        (all.empty() ? "" : ", of which the first is " + all.front()->names[0]) +
                        "; write names as the module has them, with * for any part");
  }
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

std::string Parameters::writeBuffers(const std::string &file) const {
  safetensors::Writer writer;
  std::string error;
  writer.setMetadata("format", "pt");
  for (const Buffer &buffer : allBuffers)
    writer.add(buffer.name, buffer.type(), buffer.tensor.sizes().vec());
  if (!writer.create(file, error))
    return error;
  for (const Buffer &buffer : allBuffers) {
    at::Tensor values = buffer.tensor.detach().contiguous();
    if (!writer.writeBytes(buffer.name, 0, values.nbytes(), values.const_data_ptr(), error))
      return error;
  }
  return writer.close(error) ? "" : error;
}
