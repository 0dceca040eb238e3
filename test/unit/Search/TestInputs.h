//===- TestInputs.h - Files that the search's tests read --------*- C++ -*-===//

#ifndef GALVATRON_TEST_UNIT_SEARCH_TESTINPUTS_H
#define GALVATRON_TEST_UNIT_SEARCH_TESTINPUTS_H

#include "galvatron/Search/Reference/ReferenceModel.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#ifndef SEARCH_INPUTS
// Layer tests run in the source tree; the inputs lie beside the lit tests.
#define SEARCH_INPUTS std::string("test/Search/Inputs")
#endif

namespace galvatron::search::testing {

using Json = nlohmann::json;

inline std::string inputPath(const std::string &name) { return std::string(SEARCH_INPUTS) + "/" + name; }

inline Json readInput(const std::string &name) {
  std::ifstream file(inputPath(name));
  return Json::parse(file);
}

/// The path of a file of this name and content.
inline std::string writeTemporary(const std::string &name, const Json &json) {
  std::string path = ::testing::TempDir() + "/" + name;
  std::ofstream(path) << json.dump(1);
  return path;
}

/// The reference's own model for the `inputs` object of a case.
inline Result<ReferenceModel> loadModel(const Json &inputs) {
  Result<ReferenceArguments> arguments = parseReferenceConfig(inputs.dump(), inputPath(""));
  if (!arguments)
    return arguments.error();
  Result<ReferenceProfile> profile = loadReferenceProfile(*arguments);
  if (!profile)
    return profile.error();
  return ReferenceModel(*arguments, *profile);
}

/// How near the reference's seconds are to be, relatively. Its fits stop short of the least-squares solution: those of
/// lengths and batches by up to 1e-8, those of messages (small, evenly spread) by less than 1e-9.
inline double referenceTolerance(const ReferenceModel &model) {
  return model.args().timeMode == "static" ? 1e-9 : 1e-7;
}

inline std::vector<std::string> referenceCases() {
  std::vector<std::string> names;
  for (const auto &entry : std::filesystem::directory_iterator(inputPath("galvatron-reference")))
    if (entry.path().extension() == ".json")
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

inline std::string caseName(const std::string &file) {
  std::string name = file.substr(0, file.find('.'));
  std::replace_if(name.begin(), name.end(), [](char c) { return !isalnum(c); }, '_');
  return name;
}

} // namespace galvatron::search::testing

#endif // GALVATRON_TEST_UNIT_SEARCH_TESTINPUTS_H
