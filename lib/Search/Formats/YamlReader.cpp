//===- YamlReader.cpp - The YAML that configurations use ------------------===//

#include "YamlReader.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <vector>

namespace galvatron::search {

namespace {
struct YamlLine {
  int number = 0, indent = 0;
  std::string text;
};

struct YamlFailure {
  int line;
  std::string message;
};

std::string trim(std::string_view text) {
  std::size_t first = text.find_first_not_of(" \t\r"), last = text.find_last_not_of(" \t\r");
  return first == std::string_view::npos ? "" : std::string(text.substr(first, last - first + 1));
}

/// Cuts a comment: '#' at the start or after a blank, outside of quotes.
std::string_view withoutComment(std::string_view text) {
  char quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quote)
      quote = c == quote ? 0 : quote;
    else if (c == '"' || c == '\'')
      quote = c;
    else if (c == '#' && (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t'))
      return text.substr(0, i);
  }
  return text;
}

/// Lines that carry something, with their indentation.
std::vector<YamlLine> splitLines(std::string_view text) {
  std::vector<YamlLine> lines;
  int number = 0;
  for (std::size_t begin = 0; begin <= text.size();) {
    std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view raw = withoutComment(text.substr(begin, end - begin));
    ++number;
    begin = end + 1;
    std::size_t indent = raw.find_first_not_of(' ');
    std::string content = trim(raw);
    if (content.empty() || (content == "---" && lines.empty()))
      continue;
    if (raw[indent] == '\t')
      throw YamlFailure{number, "is indented with a tab; use spaces"};
    lines.push_back({number, int(indent), content});
  }
  return lines;
}

/// The position of a mapping's ':' (followed by a blank or the end), outside
/// of quotes and brackets.
std::size_t findColon(std::string_view text) {
  char quote = 0;
  int depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (quote)
      quote = c == quote ? 0 : quote;
    else if (c == '"' || c == '\'')
      quote = c;
    else if (c == '[' || c == '{')
      ++depth;
    else if (c == ']' || c == '}')
      --depth;
    else if (c == ':' && !depth && (i + 1 == text.size() || text[i + 1] == ' '))
      return i;
  }
  return std::string_view::npos;
}

class YamlParser {
public:
  explicit YamlParser(std::vector<YamlLine> lines) : lines(std::move(lines)) {}

  Json document() {
    if (lines.empty())
      return Json::object();
    Json value = block(lines[0].indent);
    if (at < lines.size())
      throw YamlFailure{lines[at].number, "is indented differently from its neighbours"};
    return value;
  }

private:
  Json block(int indent) {
    bool list = lines[at].text == "-" || lines[at].text.starts_with("- ");
    return list ? blockList(indent) : blockMapping(indent);
  }

  Json blockList(int indent) {
    Json value = Json::array();
    while (at < lines.size() && lines[at].indent == indent &&
           (lines[at].text == "-" || lines[at].text.starts_with("- "))) {
      std::string rest = trim(std::string_view(lines[at].text).substr(1));
      if (rest.empty()) {
        ++at;
        value.push_back(nested(indent));
      } else if (findColon(rest) != std::string_view::npos && rest[0] != '{') {
        // "- key: value": a mapping that begins on this line.
        lines[at].indent = indent + 2;
        lines[at].text = rest;
        value.push_back(block(indent + 2));
      } else {
        value.push_back(scalar(rest, lines[at].number));
        ++at;
      }
    }
    return value;
  }

  Json blockMapping(int indent) {
    Json value = Json::object();
    while (at < lines.size() && lines[at].indent == indent) {
      const YamlLine line = lines[at];
      std::size_t colon = findColon(line.text);
      if (colon == std::string::npos)
        throw YamlFailure{line.number, "expects 'key: value', but got '" + line.text + "'"};
      Json key = scalar(trim(std::string_view(line.text).substr(0, colon)), line.number, true);
      std::string rest = trim(std::string_view(line.text).substr(colon + 1));
      if (value.contains(key.get<std::string>()))
        throw YamlFailure{line.number, "repeats the key '" + key.get<std::string>() + "'"};
      ++at;
      value[key.get<std::string>()] = rest.empty() ? nested(indent) : scalar(rest, line.number);
    }
    return value;
  }

