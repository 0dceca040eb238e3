// Options print themselves, as LLVM's own help has them; the order and the choice are ours.
#include "HelpText.h"

#include "mlir/Pass/PassRegistry.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

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

static void printOptions(ArrayRef<cl::Option *> options) {
  size_t width = 0;
  for (cl::Option *option : options)
    width = std::max(width, option->getOptionWidth());
  for (cl::Option *option : options)
    option->printOptionInfo(width);
}

/// Those of a category, by name.
static SmallVector<cl::Option *> findOptions(const RegisteredOptions &options, const cl::OptionCategory &category) {
  SmallVector<cl::Option *> own;
  for (const auto &[name, option] : options)
    if (option->ArgStr == name && option->getOptionHiddenFlag() == cl::NotHidden &&
        llvm::is_contained(option->Categories, &category))
      own.push_back(option);
  return own;
}

static std::string getTitle(const cl::OptionCategory &category) {
  return (category.getName() + ": " + category.getDescription()).str();
}

static void printCategory(const RegisteredOptions &options, const cl::OptionCategory &category) {
  llvm::outs() << getTitle(category) << "\n";
  printOptions(findOptions(options, category));
  llvm::outs() << "\n";
}

static SmallVector<cl::Option *> findMlirOptions(const RegisteredOptions &options) {
  SmallVector<cl::Option *> found;
  for (StringRef name : kOfMlir)
    if (auto at = options.find(name.str()); at != options.end())
      found.push_back(at->second);
  return found;
}

static constexpr llvm::StringLiteral kPhasesTitle = "Phases, each with all its passes";
static constexpr llvm::StringLiteral kPassesTitle = "Passes, whose options --help-hidden lists";
static constexpr llvm::StringLiteral kMlirTitle =
    "Of MLIR: all else that mlir-opt takes is parsed, too; --help-hidden lists it";

/// Our phases, which are pipelines of all their passes, or our other passes: name and option.
static SmallVector<std::pair<StringRef, cl::Option *>> findPasses(const RegisteredOptions &options, bool phases) {
  SmallVector<std::pair<StringRef, cl::Option *>> found;
  for (const auto &[name, option] : options)
    if (StringRef(name).starts_with("galvatron-") && (PassPipelineInfo::lookup(name) || PassInfo::lookup(name)) &&
        phases == (PassPipelineInfo::lookup(name) != nullptr))
      found.emplace_back(name, option);
  return found;
}

static void printPasses(const RegisteredOptions &options, StringRef title, bool phases) {
  llvm::outs() << title << ":\n";
  for (auto [name, option] : findPasses(options, phases))
    llvm::outs() << llvm::formatv("  --{0,-38} - {1}\n", name, describeOption(name, *option).help);
  llvm::outs() << "\n";
}

void galvatron::printHelp(StringRef overview, ArrayRef<const cl::OptionCategory *> categories) {
  RegisteredOptions options = sortRegisteredOptions();
  llvm::outs() << "OVERVIEW: " << overview << "\nUSAGE: galvatron-opt [options] <input file> [-o FILE or FOLDER]\n\n";
  printCategory(options, *categories.front());
  llvm::outs() << "The report: what was planned and trained, as a page: python -m galvatron.report FOLDER [LOG ...] -o "
                  "report.html\n\n";
  for (const cl::OptionCategory *category : categories.drop_front())
    printCategory(options, *category);
  printPasses(options, kPhasesTitle, /*phases=*/true);
  printPasses(options, kPassesTitle, /*phases=*/false);
  llvm::outs() << kMlirTitle << "\n";
  printOptions(findMlirOptions(options));
}

std::vector<options::Option> galvatron::describeHelp(ArrayRef<const cl::OptionCategory *> categories) {
  RegisteredOptions rest = sortRegisteredOptions();
  std::vector<options::Option> rows;
  auto describe = [&](StringRef title, ArrayRef<std::pair<StringRef, cl::Option *>> options) {
    rows.push_back({"", "", title.str()});
    for (auto [name, option] : options) {
      rows.push_back(describeOption(name, *option));
      rest.erase(name.str());
    }
  };
  auto named = [](ArrayRef<cl::Option *> options) {
    return llvm::map_to_vector(options, [](cl::Option *option) { return std::pair(option->ArgStr, option); });
  };
  for (const cl::OptionCategory *category : categories)
    describe(getTitle(*category), named(findOptions(rest, *category)));
  // Copies, as their names are of the map that loses them.
  const RegisteredOptions all = rest;
  describe(kPhasesTitle, findPasses(all, /*phases=*/true));
  describe(kPassesTitle, findPasses(all, /*phases=*/false));
  describe(kMlirTitle, named(findMlirOptions(all)));
  rows.push_back({"", "", "Others"});
  for (StringRef name : {"o", "help", "version"})
    if (auto at = rest.find(name.str()); at != rest.end()) {
      rows.push_back(describeOption(name, *at->second));
      rest.erase(at);
    }
  for (const auto &[name, option] : rest)
    if (option->getOptionHiddenFlag() != cl::ReallyHidden) {
      rows.push_back(describeOption(name, *option));
      rows.back().isRare = true;
    }
  return rows;
}
