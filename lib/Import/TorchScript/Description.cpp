// Reading `galvatron.json`.
#include "Description.h"

#include "../Value.h"

#include "mlir/IR/Builders.h"

#include <nlohmann/json.hpp>

using namespace galvatron::importer;
using nlohmann::json;

/// {kind: normal, mean, std} → {normal = [mean, std]}; null for "unknown".
static mlir::DictionaryAttr initOf(const json &distribution, mlir::Builder &builder) {
  static const std::map<std::string, std::vector<const char *>> kFields = {
      {"constant", {"value"}},
      {"normal", {"mean", "std"}},
      {"uniform", {"low", "high"}},
      {"truncated_normal", {"mean", "std", "low", "high"}},
  };
  std::string kind = distribution.at("kind");
  auto fields = kFields.find(kind);
  if (fields == kFields.end())
    return {};
  llvm::SmallVector<mlir::Attribute> numbers;
  for (const char *field : fields->second)
    numbers.push_back(builder.getF64FloatAttr(distribution.at(field).get<double>()));
  mlir::Attribute value = kind == "constant" ? numbers[0] : builder.getArrayAttr(numbers);
  llvm::SmallVector<mlir::NamedAttribute> entries{builder.getNamedAttr(kind, value)};
  llvm::SmallVector<mlir::Attribute> ranges;
  if (distribution.contains("ranges"))
    for (const json &range : distribution.at("ranges"))
      if (auto inner = initOf(range.at("distribution"), builder))
        ranges.push_back(builder.getDictionaryAttr(
            {builder.getNamedAttr("begin", builder.getI64IntegerAttr(range.at("begin"))),
             builder.getNamedAttr("end", builder.getI64IntegerAttr(range.at("end"))),
             builder.getNamedAttr("init", inner)}));
  if (!ranges.empty())
    entries.push_back(builder.getNamedAttr("ranges", builder.getArrayAttr(ranges)));
  return builder.getDictionaryAttr(entries);
}

Description galvatron::importer::parseDescription(const std::string &text, mlir::MLIRContext &context) {
  Description result;
  if (text.empty())
    return result;
  mlir::Builder builder(&context);
  result.present = true;
  try {
    json root = json::parse(text);
    if (int64_t version = root.at("format_version"); version != 1)
      throw ImportError("galvatron.json has format version " + std::to_string(version) +
                        ", but this importer reads 1; export again with the matching galvatron package");
    result.weightless = root.value("weightless", false);
    result.prefix = root.value("prefix", "");
    result.exampleBatch = root.at("example").at("batch");
    result.exampleSeq = root.at("example").at("seq");
    for (const json &parameter : root.at("parameters"))
      if (parameter.contains("distribution"))
        if (auto init = initOf(parameter.at("distribution"), builder))
          result.inits[parameter.at("name")] = init;
    result.ties = root.value("ties", result.ties);
  } catch (const json::exception &error) {
    throw ImportError(std::string("galvatron.json in the archive is damaged (") + error.what() +
                      "); export the model again");
  }
  return result;
}