  /// What stands deeper than `indent`, or null.
  Json nested(int indent) {
    if (at < lines.size() && lines[at].indent > indent)
      return block(lines[at].indent);
    // A list may stand at its key's own indentation.
    if (at < lines.size() && lines[at].indent == indent && lines[at].text.starts_with("- "))
      return blockList(indent);
    return nullptr;
  }

  static Json flow(std::string_view &text, int line) {
    auto skip = [&] {
      while (!text.empty() && text[0] == ' ')
        text.remove_prefix(1);
    };
    skip();
    if (text.empty())
      throw YamlFailure{line, "ends inside of a bracket"};
    char open = text[0];
    if (open != '[' && open != '{') {
      std::size_t end = 0;
      char quote = 0;
      for (; end < text.size(); ++end) {
        if (quote)
          quote = text[end] == quote ? 0 : quote;
        else if (text[end] == '"' || text[end] == '\'')
          quote = text[end];
        else if (text[end] == ',' || text[end] == ']' || text[end] == '}')
          break;
      }
      std::string piece = trim(text.substr(0, end));
      text.remove_prefix(end);
      return scalar(piece, line);
    }
    text.remove_prefix(1);
    Json value = open == '[' ? Json::array() : Json::object();
    char close = open == '[' ? ']' : '}';
    for (skip(); !text.empty() && text[0] != close; skip()) {
      if (open == '{') {
        std::size_t colon = findColon(text);
        if (colon == std::string_view::npos)
          throw YamlFailure{line, "expects 'key: value' inside of braces"};
        Json key = scalar(trim(text.substr(0, colon)), line, true);
        text.remove_prefix(colon + 1);
        value[key.get<std::string>()] = flow(text, line);
      } else {
        value.push_back(flow(text, line));
      }
      skip();
      if (!text.empty() && text[0] == ',')
        text.remove_prefix(1);
      else if (!text.empty() && text[0] != close)
        throw YamlFailure{line, "expects ',' inside of a bracket"};
    }
    if (text.empty())
      throw YamlFailure{line, "lacks a closing bracket"};
    text.remove_prefix(1);
    return value;
  }

  static Json scalar(const std::string &text, int line, bool asText = false) {
    if (text.empty())
      return asText ? Json("") : Json(nullptr);
    char c = text[0];
    if (c == '"' || c == '\'') {
      if (text.size() < 2 || text.back() != c)
        throw YamlFailure{line, "has an unfinished quote"};
      return text.substr(1, text.size() - 2);
    }
    if (asText)
      return text;
    if (c == '[' || c == '{') {
      std::string_view rest = text;
      Json value = flow(rest, line);
      if (!trim(rest).empty())
        throw YamlFailure{line, "has text after a closing bracket"};
      return value;
    }
    if (c == '&' || c == '*' || c == '!' || c == '|' || c == '>')
      throw YamlFailure{line, "uses anchors, tags or block scalars, which are not supported "
                              "here; write the value out"};
    if (text == "null" || text == "~" || text == "Null" || text == "NULL" || text == "None")
      return nullptr;
    if (text == "true" || text == "True" || text == "TRUE")
      return true;
    if (text == "false" || text == "False" || text == "FALSE")
      return false;
    std::int64_t whole = 0;
    const char *begin = text.data() + (c == '+'), *end = text.data() + text.size();
    if (auto [stop, code] = std::from_chars(begin, end, whole); code == std::errc() && stop == end)
      return whole;
    double real = 0;
    if (auto [stop, code] = std::from_chars(begin, end, real);
        code == std::errc() && stop == end && std::isfinite(real))
      return real;
    return text;
  }

  std::vector<YamlLine> lines;
  std::size_t at = 0;
};
} // namespace

Result<Json> parseYaml(std::string_view text, std::string_view what) {
  try {
    return YamlParser(splitLines(text)).document();
  } catch (const YamlFailure &failure) {
    return Error{std::string(what) + " line " + std::to_string(failure.line) + " " + failure.message};
  }
}

} // namespace galvatron::search
