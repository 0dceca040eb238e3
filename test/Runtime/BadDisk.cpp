// Preloaded into the ranks of a run: a disk that cannot exchange two folders, and one that is full while the file
// $DISK_IS_FULL is there.
#include <cerrno>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

extern "C" int renameat2(int, const char *, int, const char *, unsigned) {
  errno = EINVAL;
  return -1;
}

extern "C" ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
  static auto *next = reinterpret_cast<decltype(&pwrite)>(dlsym(RTLD_NEXT, "pwrite"));
  const char *sign = std::getenv("DISK_IS_FULL");
  if (sign && access(sign, F_OK) == 0) {
    errno = ENOSPC;
    return -1;
  }
  return next(file, bytes, count, offset);
}
