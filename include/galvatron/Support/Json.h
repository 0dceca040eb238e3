// JSON of files that anyone may have written, read within bounds. Every reader of this tree, the compiler's and the
// runtime's, goes through here (test/Conventions): what recurses over a value later, printing and comparing, is then
// bounded too.
#ifndef GALVATRON_SUPPORT_JSON_H
#define GALVATRON_SUPPORT_JSON_H

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace galvatron {

/// What a text may ask of memory and stack. A value takes up to some 150 bytes, so the default ends near 2 GB.
struct JsonLimits {
  /// Lists and objects in one another; plans have 6.
  int depth = 100;
  /// Values, keys not counted. The timetable of a program with 100,000 entries has a million.
  int64_t values = 16'000'000;
};

/// Why the brackets of `text` nest or number beyond the limits, or nothing; looks at no value.
std::string findExcess(std::string_view text, const JsonLimits &limits = {});

/// The document, or nothing and a sentence in `error` that begins with `what`, the file or its kind: beyond the limits,
/// not valid JSON (with line and column), not UTF-8, or with a key that stands twice in an object.
std::optional<nlohmann::json> parseJson(std::string_view text, const std::string &what, std::string &error,
                                        const JsonLimits &limits = {});
/// Likewise, with keys in the order of the text.
std::optional<nlohmann::ordered_json> parseOrderedJson(std::string_view text, const std::string &what,
                                                       std::string &error, const JsonLimits &limits = {});
/// Likewise of a file, of at most kMaxTextBytes.
std::optional<nlohmann::json> readJsonFile(const std::string &path, std::string &error);

/// Text that this program, or another rank of it, has just dumped.
nlohmann::json parseOwnJson(const std::string &text);
nlohmann::ordered_json parseOwnOrderedJson(const std::string &text);

} // namespace galvatron

#endif // GALVATRON_SUPPORT_JSON_H
