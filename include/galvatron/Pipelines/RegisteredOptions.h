// The command line of a tool whose options LLVM's registry has, as a table (Options/OptionTable.h).
#ifndef GALVATRON_PIPELINES_REGISTEREDOPTIONS_H
#define GALVATRON_PIPELINES_REGISTEREDOPTIONS_H

#include "galvatron/Options/OptionTable.h"

#include "mlir/Support/LLVM.h"
#include "llvm/Support/CommandLine.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace galvatron {

/// What is registered, by name; a pass has one under its own.
using RegisteredOptions = std::map<std::string, llvm::cl::Option *>;

/// As of now.
RegisteredOptions sortRegisteredOptions();

/// The row of an option, or of a pass or pipeline where `name` is one's.
options::Option describeOption(mlir::StringRef name, const llvm::cl::Option &option);

/// --completion, and, hidden, what pages are made with (--manual, --options-markdown). Parsing one prints its answer
/// and ends the program, as LLVM's --help does; so each tells of the options that are registered then.
class AnswerOptions {
public:
  /// Rows of the table, from what is registered when it is asked for and was not when this was made, by name.
  using Describe = std::function<std::vector<options::Option>(const RegisteredOptions &own)>;

  /// `tool`: all but the rows.
  AnswerOptions(options::Tool tool, llvm::cl::OptionCategory &category, Describe describe = describeAll);

  /// One row each, those of passes rare; then --help and --version.
  static std::vector<options::Option> describeAll(const RegisteredOptions &own);

private:
  [[noreturn]] void answer(const std::string &word);

  options::Tool tool;
  Describe describe;
  RegisteredOptions before; ///< LLVM's own
  llvm::cl::opt<std::string> completion;
  llvm::cl::opt<bool> manual, markdown;
};

} // namespace galvatron

#endif // GALVATRON_PIPELINES_REGISTEREDOPTIONS_H
