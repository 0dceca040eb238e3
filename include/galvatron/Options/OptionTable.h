// What a tool's command line takes, written once: its --help, its page of the manual, its chapter of docs/options.md
// and its completion in shells are made of this table. Nothing here knows MLIR, so that the runtime has it, too.
#ifndef GALVATRON_OPTIONS_OPTIONTABLE_H
#define GALVATRON_OPTIONS_OPTIONTABLE_H

#include <optional>
#include <string>
#include <vector>

namespace galvatron::options {

/// A row: an option; or, without flags, the heading of those that follow, which is `help`.
struct Option {
  std::string flags; ///< all its spellings: "--seq", or "-o, --output"
  /// What stands after it: empty for a switch; "N", "FILE"; in small letters, with bars between them, the words that
  /// are all it takes, as "cpu|cuda"; in brackets, as "[FILE]", what may be left out and is given with an equals sign
  /// alone.
  std::string value;
  std::string help;
  bool isRare = false; ///< offered by completion where no other fits, and shown nowhere
};

/// A tool, or a program that the compiler makes.
struct Tool {
  std::string name;    ///< of its page
  std::string summary; ///< what it does, without its name, one line
  std::string usage;   ///< command lines, one a line
  std::string text;    ///< paragraphs before the options, an empty line between them
  std::vector<Option> options;
  std::string ending = {};  ///< paragraphs after them
  std::string command = {}; ///< as a shell knows it, where that is not its name
};

/// "-o" and "--output" of "-o, --output".
std::vector<std::string> spellings(const Option &option);

/// cpu and cuda of "cpu|cuda"; empty: it takes more than a few words.
std::vector<std::string> choices(const Option &option);

/// The row with this spelling, as "--seq", or null.
const Option *findOption(const std::vector<Option> &options, const std::string &flag);

/// What --help prints, at most 100 columns wide but for words that are longer.
std::string helpText(const Tool &tool);

/// The page of the manual, in mdoc, section 1.
std::string manualPage(const Tool &tool);

/// A chapter of docs/options.md.
std::string markdownText(const Tool &tool);

/// A script that completes the tool's options, the words that they take, and files; `shell`: bash or zsh.
std::string completionScript(const Tool &tool, const std::string &shell);

/// What a command line that asks for a completion, the page of the manual (--manual) or the chapter
/// (--options-markdown) is answered with.
struct Answer {
  std::string text, error; ///< one of both
};

/// Nothing: it asks for none of them.
std::optional<Answer> answer(const Tool &tool, int argc, const char *const *argv);

/// The same, printed, errors to standard error behind the tool's name: the exit status.
std::optional<int> printAnswer(const Tool &tool, int argc, const char *const *argv);

/// The row of --completion, which every table has.
Option completionOption();

} // namespace galvatron::options

#endif // GALVATRON_OPTIONS_OPTIONTABLE_H
