//===- Faults.cpp - a rank that dies takes the others with it, and says why ------------------------===//
#include "runtime/core/Faults.h"
#include "runtime/core/Cause.h"
#include "runtime/core/Check.h"
#include "runtime/core/Events.h"
#include "runtime/core/ExitCode.h"
#include "runtime/core/Watchdog.h"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <unistd.h>

namespace galvatron {
namespace {

/// A signal handler has no argument of its own; set once, before handlers are installed.
gvrt_context *faultContext = nullptr;

[[noreturn]] void endAll() {
  Watchdog::silence();
  MPI_Abort(MPI_COMM_WORLD, kFailed);
  _exit(kFailed);
}

void onFailure(gvrt_context *context, const std::string &message) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  std::fflush(stderr);
  tellLauncher(kFailed, message);
  writeEvent(*context, "end", context->step, {{"code", (int64_t)kFailed}, {"reason", message}});
  endAll();
}

/// Of what all ranks do together: agreeing, sums, slices of files. The device's collectives have communicators of their
/// own, whose calls are checked one by one.
void onMpiError(MPI_Comm *, int *code, ...) {
  char reason[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(*code, reason, &length);
  onFailure(faultContext, describePlace(*faultContext) + ", a collective of all ranks: " + std::string(reason, length));
}

void onSignal(int number) {
  // The heap may be broken: format on the stack; and should MPI_Abort hang, the alarm's default action ends the
  // process, which the launcher notices.
  constexpr size_t kError = sizeof "error: " - 1;
  char text[512];
  const char *entry = faultContext->entry, *operation = faultContext->operation;
  int size = std::snprintf(text, sizeof text, "error: rank %d (stage %d), step %lld, %s%s%s: %s\n", faultContext->rank,
                           faultContext->stage, (long long)faultContext->step, entry ? entry : "between entries",
                           operation ? ", " : "", operation ? operation : "", strsignal(number));
  if (write(STDERR_FILENO, text, std::min<size_t>(size, sizeof text - 1)) < 0) {
    // Nobody left to tell.
  }
  std::signal(SIGALRM, SIG_DFL);
  alarm(10);
  tellLauncher(kFailed, {text + kError, std::min<size_t>(size, sizeof text - 1) - kError - 1});
  endAll();
}

} // namespace

void installFaultHandlers(gvrt_context *context) {
  faultContext = context;
  context->onFailure = onFailure;
  MPI_Errhandler handler;
  MPI_Comm_create_errhandler(onMpiError, &handler);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, handler);
  MPI_Errhandler_free(&handler);
  struct sigaction action = {};
  action.sa_handler = onSignal;
  action.sa_flags = SA_RESETHAND;
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT})
    sigaction(number, &action, nullptr);
}

} // namespace galvatron
