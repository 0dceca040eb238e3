//===- ExitCode.h - what a run's exit code says ----------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_EXITCODE_H
#define GALVATRON_RUNTIME_CORE_EXITCODE_H

namespace galvatron {

enum ExitCode : int {
  kSuccess = 0, // trained to --steps
  kRefused = 1, // before the first step
  kFailed = 70, // a rank died, a kernel, a transfer, data that cannot be read
  kDeadline = 71,
  kNotFinite = 72,
  kNotSaved = 73,     // trained, or ended early, but the last checkpoint could not be written
  kEnded = 75,        // early, as asked, and saved where there is --save
  kHopeless = 76,     // as kFailed, but `launch`, which makes it that, need not try again
  kInterrupted = 130, // by a second SIGINT
};

} // namespace galvatron

#endif
