//===- Ends.cpp - signals that ask a run to end after the step ---------------------------------===//
#include "runtime/core/Ends.h"
#include "runtime/core/Cause.h"
#include "runtime/core/ExitCode.h"
#include "runtime/core/Watchdog.h"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iterator>
#include <unistd.h>

namespace galvatron {
namespace {

volatile std::sig_atomic_t came = 0;
/// Of several the last counts: what stands first may be another one, as it is passed on.
constexpr int kHeard[] = {SIGUSR1, SIGINT, SIGTERM};
constexpr const char *kNames[] = {"SIGUSR1", "SIGINT", "SIGTERM"};
constexpr int64_t kSignals = std::size(kHeard);

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
  static uint64_t pending = 0;
  // Short steps need not all look.
  constexpr auto kEvery = std::chrono::milliseconds(100);
  if (Clock::now() >= next) {
    next = Clock::now() + kEvery;
    pending |= pendingOnParent();
  }
  int64_t result = kNoEnd;
  for (int64_t i = 0; i < kSignals; ++i)
    if (came == kHeard[i] || pending >> (kHeard[i] - 1) & 1)
      result = i + 1;
  // That of who ends all ranks is no wish to end early.
  return result != kNoEnd && isCauseTold() ? kNoEnd : result;
}

std::string endName(int64_t reason) { return reason >= 1 && reason <= kSignals ? kNames[reason - 1] : "--max-seconds"; }

} // namespace galvatron
