// POSIX calls by hand: streams of the standard library do not say why they failed.
#include "galvatron/Support/Files.h"

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace galvatron {

namespace {
/// Of file systems in use.
constexpr std::size_t kMaxNameBytes = 255;

std::string describeErrno() { return std::strerror(errno); }

bool writeFully(int file, std::string_view text) {
  while (!text.empty()) {
    ssize_t count = ::write(file, text.data(), text.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return false;
    text.remove_prefix(count);
  }
  return true;
}

/// Where a chain of links ends, whether or not something stands there; nothing for a loop.
std::optional<std::string> followLinks(std::string path) {
  for (int links = 0; links < 40; ++links) {
    char target[PATH_MAX];
    ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    if (length < 0)
      return path;
    std::string next(target, length);
    std::size_t slash = path.rfind('/');
    path = next.starts_with('/') || slash == std::string::npos ? next : path.substr(0, slash + 1) + next;
  }
  errno = ELOOP;
  return std::nullopt;
}

/// A new file beside `path`, with the rights that a file has where nothing is said, or those of the one it replaces.
bool replace(const std::string &path, std::string_view text, const struct stat *old) {
  std::string temporary = path + ".partial.XXXXXX";
  int file = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (file < 0)
    return false;
  mode_t mask = ::umask(0);
  ::umask(mask);
  bool good = writeFully(file, text) && ::fchmod(file, old ? old->st_mode & 07777 : 0666 & ~mask) == 0;
  good &= ::close(file) == 0;
  if (good && ::rename(temporary.c_str(), path.c_str()) == 0)
    return true;
  int reason = errno;
  ::unlink(temporary.c_str());
  errno = reason;
  return false;
}

bool writeThrough(const std::string &path, std::string_view text) {
  int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (file < 0)
    return false;
  bool good = writeFully(file, text);
  int reason = errno;
  good &= ::close(file) == 0;
  if (!good && reason)
    errno = reason;
  return good;
}
} // namespace

std::optional<std::string> readTextFile(const std::string &path, std::string &error, int64_t maxBytes,
                                        std::string_view kind) {
  std::string cannotRead = "cannot read " + std::string(kind) + "'" + path + "'";
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (file < 0) {
    error = cannotRead + ": " + describeErrno();
    return std::nullopt;
  }
  std::string text;
  ssize_t count = 0;
  constexpr std::size_t kStep = 1 << 16;
  do {
    std::size_t size = text.size();
    text.resize(size + kStep);
    while ((count = ::read(file, text.data() + size, kStep)) < 0 && errno == EINTR)
      ;
    text.resize(size + (count > 0 ? count : 0));
  } while (count > 0 && int64_t(text.size()) <= maxBytes);
  bool good = false;
  if (count < 0)
    error = cannotRead + ": " + describeErrno();
  else if (int64_t(text.size()) > maxBytes)
    error = cannotRead + ": it has more than " + std::to_string(maxBytes >> 20) + " MiB, which no such text has";
  else if (text.empty())
    error = cannotRead + ": it is not a readable file, or empty";
  else
    good = true;
  ::close(file);
  return good ? std::optional(std::move(text)) : std::nullopt;
}

bool isUtf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    auto first = static_cast<unsigned char>(text[at++]);
    if (first < 0x80)
      continue;
    int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    uint32_t code = first & (0x3F >> more);
    if (first < 0xC2 || first > 0xF4 || at + more > text.size())
      return false;
    for (int i = 0; i < more; ++i, ++at) {
      if ((text[at] & 0xC0) != 0x80)
        return false;
      code = code << 6 | (text[at] & 0x3F);
    }
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (code < kLeast[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
      return false;
  }
  return true;
}

std::string whyNoBaseName(std::string_view name) {
  if (name.empty())
    return "is empty";
  if (name.find('/') != std::string_view::npos)
    return "names a folder";
  if (name.starts_with('.'))
    return "begins with a dot";
  if (name.size() > kMaxNameBytes)
    return "has more than " + std::to_string(kMaxNameBytes) + " bytes";
  if (!isUtf8(name))
    return "is not UTF-8";
  for (unsigned char c : name)
    if (c < 0x20 || c == 0x7F)
      return "has a control character";
  return "";
}

bool writeOutputFile(const std::string &path, std::string_view text, std::string &error) {
  errno = 0;
  std::optional<std::string> end = followLinks(path);
  struct stat there;
  bool isThere = end && ::stat(end->c_str(), &there) == 0;
  bool good = end && (isThere || errno == ENOENT);
  if (good && isThere && S_ISDIR(there.st_mode))
    errno = EISDIR, good = false;
  // A file that may not be written is not replaced either, even where its folder would allow that.
  if (good && isThere)
    good = ::access(end->c_str(), W_OK) == 0;
  if (good)
    good = !isThere || S_ISREG(there.st_mode) ? replace(*end, text, isThere ? &there : nullptr)
                                              : writeThrough(*end, text);
  if (!good)
    error = "cannot write '" + path + "': " + describeErrno();
  return good;
}

bool writeStandardOutput(std::string_view text, std::string &error) {
  if (writeFully(STDOUT_FILENO, text))
    return true;
  error = "cannot write to standard output: " + describeErrno();
  return false;
}

bool finishStandardOutput(std::string &error) {
  errno = 0;
  if (std::fflush(stdout) == 0 && !std::ferror(stdout))
    return true;
  error = "cannot write to standard output: " + (errno ? describeErrno() : "not all of it could be written");
  return false;
}

} // namespace galvatron
