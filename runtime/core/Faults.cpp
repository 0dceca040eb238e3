//===- Faults.cpp - a rank that dies takes the others with it, and says why ------------------------===//
#include "runtime/core/Faults.h"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace galvatron {
namespace {

/// A signal handler has no argument of its own; set once, before handlers are installed.
gvrt_context *faultContext = nullptr;

[[noreturn]] void endAll() {
  MPI_Abort(MPI_COMM_WORLD, 1);
  _exit(1);
}

void onFailure(gvrt_context *, const std::string &message) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  std::fflush(stderr);
  endAll();
}

void onSignal(int number) {
  // The heap may be broken: format on the stack; and should MPI_Abort hang, the alarm's default action ends the
  // process, which the launcher notices.
  char text[512];
  const char *entry = faultContext->entry;
  int size = std::snprintf(text, sizeof text, "error: rank %d (stage %d), step %lld, %s: %s\n", faultContext->rank,
                           faultContext->stage, (long long)faultContext->step, entry ? entry : "between entries",
                           strsignal(number));
  if (write(STDERR_FILENO, text, std::min<size_t>(size, sizeof text - 1)) < 0) {
    // Nobody left to tell.
  }
  std::signal(SIGALRM, SIG_DFL);
  alarm(10);
  endAll();
}

} // namespace

void installFaultHandlers(gvrt_context *context) {
  faultContext = context;
  context->onFailure = onFailure;
  struct sigaction action = {};
  action.sa_handler = onSignal;
  action.sa_flags = SA_RESETHAND;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT})
    sigaction(number, &action, nullptr);
}

} // namespace galvatron
