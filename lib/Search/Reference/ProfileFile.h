//===- ProfileFile.h - A measurement file of the reference ------*- C++ -*-===//
//
// Strict reading of what Hetu-Galvatron's profilers write: numbers that must be
// there and above 0, keys put together from words and integers. Entries keep
// the order of the file, because mode "static" takes the first.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_PROFILEFILE_H
#define GALVATRON_SEARCH_REFERENCE_PROFILEFILE_H

#include "galvatron/Search/Model/Result.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace galvatron::search {

using Ordered = nlohmann::ordered_json;

/// What to run for a file that is missing or wrong.
inline constexpr const char *kProfileHardware = "run the hardware profiler on this cluster";
inline constexpr const char *kProfileModel = "run the model profiler";

struct ProfileFile {
  std::string path;
  Ordered json;
  /// The finite number `at`, which is above 0 unless `zeroAllowed`; `key` names
  /// it in messages.
  Result<double> value(const std::string &key, const Ordered &at, bool zeroAllowed = false) const;
};

/// Reads a file of one object. `remedy`: what makes the file.
Result<ProfileFile> readProfileFile(const std::string &path, const char *remedy);

/// A number as short as it can be read back.
std::string shortNumber(double value);

/// Takes a number of at least 0 off the front of `text`.
std::optional<int> takeInteger(std::string_view &text);

/// Takes `prefix` off the front of `text`, if it is there.
bool takePrefix(std::string_view &text, std::string_view prefix);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_PROFILEFILE_H
