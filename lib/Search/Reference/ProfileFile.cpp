//===- ProfileFile.cpp - A measurement file of the reference --------------===//

#include "ProfileFile.h"

#include "galvatron/Support/Json.h"
#include "lib/Search/Formats/JsonReader.h"

#include <charconv>
#include <cmath>

namespace galvatron::search {

std::string shortNumber(double value) {
  char text[32];
  auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return std::string(text, end);
}

Result<double> ProfileFile::value(const std::string &key, const Ordered &at, bool zeroAllowed) const {
  if (!at.is_number() || !std::isfinite(at.get<double>()))
    return Error{"'" + path + "' key '" + key + "' expects a number, but got " + at.dump()};
  double value = at.get<double>();
  if (value < 0 || (value == 0 && !zeroAllowed))
    return Error{"'" + path + "' key '" + key + "' expects a number above 0, but got " + shortNumber(value) +
                 "; measure it again"};
  return value;
}

Result<ProfileFile> readProfileFile(const std::string &path, const char *remedy) {
  Result<std::string> text = readFile(path);
  if (!text)
    return Error{text.error().message + "; " + remedy + ", or name the file in profiling_info"};
  std::string error;
  std::optional<Ordered> json = parseOrderedJson(*text, "'" + path + "'", error);
  if (!json)
    return Error{error};
  if (!json->is_object())
    return Error{"'" + path + "' expects one JSON object, but holds " + describeJson(*json)};
  ProfileFile file{path, std::move(*json)};
  return file;
}

std::optional<int> takeInteger(std::string_view &text) {
  int value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || value < 0)
    return std::nullopt;
  text.remove_prefix(end - text.data());
  return value;
}

bool takePrefix(std::string_view &text, std::string_view prefix) {
  if (!text.starts_with(prefix))
    return false;
  text.remove_prefix(prefix.size());
  return true;
}

} // namespace galvatron::search
