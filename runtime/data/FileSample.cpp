//===- FileSample.cpp - a few MiB of a file, spread over it ------------------------------------===//
#include "runtime/data/FileSample.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace galvatron {

constexpr int64_t kPieces = 64, kPieceBytes = 64 << 10, kAlignment = 64;

Status openFile(const std::string &path, OpenFile &file) {
  int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO would wait for who writes it
  if (descriptor >= 0)
    file.descriptor = std::shared_ptr<int>(new int(descriptor), [](int *p) {
      ::close(*p);
      delete p;
    });
  struct stat info;
  if (descriptor < 0 || fstat(descriptor, &info) != 0)
    return Status::error("cannot open ", path, ": ", std::strerror(errno));
  file.bytes = info.st_size;
  file.isRegular = S_ISREG(info.st_mode);
  return Status::success();
}

Status readBytes(int descriptor, const std::string &path, int64_t offset, int64_t count, unsigned char *out) {
  for (int64_t got = 0; got < count;) {
    ssize_t bytes = pread(descriptor, out + got, count - got, offset + got);
    if (bytes < 0 && errno == EINTR)
      continue;
    if (bytes <= 0)
      return Status::error("cannot read ", path, ": ", bytes ? std::strerror(errno) : "it became shorter");
    got += bytes;
  }
  return Status::success();
}

Status FileSample::read(int descriptor, const std::string &path, int64_t fileBytes, FileSample &sample) {
  sample = {path, fileBytes, {}};
  bool whole = fileBytes <= kPieces * kPieceBytes;
  for (int64_t i = 0; i < (whole ? 1 : kPieces); ++i) {
    int64_t begin = whole ? 0 : (fileBytes - kPieceBytes) / (kPieces - 1) * i / kAlignment * kAlignment;
    int64_t end = whole || i == kPieces - 1 ? fileBytes : begin + kPieceBytes;
    Bytes &piece = sample.pieces.emplace_back(end - begin);
    if (Status status = readBytes(descriptor, path, begin, end - begin, piece.data()); !status.ok())
      return status;
  }
  return Status::success();
}

bool FileSample::beginsWith(const std::string &bytes, size_t at) const {
  const Bytes &first = pieces.front();
  return first.size() >= at + bytes.size() && std::equal(bytes.begin(), bytes.end(), first.begin() + at,
                                                         [](char a, unsigned char b) { return (unsigned char)a == b; });
}

bool FileSample::endsWith(const std::string &bytes) const {
  const Bytes &last = pieces.back();
  return last.size() >= bytes.size() && std::equal(bytes.rbegin(), bytes.rend(), last.rbegin(),
                                                   [](char a, unsigned char b) { return (unsigned char)a == b; });
}

} // namespace galvatron
