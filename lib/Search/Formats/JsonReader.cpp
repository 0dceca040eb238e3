//===- JsonReader.cpp - Strict reading of JSON objects --------------------===//
//
// Support/Json.h parses within bounds; what of it is read is decided here.
//
//===----------------------------------------------------------------------===//

#include "JsonReader.h"

#include "galvatron/Support/Files.h"
#include "galvatron/Support/Json.h"

#include <cmath>

namespace galvatron::search {

Result<Json> parseJson(std::string_view text, std::string_view what) {
  std::string error;
  std::optional<Json> value = galvatron::parseJson(text, std::string(what), error);
  return value ? Result<Json>(std::move(*value)) : Error{error};
}

Result<std::string> readFile(const std::string &path) {
  std::string error;
  std::optional<std::string> text = readTextFile(path, error);
  return text ? Result<std::string>(std::move(*text)) : Error{error};
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
