// The table itself, as --help and as a chapter of docs/options.md, and who asks for what.
#include "galvatron/Options/OptionTable.h"

#include "TextLines.h"

#include <algorithm>
#include <cctype>
#include <cstdio>

namespace galvatron::options {

static std::vector<std::string> split(const std::string &text, const std::string &separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0, end; begin <= text.size(); begin = end + separator.size()) {
    end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
  }
  return parts;
}

std::vector<std::string> spellings(const Option &option) {
  return option.flags.empty() ? std::vector<std::string>() : split(option.flags, ", ");
}

std::vector<std::string> choices(const Option &option) {
  // FILE|DIR says what kinds of values there are, not which; "[FILE]" what may be left out.
  bool isWords = !option.value.empty() && std::islower(static_cast<unsigned char>(option.value.front()));
  return isWords || option.value == "0|1" ? split(option.value, "|") : std::vector<std::string>();
}

const Option *findOption(const std::vector<Option> &options, const std::string &flag) {
  for (const Option &option : options)
    for (const std::string &spelling : spellings(option))
      if (spelling == flag)
        return &option;
  return nullptr;
}

/// "-o, --output FILE", "--simulate[=FILE]"
static std::string spellWithValue(const Option &option) {
  if (option.value.empty())
    return option.flags;
  return option.value.front() == '[' ? option.flags + "[=" + option.value.substr(1) : option.flags + " " + option.value;
}

std::string helpText(const Tool &tool) {
  constexpr std::size_t kWidth = 100, kMostOfFlags = 24;
  std::string text = tool.name + ": " + tool.summary + "\n\n";
  for (const std::string &line : lines(tool.usage))
    text += "  " + line + "\n";
  for (const std::string &paragraph : paragraphs(tool.text))
    text += "\n" + wrap(paragraph, kWidth);
  std::size_t column = 0;
  for (const Option &option : tool.options)
    if (std::size_t size = spellWithValue(option).size(); !option.isRare && size <= kMostOfFlags)
      column = std::max(column, size + 4);
  if (!tool.options.empty() && !tool.options.front().flags.empty())
    text += "\n";
  for (const Option &option : tool.options) {
    if (option.isRare)
      continue;
    if (option.flags.empty()) {
      text += "\n" + option.help + "\n";
      continue;
    }
    std::string left = "  " + spellWithValue(option);
    left += left.size() + 2 > column ? "\n" + std::string(column, ' ') : std::string(column - left.size(), ' ');
    text += left + wrap(option.help, kWidth - column, std::string(column, ' '));
  }
  for (const std::string &paragraph : paragraphs(tool.ending))
    text += "\n" + wrap(paragraph, kWidth);
  return text;
}

/// Text in which Markdown reads nothing of its own.
static std::string escapeMarkdown(const std::string &text) {
  std::string escaped;
  for (char c : text) {
    if (std::string("\\`*_<>|[]").find(c) != std::string::npos)
      escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// Code in a cell of a table.
static std::string codeCell(const std::string &text) {
  std::string cell = "`";
  for (char c : text)
    cell += c == '|' ? std::string("\\|") : std::string(1, c);
  return cell + "`";
}

std::string markdownText(const Tool &tool) {
  std::string text = "## " + tool.name + "\n\n" + escapeMarkdown(tool.name + ": " + tool.summary) + ".\n\n```\n";
  for (const std::string &line : lines(tool.usage))
    text += line + "\n";
  text += "```\n";
  bool isInTable = false;
  for (const Option &option : tool.options) {
    if (option.isRare)
      continue;
    if (option.flags.empty()) {
      text += "\n**" + escapeMarkdown(option.help) + "**\n";
      isInTable = false;
      continue;
    }
    if (!isInTable)
      text += "\n| option | |\n| --- | --- |\n";
    isInTable = true;
    text += "| " + codeCell(spellWithValue(option)) + " | " + escapeMarkdown(option.help) + " |\n";
  }
  return text;
}

Option completionOption() {
  return {"--completion", "bash|zsh", "print what completes this command line, for the shell to source"};
}

std::optional<Answer> answer(const Tool &tool, int argc, const char *const *argv) {
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (word == "--")
      break;
    if (word == "--manual")
      return Answer{manualPage(tool), ""};
    if (word == "--options-markdown")
      return Answer{markdownText(tool), ""};
    if (word != "--completion" && !word.starts_with("--completion="))
      continue;
    std::string shell = word == "--completion" ? i + 1 < argc ? argv[i + 1] : "" : word.substr(word.find('=') + 1);
    if (shell == "bash" || shell == "zsh")
      return Answer{completionScript(tool, shell), ""};
    return Answer{"", "option --completion expects bash or zsh, but got '" + shell + "'"};
  }
  return std::nullopt;
}

std::optional<int> printAnswer(const Tool &tool, int argc, const char *const *argv) {
  std::optional<Answer> found = answer(tool, argc, argv);
  if (!found)
    return std::nullopt;
  if (!found->error.empty()) {
    std::fprintf(stderr, "%s: error: %s\n", tool.name.c_str(), found->error.c_str());
    return 1;
  }
  return std::fputs(found->text.c_str(), stdout) < 0 || std::fflush(stdout) ? 1 : 0;
}

} // namespace galvatron::options
