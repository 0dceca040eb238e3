//===- Cause.cpp - why all ranks end, for `launch`, and said once -------------------------------===//
#include "runtime/core/Cause.h"
#include "runtime/core/Processes.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace galvatron {
namespace {

int launch = 0;
char causeFile[64] = ""; // a signal handler may read it

} // namespace

void findLaunch() {
  const char *place = std::getenv("GALVATRON_LAUNCH"), *file = std::getenv("GALVATRON_CAUSE"); // "host:pid"
  std::string host = hostName() + ":";
  if (!place || std::strncmp(place, host.c_str(), host.size()) != 0)
    return;
  launch = std::atoi(place + host.size());
  // On another machine it would be another process's file.
  if (file && access(file, R_OK | W_OK) == 0)
    std::snprintf(causeFile, sizeof causeFile, "%s", file);
}

int launchHere() { return launch; }

bool canClaim() { return causeFile[0] != '\0'; }

bool tellLauncher(int code, std::string_view text) {
  int file = canClaim() ? open(causeFile, O_RDWR | O_APPEND | O_CLOEXEC) : -1;
  if (file < 0)
    return true;
  char head[32], first[sizeof head] = "";
  int thread = (int)syscall(SYS_gettid), size = std::snprintf(head, sizeof head, "%d %d ", thread, code);
  iovec parts[] = {{head, (size_t)size}, {const_cast<char *>(text.data()), text.size()}, {const_cast<char *>("\n"), 1}};
  // What cannot be written is nobody's claim, and `launch` then goes by the exit code.
  bool isFirst =
      writev(file, parts, 3) < 0 || pread(file, first, sizeof first - 1, 0) < 0 || std::atoi(first) == thread;
  close(file);
  return isFirst;
}

bool isCauseTold() {
  struct stat file = {};
  return canClaim() && stat(causeFile, &file) == 0 && file.st_size > 0;
}

} // namespace galvatron
