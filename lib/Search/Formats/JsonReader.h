//===- JsonReader.h - Strict reading of JSON objects ------------*- C++ -*-===//
//
// Private to lib/Search. Reads members of an object by name and type and
// collects the first complaint, so that readers are straight lines. A member
// that nobody asked for is an error at `finish`: a misspelt key must not
// silently mean its default.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_JSONREADER_H
#define GALVATRON_SEARCH_FORMATS_JSONREADER_H

#include "galvatron/Search/Model/Result.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace galvatron::search {

using Json = nlohmann::json;

/// The document, or an error with line and column. Duplicate keys are errors.
Result<Json> parseJson(std::string_view text, std::string_view what);

/// The text of a file, or an error that names it and the reason.
Result<std::string> readFile(const std::string &path);

/// Degrees, ranks, stages and batches of more are a slip of the pen.
inline constexpr std::int64_t kMostOfAnything = 1 << 24;

class JsonReader {
public:
  /// `where` begins every message: "cluster", "plan layer 3 strategy".
  JsonReader(const Json &value, std::string where);

  bool has(const char *key);
  /// Values; a missing member gives `fallback`, or an error without one.
  std::int64_t integer(const char *key, std::optional<std::int64_t> fallback = {}, std::int64_t smallest = 0,
                       std::int64_t largest = std::numeric_limits<std::int64_t>::max());
  /// 0 or 1, false or true.
  bool toggle(const char *key, bool fallback);
  double number(const char *key, std::optional<double> fallback = {});
  /// A number that must be greater than 0.
  double positive(const char *key, std::optional<double> fallback = {});
  bool flag(const char *key, std::optional<bool> fallback = {});
  std::string text(const char *key, std::optional<std::string> fallback = {});
  /// The member itself, or null when absent.
  const Json *member(const char *key);

  void fail(std::string message);
  bool failed() const { return complaint.has_value(); }
  /// Complains about members nobody read; then the first complaint, if any.
  std::optional<Error> finish();

private:
  const Json *find(const char *key, bool required);
  const Json &value;
  std::string where;
  std::set<std::string> seen;
  std::optional<Error> complaint;
};

/// What a JSON value is, for messages: "a string (\"x\")", "a list".
std::string describeJson(const Json &value);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_JSONREADER_H
