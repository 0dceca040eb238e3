//===- AppendedFile.cpp - a file that a run adds to, whatever the disk says ----------------------===//
#include "runtime/core/AppendedFile.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace galvatron {

AppendedFile::~AppendedFile() { close(); }

void AppendedFile::close() {
  if (file >= 0)
    ::close(file);
  file = -1;
  pending.clear();
  isFailing = false;
}

Status AppendedFile::open(const std::string &newWhat, const std::string &newPath, std::optional<int64_t> bytes) {
  what = newWhat;
  path = newPath;
  file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  // What is no file, as /dev/stderr may be, has no length.
  struct stat properties;
  if (file < 0 || fstat(file, &properties) != 0 ||
      (bytes && S_ISREG(properties.st_mode) && ftruncate(file, *bytes) != 0))
    return Status::error("cannot open ", what, " ", path, ": ", std::strerror(errno), "; name another place");
  return Status::success();
}

Status AppendedFile::cut(int64_t bytes) {
  pending.clear();
  if (ftruncate(file, bytes) != 0)
    return Status::error("cannot cut ", what, " ", path, ": ", std::strerror(errno));
  return Status::success();
}

Status AppendedFile::write() {
  off_t begin = lseek(file, 0, SEEK_END);
  for (size_t done = 0; done < pending.size();) {
    ssize_t count = ::write(file, pending.data() + done, pending.size() - done);
    if (count <= 0 && errno != EINTR) {
      Status status = Status::error("cannot write ", what, " ", path, ": ", std::strerror(errno),
                                    "; what it lacks is kept and tried again");
      // A part of it may stay where the disk cannot take it back; it is then written on.
      if (done && (begin < 0 || ftruncate(file, begin) != 0))
        pending.erase(0, done);
      return status;
    }
    done += std::max<ssize_t>(count, 0);
  }
  pending.clear();
  return Status::success();
}

Status AppendedFile::add(const std::string &text) {
  pending += text;
  Status status = write();
  bool wasFailing = isFailing;
  isFailing = !status.ok();
  return wasFailing ? Status::success() : status;
}

} // namespace galvatron
