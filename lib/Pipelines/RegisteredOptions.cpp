// From LLVM's registry of options to a table of ours.
#include "galvatron/Pipelines/RegisteredOptions.h"

#include "mlir/Pass/PassRegistry.h"

#include <cstdlib>

using namespace mlir;
using namespace galvatron;
namespace cl = llvm::cl;

RegisteredOptions galvatron::sortRegisteredOptions() {
  RegisteredOptions sorted;
  for (const auto &entry : cl::getRegisteredOptions())
    sorted.emplace(StringRef(entry.first).str(), entry.second);
  return sorted;
}

/// The summary of a pass or pipeline, or nothing.
static std::optional<StringRef> findPass(StringRef name) {
  if (const PassPipelineInfo *pipeline = PassPipelineInfo::lookup(name))
    return pipeline->getPassDescription();
  if (const PassInfo *pass = PassInfo::lookup(name))
    return pass->getPassDescription();
  return std::nullopt;
}

options::Option galvatron::describeOption(StringRef name, const cl::Option &option) {
  options::Option row;
  row.flags = (name.size() == 1 ? "-" : "--") + name.str();
  if (std::optional<StringRef> summary = findPass(name); summary && option.ArgStr != name) {
    row.value = "[OPTIONS]";
    row.help = summary->str();
    return row;
  }
  StringRef value = option.ValueStr;
  bool isRequired = option.getValueExpectedFlag() == cl::ValueRequired;
  bool isList = option.getNumOccurrencesFlag() == cl::ZeroOrMore && option.getValueExpectedFlag() == cl::ValueOptional;
  if (value.contains('|'))
    row.value = value.str();
  else if (!value.empty() && !value.contains(' ')) // no sentence, such as <a comma-separated list>
    row.value = value.upper();
  else
    row.value = isRequired ? "VALUE" : isList ? "[VALUE]" : "";
  row.help = option.HelpStr.str();
  row.isRare = option.getOptionHiddenFlag() != cl::NotHidden;
  return row;
}

std::vector<options::Option> AnswerOptions::describeAll(const RegisteredOptions &own) {
  std::vector<options::Option> rows;
  for (const auto &[name, option] : own) {
    options::Option row = describeOption(name, *option);
    row.isRare |= option->ArgStr != name; // a pass
    rows.push_back(std::move(row));
  }
  rows.push_back({"--help", "", "Print the options"});
  rows.push_back({"--version", "", "Print the version"});
  return rows;
}

AnswerOptions::AnswerOptions(options::Tool tool, cl::OptionCategory &category, Describe describe)
    : tool(std::move(tool)), describe(std::move(describe)), before(sortRegisteredOptions()),
      completion("completion", cl::cat(category), cl::value_desc("bash|zsh"),
                 cl::desc("Print what completes this command line, for the shell to source"),
                 cl::callback([this](const std::string &shell) { answer("--completion=" + shell); })),
      manual("manual", cl::ReallyHidden, cl::callback([this](const bool &) { answer("--manual"); })),
      markdown("options-markdown", cl::ReallyHidden,
               cl::callback([this](const bool &) { answer("--options-markdown"); })) {}

void AnswerOptions::answer(const std::string &word) {
  RegisteredOptions own = sortRegisteredOptions();
  for (const auto &[name, option] : before)
    own.erase(name);
  for (cl::Option *option : {static_cast<cl::Option *>(&manual), static_cast<cl::Option *>(&markdown)})
    own.erase(option->ArgStr.str());
  tool.options = describe(own);
  const char *words[] = {tool.name.c_str(), word.c_str()};
  std::exit(options::printAnswer(tool, 2, words).value_or(EXIT_FAILURE));
}
