// Preloaded into the ranks of a run: a disk that cannot exchange two folders, one that is full while the file
// $DISK_IS_FULL is there, one that fails to synchronize $DISK_FAILS_AT, if $DISK_KEEPS_OPEN is set, one of a
// network that keeps weights that are removed under another name, one whose every write waits $DISK_IS_SLOW
// microseconds, one with room for $DISK_ROOM blocks, one without links or locks, if $DISK_HAS_NO_LINKS or
// $DISK_HAS_NO_LOCKS is set, one on which $DISK_KEEPS_NAME cannot have another; a host whose /proc/meminfo is
// $HOST_MEMORY; and a process that is killed when it is about to call what $DISK_KILLS says, as in
// "rename 2 latest.partial": a function, for which time, and how the path of its file ends.
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <fcntl.h>
#include <sstream>
#include <string>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

static void perhapsDie(const char *function, const std::string &path) {
  static std::atomic<int> calls = 0;
  std::istringstream words(std::getenv("DISK_KILLS") ? std::getenv("DISK_KILLS") : "");
  std::string which, end;
  int time;
  if (words >> which >> time >> end && which == function && path.ends_with(end) && ++calls == time)
    raise(SIGKILL);
}

static std::string pathOf(int file) {
  char path[PATH_MAX];
  ssize_t size = readlink(("/proc/self/fd/" + std::to_string(file)).c_str(), path, sizeof path);
  return std::string(path, std::max<ssize_t>(size, 0));
}

extern "C" int renameat2(int, const char *, int, const char *, unsigned) {
  errno = EINVAL;
  return -1;
}

extern "C" ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
  static auto *next = reinterpret_cast<decltype(&pwrite)>(dlsym(RTLD_NEXT, "pwrite"));
  perhapsDie("pwrite", pathOf(file));
  const char *sign = std::getenv("DISK_IS_FULL");
  if (sign && access(sign, F_OK) == 0) {
    errno = ENOSPC;
    return -1;
  }
  if (const char *slow = std::getenv("DISK_IS_SLOW"))
    usleep(std::atoi(slow));
  return next(file, bytes, count, offset);
}

extern "C" int statvfs(const char *name, struct statvfs *disk) noexcept {
  static auto *next = reinterpret_cast<int (*)(const char *, struct statvfs *)>(dlsym(RTLD_NEXT, "statvfs"));
  int result = next(name, disk);
  if (const char *room = std::getenv("DISK_ROOM"))
    disk->f_bavail = std::atoi(room);
  return result;
}

extern "C" int open(const char *name, int flags, ...) {
  static auto *next = reinterpret_cast<int (*)(const char *, int, ...)>(dlsym(RTLD_NEXT, "open"));
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  perhapsDie("open", name);
  const char *memory = std::getenv("HOST_MEMORY");
  return next(memory && std::string(name) == "/proc/meminfo" ? memory : name, flags, mode);
}

extern "C" int fsync(int file) {
  static auto *next = reinterpret_cast<decltype(&fsync)>(dlsym(RTLD_NEXT, "fsync"));
  const char *bad = std::getenv("DISK_FAILS_AT");
  std::string path = pathOf(file);
  perhapsDie("fsync", path);
  if (bad && !path.empty() && bad == path) {
    errno = EIO;
    return -1;
  }
  return next(file);
}

extern "C" int flock(int file, int operation) noexcept {
  static auto *next = reinterpret_cast<decltype(&flock)>(dlsym(RTLD_NEXT, "flock"));
  if (!std::getenv("DISK_HAS_NO_LOCKS"))
    return next(file, operation);
  errno = ENOLCK;
  return -1;
}

extern "C" int rename(const char *from, const char *to) noexcept {
  static auto *next = reinterpret_cast<decltype(&rename)>(dlsym(RTLD_NEXT, "rename"));
  perhapsDie("rename", from);
  const char *kept = std::getenv("DISK_KEEPS_NAME");
  if (!kept || std::string(kept) != from)
    return next(from, to);
  errno = EBUSY;
  return -1;
}

extern "C" int symlink(const char *to, const char *path) noexcept {
  static auto *next = reinterpret_cast<decltype(&symlink)>(dlsym(RTLD_NEXT, "symlink"));
  perhapsDie("symlink", path);
  if (!std::getenv("DISK_HAS_NO_LINKS"))
    return next(to, path);
  errno = EPERM;
  return -1;
}

extern "C" int remove(const char *name) noexcept {
  static auto *next = reinterpret_cast<decltype(&remove)>(dlsym(RTLD_NEXT, "remove"));
  std::string path = name, weights = "/model.safetensors";
  if (!std::getenv("DISK_KEEPS_OPEN") || !path.ends_with(weights))
    return next(name);
  return std::rename(name, (path.substr(0, path.size() - weights.size()) + "/.nfs1").c_str());
}
