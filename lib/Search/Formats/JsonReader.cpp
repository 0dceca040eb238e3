//===- JsonReader.cpp - Strict reading of JSON objects --------------------===//
//
// nlohmann/json throws; nothing of that leaves this file.
//
//===----------------------------------------------------------------------===//

#include "JsonReader.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

namespace galvatron::search {

namespace {
/// Beyond anything that is read here; what is far deeper would exhaust the stack where it is printed.
constexpr int kMostNested = 100;

bool nestsTooDeep(std::string_view text) {
  int depth = 0;
  bool inString = false;
  for (std::size_t at = 0; at < text.size() && depth <= kMostNested; ++at) {
    char c = text[at];
    if (inString && c == '\\')
      ++at;
    else if (c == '"')
      inString = !inString;
    else if (!inString)
      depth += (c == '[' || c == '{') - (c == ']' || c == '}');
  }
  return depth > kMostNested;
}
} // namespace

Result<Json> parseJson(std::string_view text, std::string_view what) {
  if (text.find('\0') != std::string_view::npos)
    return Error{std::string(what) + " is not valid JSON: it has a zero byte, which no text has; is it UTF-8?"};
  if (nestsTooDeep(text))
    return Error{std::string(what) + " nests lists and objects more than " + std::to_string(kMostNested) + " deep"};
  // Keys of every open object, to refuse duplicates: the later one would win.
  std::vector<std::set<std::string>> open;
  std::string duplicate;
  auto watch = [&](int, Json::parse_event_t event, Json &parsed) {
    if (event == Json::parse_event_t::object_start)
      open.emplace_back();
    else if (event == Json::parse_event_t::object_end)
      open.pop_back();
    else if (event == Json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second &&
             duplicate.empty())
      duplicate = parsed.get<std::string>();
    return true;
  };
  try {
    Json value = Json::parse(text.begin(), text.end(), watch);
    if (!duplicate.empty())
      return Error{std::string(what) + ": key '" + duplicate + "' occurs twice; keep one"};
    return value;
  } catch (const Json::exception &exception) {
    std::string reason = exception.what();
    if (auto at = reason.find("] "); at != std::string::npos)
      reason = reason.substr(at + 2);
    return Error{std::string(what) + " is not valid JSON: " + reason};
  }
}

Result<std::string> readFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return Error{"cannot read '" + path + "': " + std::strerror(errno)};
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad() || text.fail())
    return Error{"cannot read '" + path + "': it is not a readable file, or empty"};
  return text.str();
}

std::string describeJson(const Json &value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 40)
    text = text.substr(0, 37) + "...";
  if (value.is_string())
    return "the string " + text;
  if (value.is_object())
    return "an object";
  if (value.is_array())
    return "a list of " + std::to_string(value.size());
  return text;
}

JsonReader::JsonReader(const Json &value, std::string where) : value(value), where(std::move(where)) {
  if (!value.is_object())
    fail("expects an object, but got " + describeJson(value));
}

void JsonReader::fail(std::string message) {
  if (!complaint)
    complaint = Error{where + " " + std::move(message)};
}

const Json *JsonReader::find(const char *key, bool required) {
  seen.insert(key);
  if (!value.is_object())
    return nullptr;
  auto at = value.find(key);
  if (at != value.end())
    return &*at;
  if (required && !complaint)
    complaint = Error{where + " lacks the key '" + key + "'", key};
  return nullptr;
}

bool JsonReader::has(const char *key) { return find(key, false) != nullptr; }
const Json *JsonReader::member(const char *key) { return find(key, false); }

std::int64_t JsonReader::integer(const char *key, std::optional<std::int64_t> fallback, std::int64_t smallest,
                                 std::int64_t largest) {
  const Json *member = find(key, !fallback);
  if (!member)
    return fallback.value_or(smallest);
  bool huge = member->is_number_unsigned() &&
              member->get<std::uint64_t>() > std::uint64_t(std::numeric_limits<std::int64_t>::max());
  if (!huge && (!member->is_number_integer() || member->get<std::int64_t>() < smallest)) {
    fail(std::string("key '") + key + "' expects an integer of at least " + std::to_string(smallest) + ", but got " +
         describeJson(*member));
    return smallest;
  }
  if (huge || member->get<std::int64_t>() > largest) {
    fail(std::string("key '") + key + "' expects at most " + std::to_string(largest) + ", but got " +
         describeJson(*member));
    return largest;
  }
  return member->get<std::int64_t>();
}

bool JsonReader::toggle(const char *key, bool fallback) {
  const Json *member = find(key, false);
  if (!member)
    return fallback;
  if (member->is_boolean())
    return member->get<bool>();
  if (!member->is_number_integer() || (*member != 0 && *member != 1)) {
    fail(std::string("key '") + key + "' expects 0 or 1, but got " + describeJson(*member));
    return fallback;
  }
  return *member == 1;
}

double JsonReader::number(const char *key, std::optional<double> fallback) {
  const Json *member = find(key, !fallback);
  if (!member)
    return fallback.value_or(0);
  if (!member->is_number() || !std::isfinite(member->get<double>())) {
    fail(std::string("key '") + key + "' expects a number, but got " + describeJson(*member));
    return 0;
  }
  return member->get<double>();
}

double JsonReader::positive(const char *key, std::optional<double> fallback) {
  double result = number(key, fallback);
  if (!failed() && !(result > 0)) {
    const Json *member = find(key, false);
    fail(std::string("key '") + key + "' expects a number above 0, but got " +
         (member ? describeJson(*member) : "nothing"));
  }
  return result;
}

bool JsonReader::flag(const char *key, std::optional<bool> fallback) {
  const Json *member = find(key, !fallback);
  if (!member)
    return fallback.value_or(false);
  if (!member->is_boolean()) {
    fail(std::string("key '") + key + "' expects true or false, but got " + describeJson(*member));
    return false;
  }
  return member->get<bool>();
}

std::string JsonReader::text(const char *key, std::optional<std::string> fallback) {
  const Json *member = find(key, !fallback);
  if (!member)
    return fallback.value_or("");
  if (!member->is_string()) {
    fail(std::string("key '") + key + "' expects a string, but got " + describeJson(*member));
    return "";
  }
  return member->get<std::string>();
}

std::optional<Error> JsonReader::finish() {
  if (complaint || !value.is_object())
    return complaint;
  for (const auto &item : value.items()) {
    if (seen.count(item.key()))
      continue;
    std::string known;
    for (const std::string &key : seen)
      known += (known.empty() ? "" : ", ") + key;
    fail("has an unknown key '" + item.key() + "' with value " + describeJson(item.value()) + "; known keys are " +
         known);
    break;
  }
  return complaint;
}

} // namespace galvatron::search
