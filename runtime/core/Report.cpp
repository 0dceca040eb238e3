//===- Report.cpp - what a run tells people and its log file ------------------------------------===//
#include "runtime/core/Report.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
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

LogFile::~LogFile() {
  if (file >= 0)
    close(file);
}

/// How many bytes of a log stay: the header and the rows up to step `after`.
static Status findPlace(const std::string &path, const std::string &header, int64_t after, int64_t &bytes) {
  std::ifstream log(path);
  std::string line;
  if (!std::getline(log, line) || line != header)
    return Status::error("the log ", path, " begins with '", line.substr(0, 80), "', not with ", header,
                         "; name another file");
  for (bytes = header.size() + 1; std::getline(log, line) && !log.eof(); bytes += line.size() + 1) {
    int64_t step;
    auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
    if (error != std::errc() || end == line.data() + line.size() || *end != ',')
      return Status::error("the log ", path, " has the row '", line.substr(0, 80),
                           "' without a step; name another file");
    if (step > after)
      break;
  }
  return Status::success();
}

Status LogFile::open(const std::string &newPath, bool hasEvaluation, std::optional<int64_t> after) {
  path = newPath;
  evaluates = hasEvaluation;
  std::string header = std::string(kHeader) + (evaluates ? kEvaluationHeader : "");
  std::error_code ignored;
  bool goesOn = after && std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored);
  int64_t bytes = 0;
  if (goesOn)
    if (Status status = findPlace(path, header, *after, bytes); !status.ok())
      return status;
  file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (goesOn ? 0 : O_TRUNC), 0666);
  if (file < 0 || (goesOn && ftruncate(file, bytes) != 0))
    return Status::error("cannot open the log ", path, ": ", std::strerror(errno));
  pending = goesOn ? "" : header + "\n";
  return Status::success();
}

Status LogFile::write() {
  while (!pending.empty()) {
    ssize_t count = ::write(file, pending.data(), pending.size());
    if (count < 0 && errno != EINTR)
      return Status::error("cannot write the log ", path, ": ", std::strerror(errno),
                           "; its rows are kept and tried again");
    pending.erase(0, std::max<ssize_t>(count, 0));
  }
  return Status::success();
}

Status LogFile::add(const std::string &row) {
  pending += row;
  Status status = write();
  bool wasFailing = isFailing;
  isFailing = !status.ok();
  return wasFailing ? Status::success() : status;
}

Status Report::open(const std::string &path, bool evaluates, std::optional<int64_t> after, bool quiet, Report &report) {
  report.quiet = quiet;
  report.terminal = isTerminal();
  return path.empty() ? Status::success() : report.log.open(path, evaluates, after);
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

static void tell(const char *kind, const std::string &text) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: %s\n", kind, text.c_str());
}

void Report::warn(const std::string &text) { tell("warning", text); }

void Report::error(const std::string &text) { tell("error", text); }

void Report::result(const char *what, double value) {
  std::printf("%s%.8f\n", what, value);
  std::fflush(stdout);
}

Status Report::step(const StepReport &r) {
  Status status;
  if (log.isOpen()) {
    char row[160], evaluation[60] = ",,";
    std::snprintf(row, sizeof row, "%lld,%.9g,%.9g,%.9g,%.9g,%lld", (long long)r.step, r.loss, r.rate, r.gradientNorm,
                  r.tokensPerSecond, (long long)r.peakBytes);
    if (r.evaluation)
      std::snprintf(evaluation, sizeof evaluation, ",%.9g,%.9g", r.evaluation->loss, std::exp(r.evaluation->loss));
    status = log.add(std::string(row) + (log.hasEvaluation() ? evaluation : "") + "\n");
  }
  int64_t every = terminal || r.last <= 50 ? 1 : r.last / 50;
  if (r.step == 1 || r.step == r.last || r.step % every == 0)
    showProgress(r);
  if (r.evaluation) {
    char text[140];
    std::snprintf(text, sizeof text, "evaluation  step %lld, loss %.8f, perplexity %.6g, in %.3g s", (long long)r.step,
                  r.evaluation->loss, std::exp(r.evaluation->loss), r.evaluation->seconds);
    line(text);
  }
  return status;
}

void Report::showProgress(const StepReport &r) {
  if (quiet)
    return;
  std::fprintf(stdout, "%sstep %lld/%lld  loss %.4f  lr %.3g  grad norm %.4g  %.0f tokens/s  %s%s",
               terminal ? "\r" : "", (long long)r.step, (long long)r.last, r.loss, r.rate, r.gradientNorm,
               r.tokensPerSecond, bytesText(r.peakBytes).c_str(), terminal ? "\033[K" : "\n");
  unfinishedLine = terminal;
  std::fflush(stdout);
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
