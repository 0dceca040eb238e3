//===- Files.cpp - what a disk is asked, without exceptions --------------------------------------===//
#include "runtime/core/Files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {

static Status cannotRead(const fs::path &path, const std::error_code &error) {
  return Status::error("cannot read ", path.string(), ": ", error.message());
}

Status lookFor(const fs::path &path, bool &isThere) {
  std::error_code error;
  isThere = fs::exists(path, error);
  return error ? cannotRead(path, error) : Status::success();
}

Status lookTogether(const World &world, const fs::path &path, bool &isThere) {
  if (Status status = world.agree(lookFor(path, isThere)); !status.ok())
    return status;
  std::vector<char> all = world.gather(char(isThere));
  if (std::find(all.begin(), all.end(), !all[0]) == all.end())
    return Status::success();
  return Status::error(path.string(), " is seen by some ranks only; put it where all nodes see it");
}

Status listFolder(const fs::path &folder, std::vector<fs::path> &paths) {
  bool isThere = false;
  if (Status status = lookFor(folder, isThere); !status.ok() || !isThere)
    return status;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    paths.push_back(entry->path());
  return error && error != std::errc::not_a_directory ? cannotRead(folder, error) : Status::success();
}

Status synchronize(const fs::path &path) {
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  // There are disks that cannot do this for folders, and then need not.
  bool good = descriptor >= 0 && (fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP);
  Status status = good ? Status::success() : Status::error("cannot write ", path.string(), ": ", std::strerror(errno));
  if (descriptor >= 0)
    close(descriptor);
  return status;
}

std::string readText(const fs::path &path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Status writeText(const fs::path &path, const std::string &text) {
  int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  bool good = file >= 0;
  for (size_t done = 0; good && done < text.size();) {
    ssize_t count = write(file, text.data() + done, text.size() - done);
    good = count > 0 || (count < 0 && errno == EINTR);
    done += std::max<ssize_t>(count, 0);
  }
  good = good && fsync(file) == 0;
  Status status = good ? Status::success() : Status::error("cannot write ", path.string(), ": ", std::strerror(errno));
  if (file >= 0)
    close(file);
  return status;
}

} // namespace galvatron
