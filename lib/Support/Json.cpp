// The parser of nlohmann/json keeps its own stack, so only its time and memory need a bound; what is done with its
// values recurses. Both are bounded before it sees the text.
#include "galvatron/Support/Json.h"
#include "galvatron/Support/Files.h"

#include <set>
#include <vector>

namespace galvatron {

std::string findExcess(std::string_view text, const JsonLimits &limits) {
  int depth = 0;
  int64_t values = 1;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (c == '"') {
      for (++at; at < text.size() && text[at] != '"'; ++at)
        at += text[at] == '\\';
      continue;
    }
    depth += (c == '[' || c == '{') - (c == ']' || c == '}');
    values += c == ',' || c == '[' || c == '{';
    if (depth > limits.depth)
      return "nests lists and objects more than " + std::to_string(limits.depth) + " deep";
    if (values > limits.values)
      return "has more than " + std::to_string(limits.values) + " values";
  }
  return "";
}

template <typename Value>
static std::optional<Value> parse(std::string_view text, const std::string &what, std::string &error,
                                  const JsonLimits &limits) {
  if (text.find('\0') != std::string_view::npos) {
    error = what + " is not valid JSON: it has a zero byte, which no text has; is it UTF-8?";
    return std::nullopt;
  }
  if (std::string excess = findExcess(text, limits); !excess.empty()) {
    error = what + " " + excess;
    return std::nullopt;
  }
  // Keys of every open object, to refuse duplicates: the later one would win.
  std::vector<std::set<std::string>> open;
  std::optional<std::string> duplicate;
  auto watch = [&](int, typename Value::parse_event_t event, Value &parsed) {
    if (event == Value::parse_event_t::object_start)
      open.emplace_back();
    else if (event == Value::parse_event_t::object_end)
      open.pop_back();
    else if (event == Value::parse_event_t::key && !open.back().insert(parsed.template get<std::string>()).second &&
             !duplicate)
      duplicate = parsed.template get<std::string>();
    return true;
  };
  try {
    Value value = Value::parse(text.begin(), text.end(), watch);
    if (!duplicate)
      return value;
    error = what + ": key '" + *duplicate + "' occurs twice; keep one";
  } catch (const nlohmann::json::exception &exception) {
    std::string reason = exception.what();
    if (auto at = reason.find("] "); at != std::string::npos)
      reason = reason.substr(at + 2);
    error = what + " is not valid JSON: " + reason;
  }
  return std::nullopt;
}

std::optional<nlohmann::json> parseJson(std::string_view text, const std::string &what, std::string &error,
                                        const JsonLimits &limits) {
  return parse<nlohmann::json>(text, what, error, limits);
}

std::optional<nlohmann::ordered_json> parseOrderedJson(std::string_view text, const std::string &what,
                                                       std::string &error, const JsonLimits &limits) {
  return parse<nlohmann::ordered_json>(text, what, error, limits);
}

std::optional<nlohmann::json> readJsonFile(const std::string &path, std::string &error) {
  std::optional<std::string> text = readTextFile(path, error);
  return text ? parseJson(*text, path, error) : std::nullopt;
}

nlohmann::json parseOwnJson(const std::string &text) { return nlohmann::json::parse(text); }
nlohmann::ordered_json parseOwnOrderedJson(const std::string &text) { return nlohmann::ordered_json::parse(text); }

} // namespace galvatron
