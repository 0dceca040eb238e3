//===- Ends.cpp - signals that ask a run to end after the step ---------------------------------===//
#include "runtime/core/Ends.h"
#include "runtime/core/ExitCode.h"
#include "runtime/core/Watchdog.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace galvatron {
namespace {

volatile std::sig_atomic_t came = 0;
constexpr int kHeard[] = {SIGTERM, SIGUSR1, SIGINT};

void onEnd(int number) {
  if (number == SIGINT && came == SIGINT) {
    Watchdog::silence();
    _exit(kInterrupted);
  }
  came = number;
}

/// Signals that the parent blocks and that were sent to it, as bits of their numbers less one.
uint64_t pendingOnParent() {
  std::string path = "/proc/" + std::to_string(getppid()) + "/status";
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char text[4096];
  ssize_t size = file < 0 ? -1 : read(file, text, sizeof text - 1);
  if (file >= 0)
    close(file);
  text[size < 0 ? 0 : size] = '\0';
  const char *mask = std::strstr(text, "\nShdPnd:");
  return mask ? std::strtoull(mask + std::strlen("\nShdPnd:"), nullptr, 16) : 0;
}

} // namespace

void listenForSignals() {
  struct sigaction action = {};
  action.sa_handler = onEnd;
  action.sa_flags = SA_RESTART;
  for (int number : kHeard)
    sigaction(number, &action, nullptr);
}

int64_t signalThatCame() {
  using Clock = std::chrono::steady_clock;
  static Clock::time_point next;
  // Short steps need not all look.
  constexpr auto kEvery = std::chrono::milliseconds(100);
  if (came == 0 && Clock::now() >= next) {
    next = Clock::now() + kEvery;
    uint64_t pending = pendingOnParent();
    for (int number : kHeard)
      if (pending >> (number - 1) & 1)
        return number;
  }
  return came;
}

std::string endName(int64_t reason) {
  return reason == kTimeIsUp ? "--max-seconds"
         : reason == SIGTERM ? "SIGTERM"
         : reason == SIGUSR1 ? "SIGUSR1"
                             : "SIGINT";
}

} // namespace galvatron
