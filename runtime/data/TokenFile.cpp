//===- TokenFile.cpp - token ids behind one another in a file -------------------------------===//
#include "runtime/data/TokenFile.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace galvatron {

constexpr int64_t kChunkTokens = 1 << 16;

static int64_t decode(const unsigned char *bytes, int64_t width) {
  int64_t value = 0;
  for (int64_t i = width; i-- > 0;)
    value = value << 8 | bytes[i];
  return value;
}

Status TokenFile::open(const std::string &path, const std::string &dtype, int64_t vocabulary, TokenFile &file) {
  file.path = path;
  file.dtype = !dtype.empty() ? dtype : vocabulary <= 1 << 8 ? "u8" : vocabulary <= 1 << 16 ? "u16" : "u32";
  file.width = file.dtype == "u8" ? 1 : file.dtype == "u16" ? 2 : 4;
  file.vocabulary = vocabulary;
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (descriptor < 0 || fstat(descriptor, &info) != 0)
    return Status::error("cannot open ", path, ": ", std::strerror(errno));
  file.descriptor = std::shared_ptr<int>(new int(descriptor), [](int *p) {
    ::close(*p);
    delete p;
  });
  if (!S_ISREG(info.st_mode))
    return Status::error(path, " is not a file of tokens");
  if (info.st_size % file.width != 0)
    return Status::error(path, " has ", (int64_t)info.st_size, " bytes, which is no whole number of ", file.dtype,
                         " tokens; pass its type with --data-dtype");
  file.tokens = info.st_size / file.width;
  return Status::success();
}

Status TokenFile::read(int64_t first, int64_t count, int64_t *out) const {
  std::vector<unsigned char> buffer(std::min(count, kChunkTokens) * width);
  for (int64_t done = 0; done < count;) {
    int64_t now = std::min(kChunkTokens, count - done);
    for (int64_t got = 0; got < now * width;) {
      ssize_t bytes = pread(*descriptor, buffer.data() + got, now * width - got, (first + done) * width + got);
      if (bytes < 0 && errno == EINTR)
        continue;
      if (bytes <= 0)
        return Status::error("cannot read ", path, ": ", bytes ? std::strerror(errno) : "it became shorter");
      got += bytes;
    }
    for (int64_t i = 0; i < now; ++i) {
      int64_t token = decode(&buffer[i * width], width);
      if (token >= vocabulary)
        return Status::error(path, ": token ", first + done + i, " is ", token, ", outside the vocabulary of ",
                             vocabulary, " (tokens count from 0, read as ", dtype,
                             "); pass the file's type with --data-dtype, or another file");
      if (out)
        out[done + i] = token;
    }
    done += now;
  }
  return Status::success();
}

Status TokenFile::check(int64_t first, int64_t count) const {
  if (vocabulary >= int64_t(1) << (8 * width))
    return Status::success(); // no token can be outside
  return read(first, count, nullptr);
}

} // namespace galvatron
