// The command line of galvatron-import.
#include "galvatron/Import/Import.h"
#include "galvatron/Options/OptionTable.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

/// What it takes, for people and shells.
static const galvatron::options::Tool &commandLine() {
  static const galvatron::options::Tool tool = {
      "galvatron-import",
      "a module exported by python -m galvatron.export becomes a program of the graph dialect",
      "galvatron-import model.pt [--batch N] [--seq N] [--shape NAME=SIZE] [--labels next] [-o model.mlir]",
      "",
      {
#define OPTION(flags, value, help) {flags, value, help},
#include "Options.def"
#undef OPTION
          galvatron::options::completionOption(),
      }};
  return tool;
}

static int fail(const std::string &message) {
  std::fprintf(stderr, "galvatron-import: error: %s\n", message.c_str());
  return 1;
}

/// NAME=SIZE, sizes joined by x.
static bool readShape(const std::string &text, std::map<std::string, std::vector<int64_t>> &shapes) {
  size_t equal = text.find('=');
  if (equal == 0 || equal == std::string::npos)
    return false;
  std::vector<int64_t> sizes;
  for (size_t at = equal + 1; at <= text.size();) {
    size_t end = std::min(text.find('x', at), text.size());
    char *stop = nullptr;
    std::string word = text.substr(at, end - at);
    long long size = std::strtoll(word.c_str(), &stop, 10);
    if (word.empty() || *stop || size <= 0 || size > 1LL << 40)
      return false;
    sizes.push_back(size);
    at = end + 1;
  }
  return shapes.emplace(text.substr(0, equal), sizes).second;
}

/// Adds the parts between commas, none of which is empty.
static bool readPatterns(const std::string &text, std::vector<std::string> &patterns) {
  std::istringstream stream(text + ",");
  for (std::string pattern; std::getline(stream, pattern, ',');) {
    if (pattern.empty())
      return false;
    patterns.push_back(pattern);
  }
  return true;
}

int galvatron::runImportTool(int argc, char **argv) {
  if (std::optional<int> status = options::printAnswer(commandLine(), argc, argv))
    return *status;
  const std::string help = options::helpText(commandLine());
  ImportOptions options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i], value;
    if (name == "--help" || name == "-h")
      return std::fputs(help.c_str(), stdout), 0;
    if (name == "--version")
      return std::puts("galvatron-import 0.1.0"), 0;
    if (name == "--documents") {
      options.hasDocuments = true;
      continue;
    }
    if (name.size() < 2 || name[0] != '-') {
      if (!options.input.empty())
        return fail("expects one model, but got " + options.input + " and " + name);
      options.input = name;
      continue;
    }
    size_t equal = name.find('=');
    const options::Option *row = options::findOption(commandLine().options, name.substr(0, equal));
    if (!row || row->value.empty())
      return fail("unknown option " + name.substr(0, equal) + "; see galvatron-import --help");
    if (equal != std::string::npos)
      value = name.substr(equal + 1), name.resize(equal);
    else if (i + 1 < argc)
      value = argv[++i];
    if (name == "-o" || name == "--output") {
      options.output = value;
    } else if (name == "--weights") {
      if (value.empty())
        return fail("expects a file or folder of weights after --weights");
      options.weights = value;
    } else if (name == "--batch" || name == "--seq") {
      char *end = nullptr;
      long long number = std::strtoll(value.c_str(), &end, 10);
      if (value.empty() || *end || number <= 0 || number > 1LL << 40)
        return fail("expects a positive number for " + name + ", but got '" + value + "'");
      (name == "--batch" ? options.batch : options.seq) = number;
    } else if (name == "--shape") {
      if (!readShape(value, options.shapes))
        return fail("expects --shape NAME=64 or NAME=3x224x224, but got '" + value + "'");
    } else if (name == "--freeze") {
      if (!readPatterns(value, options.freeze))
        return fail("expects --freeze GLOB,..., but got '" + value + "'");
    } else if (name == "--labels") {
      if (value != "same" && value != "next")
        return fail("expects --labels same or next, but got '" + value + "'");
      options.labelsAreNext = value == "next";
    }
  }
  if (options.input.empty())
    return std::fputs(help.c_str(), stderr), 1;
  if (options.output.empty())
    options.output = std::filesystem::path(options.input).stem().string() + ".mlir";
  std::string error;
  std::vector<std::string> warnings;
  if (!importModel(options, error, warnings))
    return fail(options.input + ": " + error);
  for (const std::string &warning : warnings)
    std::fprintf(stderr, "galvatron-import: warning: %s: %s\n", options.input.c_str(), warning.c_str());
  return 0;
}
