// Coarse on purpose: a bracket closes whatever is open, so that a text which is no program may count as too deep or not
// at all, while one that parses is never counted too low.
#include "galvatron/Support/Nesting.h"
#include "galvatron/Support/Files.h"

#include <algorithm>
#include <cctype>
#include <map>

namespace galvatron {
namespace {

bool isAliasCharacter(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$'; }

class Scanner {
public:
  explicit Scanner(std::string_view text) : text(text) {}

  std::string run() {
    for (; at < text.size() && deepest <= kMaxNesting; ++at)
      step();
    return deepest <= kMaxNesting ? ""
                                  : "line " + std::to_string(line) + " nests more than " + std::to_string(kMaxNesting) +
                                        " deep";
  }

private:
  char next(std::size_t ahead = 1) const { return at + ahead < text.size() ? text[at + ahead] : '\0'; }

  void step() {
    char c = text[at];
    if (c == '\n')
      ++line;
    if (std::isspace(static_cast<unsigned char>(c)))
      return;
    signs = c == '-' && next() != '>' ? signs + 1 : 0;
    note(depth + signs);
    if (c == '"')
      return skipString();
    if (c == '/' && next() == '/')
      return skipComment();
    if (c == '#' || c == '!')
      return readAlias();
    if (c == '-' && next() == '>')
      ++at; // an arrow closes nothing
    else if ((c == '<' || c == '>') && next() == '=')
      ++at; // nor does a comparison
    else if (std::string_view("[({<").find(c) != std::string_view::npos)
      note(++depth);
    else if (std::string_view("])}>").find(c) != std::string_view::npos)
      depth = std::max(depth - 1, 0);
  }

  void skipString() {
    for (++at; at < text.size() && text[at] != '"' && text[at] != '\n'; ++at)
      at += text[at] == '\\';
  }

  void skipComment() {
    while (next() != '\n' && at + 1 < text.size())
      ++at;
  }

  /// What is used nests as deep as it did where it was defined.
  void readAlias() {
    std::size_t begin = at;
    while (isAliasCharacter(next()))
      ++at;
    std::string_view name = text.substr(begin, at + 1 - begin);
    std::size_t after = text.find_first_not_of(" \t", at + 1);
    bool isDefined = depth == 0 && after != std::string_view::npos && text[after] == '=' &&
                     (after + 1 == text.size() || text[after + 1] != '=');
    if (isDefined) {
      defined = &depths[name];
      return;
    }
    if (auto known = depths.find(name); known != depths.end() && &known->second != defined)
      note(depth + 1 + known->second);
  }

  void note(int reached) {
    deepest = std::max(deepest, reached);
    if (defined)
      *defined = std::max(*defined, reached);
  }

  std::string_view text;
  std::size_t at = 0;
  int64_t line = 1;
  int depth = 0, signs = 0, deepest = 0;
  std::map<std::string_view, int> depths; // of aliases
  int *defined = nullptr;                 // of the last alias, to which what follows counts up to the next
};

} // namespace

std::optional<std::string> readProgram(const std::string &path, std::string &error) {
  std::optional<std::string> text = readTextFile(path == "-" ? "/dev/stdin" : path, error, kMaxProgramBytes);
  std::string deep = text ? findDeepNesting(*text) : "";
  if (deep.empty())
    return text;
  error = "cannot read '" + path + "': " + deep;
  return std::nullopt;
}

std::string findDeepNesting(std::string_view program) {
  if (program.starts_with("ML\xefR")) // MLIR's bytecode
    return "";
  return Scanner(program).run();
}

} // namespace galvatron
