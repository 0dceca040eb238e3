// Files that others named or wrote: what is read of them is bounded, what they are called stays in one folder, and an
// output replaces nothing but a regular file.
#ifndef GALVATRON_SUPPORT_FILES_H
#define GALVATRON_SUPPORT_FILES_H

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace galvatron {

/// Of plans, clusters, profiles, timetables: texts of some megabytes. /dev/zero has more.
inline constexpr int64_t kMaxTextBytes = 256 << 20;

/// The whole file, or nothing and in `error` a sentence that names it. It may be a pipe ("<(command)"). `kind` stands
/// before the name: "the plan ".
std::optional<std::string> readTextFile(const std::string &path, std::string &error, int64_t maxBytes = kMaxTextBytes,
                                        std::string_view kind = "");

/// Why `name` is no name of a file beside the one that says it, or nothing: it is empty, has a slash, a control
/// character or bytes that are no UTF-8, is longer than a file system takes, or begins with a dot.
std::string whyNoBaseName(std::string_view name);

/// Whether all of it is UTF-8, without surrogates and overlong forms.
bool isUtf8(std::string_view text);

/// Writes `text` to `path`. A regular file, or a new one, appears complete or not at all: what a link leads to is
/// replaced, not the link. What is neither, a pipe or a device, is written to and stays. On failure false, with a
/// sentence in `error` that names the path, and nothing is left behind.
bool writeOutputFile(const std::string &path, std::string_view text, std::string &error);

/// Likewise to standard output.
bool writeStandardOutput(std::string_view text, std::string &error);

/// Whether all that was printed with stdio has arrived; else a sentence in `error`. Once, before the exit.
bool finishStandardOutput(std::string &error);

} // namespace galvatron

#endif // GALVATRON_SUPPORT_FILES_H
