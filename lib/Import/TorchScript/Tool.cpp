// The command line of galvatron-import.
#include "galvatron/Import/Import.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

static const char kUsage[] =
    "usage: galvatron-import <model.pt> [--batch N] [--seq N] [--labels same|next] [--documents]\n"
    "                        [--shape NAME=64 ...] [--weights FILE|DIR] [-o model.mlir]\n\n"
    "Imports a module exported by `python -m galvatron.export` to the graph dialect.\n\n"
    "  -o FILE      the .mlir file to write (default: <model>.mlir in this folder);\n"
    "               weights, where exported, go beside it as .safetensors\n"
    "  --weights W  values for an archive without any (export --weightless): a safetensors file, or\n"
    "               a folder with model.safetensors or model.safetensors.index.json, in F32, F16 or\n"
    "               BF16; beside the output they are links, or copies on another disk\n"
    "  --batch N    global batch, in sequences (default: the export's example)\n"
    "  --seq N      sequence length, in tokens (default: the export's example)\n"
    "  --shape NAME=64, NAME=3x224x224  sizes behind the batch of a named input (default: the export's example);\n"
    "               may be repeated\n"
    "  --labels L   what the module gets as labels: same (default), the tokens themselves,\n"
    "               for modules that shift them, as those of transformers do; or next, for\n"
    "               modules whose loader would shift: the label of a position is the next\n"
    "               token of its window, and the last position has none. A module's own shift\n"
    "               is then left to launch, which feeds labels that --samples gpt needs. A warning tells\n"
    "               where neither shifts; models whose attention sees all positions, and\n"
    "               may well compare a position with its own token, are not warned about\n"
    "  --documents  rows hold several documents, where launch --reset-at-documents says: positions\n"
    "               are counted from the first token of each, and attention stays within it; for\n"
    "               modules without position_ids as third input, which do so themselves\n"
    "  --help, --version\n";

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

int galvatron::runImportTool(int argc, char **argv) {
  ImportOptions options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i], value;
    if (name == "--help" || name == "-h")
      return std::fputs(kUsage, stdout), 0;
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
    if (size_t equal = name.find('='); equal != std::string::npos)
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
    } else if (name == "--labels") {
      if (value != "same" && value != "next")
        return fail("expects --labels same or next, but got '" + value + "'");
      options.labelsAreNext = value == "next";
    } else {
      return fail("unknown option " + name + "; see galvatron-import --help");
    }
  }
  if (options.input.empty())
    return std::fputs(kUsage, stderr), 1;
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
