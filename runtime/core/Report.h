//===- Report.h - what a run tells people and its log file ------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_REPORT_H
#define GALVATRON_RUNTIME_CORE_REPORT_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <cstdio>
#include <memory>

namespace galvatron {

struct StepReport {
  int64_t step, last;
  double loss, rate, gradientNorm;
  double tokensPerSecond; // tokens of the global batch / wall time of the step
  int64_t peakBytes;      // largest of the ranks
};

/// Says nothing before it is opened, which only the first rank does.
class Report {
public:
  /// An empty `log` writes none.
  static Status open(const std::string &log, bool quiet, Report &report);

  /// Prints a line unless quiet.
  void line(const std::string &text);
  /// Says on the error stream what may be wrong though the run goes on, quiet or not.
  static void warn(const std::string &text);
  /// A row of the log; a line that overwrites the last one on a terminal, elsewhere a line for at most about fifty
  /// steps.
  Status step(const StepReport &report);

private:
  struct Close {
    void operator()(FILE *file) const { std::fclose(file); }
  };
  std::unique_ptr<FILE, Close> log;
  std::string logPath;
  bool quiet = true, terminal = false, unfinishedLine = false;
};

/// E.g. 1536 -> "1.5 KiB".
std::string bytesText(int64_t bytes);

/// Largest resident size of this process so far, in bytes.
int64_t highWaterBytes();

} // namespace galvatron

#endif
