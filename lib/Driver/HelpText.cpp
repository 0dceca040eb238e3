// Options print themselves, as LLVM's own help has them; the order and the choice are ours.
#include "HelpText.h"

#include "mlir/Pass/PassRegistry.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <map>

using namespace mlir;
using namespace galvatron;
namespace cl = llvm::cl;

/// Of mlir-opt's options those that people use with programs of ours.
static constexpr llvm::StringLiteral kOfMlir[] = {"color",
                                                  "mlir-elide-elementsattrs-if-larger",
                                                  "mlir-pass-statistics",
                                                  "mlir-print-debuginfo",
                                                  "mlir-print-ir-after",
                                                  "mlir-print-ir-after-all",
                                                  "mlir-print-ir-before",
                                                  "mlir-print-ir-tree-dir",
                                                  "mlir-print-op-generic",
                                                  "mlir-timing",
                                                  "pass-pipeline",
                                                  "split-input-file",
                                                  "verify-diagnostics"};

bool galvatron::asksForHelp(ArrayRef<char *> words) {
  for (StringRef word : words.drop_front()) {
    if (word == "--")
      return false;
    if (word == "--help" || word == "-help" || word == "-h")
      return true;
  }
  return false;
}

/// By name: LLVM has them in a hash table.
static std::map<std::string, cl::Option *> sortOptions() {
  std::map<std::string, cl::Option *> sorted;
  for (const auto &entry : cl::getRegisteredOptions())
    sorted.emplace(StringRef(entry.first).str(), entry.second);
  return sorted;
}

static void printOptions(ArrayRef<cl::Option *> options) {
  size_t width = 0;
  for (cl::Option *option : options)
    width = std::max(width, option->getOptionWidth());
  for (cl::Option *option : options)
    option->printOptionInfo(width);
}

static void printCategory(const std::map<std::string, cl::Option *> &options, StringRef category) {
  SmallVector<cl::Option *> own;
  const cl::OptionCategory *found = nullptr;
  for (const auto &[name, option] : options)
    for (cl::OptionCategory *each : option->Categories)
      if (each->getName() == category && option->ArgStr == name) {
        found = each;
        own.push_back(option);
      }
  if (!found)
    return;
  llvm::outs() << found->getName() << ": " << found->getDescription() << "\n";
  printOptions(own);
  llvm::outs() << "\n";
}

/// Phases are pipelines of all their passes.
static void printPasses(const std::map<std::string, cl::Option *> &options) {
  auto print = [&](StringRef title, bool pipelines) {
    llvm::outs() << title << "\n";
    for (const auto &[name, option] : options) {
      if (!StringRef(name).starts_with("galvatron-"))
        continue;
      StringRef summary;
      const PassPipelineInfo *pipeline = PassPipelineInfo::lookup(name);
      const PassInfo *pass = PassInfo::lookup(name);
      if (pipelines && pipeline)
        summary = pipeline->getPassDescription();
      else if (!pipelines && pass && !pipeline)
        summary = pass->getPassDescription();
      else
        continue;
      llvm::outs() << llvm::formatv("  --{0,-38} - {1}\n", name, summary);
    }
    llvm::outs() << "\n";
  };
  print("Phases, each with all its passes:", true);
  print("Passes, whose options --help-hidden lists:", false);
}

void galvatron::printHelp(StringRef overview, ArrayRef<StringRef> categories) {
  std::map<std::string, cl::Option *> options = sortOptions();
  llvm::outs() << "OVERVIEW: " << overview << "\nUSAGE: galvatron-opt [options] <input file> [-o FILE or FOLDER]\n\n";
  printCategory(options, categories.front());
  llvm::outs() << "The report: what was planned and trained, as a page: python -m galvatron.report FOLDER [LOG ...] -o "
                  "report.html\n\n";
  for (StringRef category : categories.drop_front())
    printCategory(options, category);
  printPasses(options);
  SmallVector<cl::Option *> ofMlir;
  for (StringRef name : kOfMlir)
    if (auto at = options.find(name.str()); at != options.end())
      ofMlir.push_back(at->second);
  llvm::outs() << "Of MLIR: all else that mlir-opt takes is parsed, too; --help-hidden lists it\n";
  printOptions(ofMlir);
}
