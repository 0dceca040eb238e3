// Reading `galvatron.json`.
#include "Description.h"

#include "lib/Import/Expression/Value.h"

#include "mlir/IR/Builders.h"

#include <nlohmann/json.hpp>

using namespace galvatron::importer;
using nlohmann::json;

/// {kind: normal, mean, std} → {normal = [mean, std]}; null for "unknown". The dialect has no truncated
/// normal, which differs by what lies beyond the bounds (usually two deviations), and no `ranges` (a
/// padding row that starts at zero): both take the distribution of the rest.
static mlir::DictionaryAttr initOf(const json &distribution, mlir::Builder &builder) {
  std::string kind = distribution.at("kind");
  auto number = [&](const char *field) -> mlir::Attribute {
    return builder.getF64FloatAttr(distribution.at(field).get<double>());
  };
  auto dictionary = [&](const char *name, mlir::Attribute value) {
    return builder.getDictionaryAttr({builder.getNamedAttr(name, value)});
  };
  if (kind == "constant")
    return dictionary("constant", number("value"));
  if (kind == "uniform")
    return dictionary("uniform", builder.getArrayAttr({number("low"), number("high")}));
  if (kind == "normal" || kind == "truncated_normal")
    return dictionary("normal", builder.getArrayAttr({number("mean"), number("std")}));
  return {};
}

/// Other inputs than those of tokens.
static std::vector<Importer::Input> inputsOf(const json &root) {
  auto names = root.value("inputs", std::vector<std::string>());
  std::vector<Importer::Input> inputs;
  const json types = root.value("input_types", json::array());
  bool areTokens = llvm::all_of(types, [&](const json &type) { // alike, [batch, seq]
    return type == types.front() && type.at("dtype") == "int64" && type.at("shape").size() == 2;
  });
  if (areTokens && names.size() >= 2 && names[0] == "input_ids" && names[1] == "labels" &&
      (names.size() == 2 || (names.size() == 3 && names[2] == "position_ids")))
    return inputs;
  for (size_t i = 0; i < names.size(); ++i) {
    const json &type = types.at(i);
    inputs.push_back({names[i], type.at("dtype") == "int64" ? ElementType::Int64 : ElementType::Float32, {}});
    for (const json &extent : type.at("shape"))
      inputs.back().shape.push_back(extent);
    if (inputs.back().shape.empty() || llvm::any_of(inputs.back().shape, [](int64_t extent) { return extent < 1; }))
      throw ImportError("galvatron.json in the archive gives " + names[i] + " the shape " +
                        describe(inputs.back().shape) + ", which no input has; export the model again");
  }
  return inputs;
}

Description galvatron::importer::parseDescription(const std::string &text, mlir::MLIRContext &context) {
  Description result;
  if (text.empty())
    return result;
  mlir::Builder builder(&context);
  result.present = true;
  try {
    constexpr int kMostLevels = 100; // printing calls itself for each
    json root = json::parse(text, [](int depth, json::parse_event_t, json &) {
      if (depth > kMostLevels)
        throw ImportError("galvatron.json in the archive is nested deeper than " + std::to_string(kMostLevels) +
                          "; export the model again");
      return true;
    });
    if (int64_t version = root.at("format_version"); version != 2)
      throw ImportError("galvatron.json has format version " + std::to_string(version) +
                        ", but this importer reads 2; export again with the matching galvatron package");
    result.weightless = root.value("weightless", false);
    result.prefix = root.value("prefix", "");
    result.exampleBatch = root.at("example").at("batch");
    result.exampleSeq = root.at("example").at("seq");
    result.inputs = inputsOf(root);
    result.countsLabels = root.value("counts_labels", false);
    for (const json &bound : root.at("bounds"))
      result.bounds.push_back({bound.at("dimension"), bound.at("value"), bound.at("place"), bound.at("reason")});
    for (const json &parameter : root.at("parameters")) {
      if (parameter.contains("distribution"))
        if (auto init = initOf(parameter.at("distribution"), builder))
          result.inits[parameter.at("name")] = init;
      if (!parameter.value("requires_grad", true))
        result.frozen.insert(parameter.at("name"));
    }
    for (const json &buffer : root.value("buffers", json::array()))
      if (buffer.value("persistent", false))
        result.persistentBuffers.push_back(buffer.at("name"));
    if (auto config = root.find("config"); config != root.end() && config->is_object())
      result.config = config->dump(2) + "\n";
    if (auto adapter = root.find("adapter"); adapter != root.end() && adapter->is_object())
      result.adapter = adapter->dump(2) + "\n";
    result.ties = root.value("ties", result.ties);
    std::erase_if(result.ties, [](const std::vector<std::string> &group) { return group.empty(); });
  } catch (const json::exception &error) {
    throw ImportError(std::string("galvatron.json in the archive is damaged (") + error.what() +
                      "); export the model again");
  }
  return result;
}
