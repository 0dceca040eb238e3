//===- Report.cpp - what a run tells people and its log file ------------------------------------===//
#include "runtime/core/Report.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/resource.h>
#include <unistd.h>

namespace galvatron {

/// Under a launcher stdout is its pipe, or a terminal of its own that says nothing about where the text ends up, so
/// `launch` tells by GALVATRON_TERMINAL.
static bool isTerminal() {
  if (const char *told = std::getenv("GALVATRON_TERMINAL"))
    return std::strcmp(told, "1") == 0;
  return !std::getenv("OMPI_COMM_WORLD_RANK") && !std::getenv("PMI_RANK") && isatty(STDOUT_FILENO);
}

Status Report::open(const std::string &path, bool quiet, Report &report) {
  report.quiet = quiet;
  report.terminal = isTerminal();
  report.logPath = path;
  if (path.empty())
    return Status::success();
  report.log.reset(std::fopen(path.c_str(), "w"));
  if (!report.log)
    return Status::error("cannot open the log ", path, ": ", std::strerror(errno));
  std::fputs("step,loss,lr,grad_norm,tokens_per_second,peak_bytes\n", report.log.get());
  return Status::success();
}

void Report::line(const std::string &text) {
  if (quiet)
    return;
  if (unfinishedLine)
    std::fputc('\n', stdout);
  unfinishedLine = false;
  std::fprintf(stdout, "%s\n", text.c_str());
  std::fflush(stdout);
}

void Report::warn(const std::string &text) {
  std::fflush(stdout);
  std::fprintf(stderr, "warning: %s\n", text.c_str());
}

Status Report::step(const StepReport &r) {
  if (log) {
    std::fprintf(log.get(), "%lld,%.9g,%.9g,%.9g,%.9g,%lld\n", (long long)r.step, r.loss, r.rate, r.gradientNorm,
                 r.tokensPerSecond, (long long)r.peakBytes);
    if (std::fflush(log.get()) != 0)
      return Status::error("cannot write the log ", logPath, ": ", std::strerror(errno));
  }
  int64_t every = terminal || r.last <= 50 ? 1 : r.last / 50;
  if (quiet || (r.step != 1 && r.step != r.last && r.step % every != 0))
    return Status::success();
  std::fprintf(stdout, "%sstep %lld/%lld  loss %.4f  lr %.3g  grad norm %.4g  %.0f tokens/s  %s%s",
               terminal ? "\r" : "", (long long)r.step, (long long)r.last, r.loss, r.rate, r.gradientNorm,
               r.tokensPerSecond, bytesText(r.peakBytes).c_str(), terminal ? "\033[K" : "\n");
  unfinishedLine = terminal;
  std::fflush(stdout);
  return Status::success();
}

std::string bytesText(int64_t bytes) {
  const char *units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = bytes;
  int unit = 0;
  for (; value >= 1024 && unit < 4; ++unit)
    value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
  return text;
}

int64_t highWaterBytes() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024; // Linux counts KiB
}

} // namespace galvatron
