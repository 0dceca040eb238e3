//===- Report.cpp - what a run tells people and its log file ------------------------------------===//
#include "runtime/core/Report.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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
  full = std::string(kHeader) + (evaluates ? kEvaluationHeader : "");
  std::error_code ignored;
  bool goesOn = after && std::filesystem::is_regular_file(path, ignored) && std::filesystem::file_size(path, ignored);
  int64_t bytes = 0;
  if (goesOn)
    if (Status status = findPlace(path, full, *after, bytes); !status.ok())
      return status;
  header = goesOn ? "" : full + "\n";
  return file.open("the log", path, bytes);
}

Status LogFile::goBack(int64_t step) {
  std::error_code ignored;
  int64_t bytes = 0;
  if (!header.empty() || !std::filesystem::is_regular_file(path, ignored))
    return Status::success();
  Status status = findPlace(path, full, step, bytes);
  return status.ok() ? file.cut(bytes) : status;
}

Status LogFile::add(const std::string &row) { return file.add(std::exchange(header, "") + row); }

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

Status Report::addScalars(const StepReport &r) {
  if (!tensorBoard.isOpen())
    return Status::success();
  std::vector<std::pair<const char *, double>> scalars = {{"train/loss", r.loss},
                                                          {"train/lr", r.rate},
                                                          {"train/grad_norm", r.gradientNorm},
                                                          {"speed/tokens_per_second", r.tokensPerSecond},
                                                          {"memory/peak_bytes", double(r.peakBytes)}};
  if (std::optional<double> value = speed.teraflops(r.seconds))
    scalars.push_back({"speed/tflops", *value});
  if (std::optional<double> value = speed.utilization(r.seconds))
    scalars.push_back({"speed/mfu", *value});
  if (r.evaluation) {
    scalars.push_back({"eval/loss", r.evaluation->loss});
    scalars.push_back({"eval/perplexity", std::exp(r.evaluation->loss)});
  }
  return tensorBoard.add(r.step, scalars);
}

/// "  1.23 TFLOP/s  MFU 41.2 %  ETA 3:20:07", without what is not known.
std::string Report::speedText(const StepReport &r) const {
  std::string text;
  char part[48];
  if (std::optional<double> value = speed.teraflops(r.seconds)) {
    std::snprintf(part, sizeof part, "  %.3g TFLOP/s", *value);
    text += part;
  }
  if (std::optional<double> value = speed.utilization(r.seconds)) {
    std::snprintf(part, sizeof part, "  MFU %.1f %%", *value * 100);
    text += part;
  }
  return text + "  ETA " + durationText(secondsLeft);
}

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
  if (Status told = addScalars(r); status.ok())
    status = told;
  secondsLeft = remaining.add(r.step, r.last, r.seconds);
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
  std::fprintf(stdout, "%sstep %lld/%lld  loss %.4f  lr %.3g  grad norm %.4g  %.0f tokens/s  %s%s%s",
               terminal ? "\r" : "", (long long)r.step, (long long)r.last, r.loss, r.rate, r.gradientNorm,
               r.tokensPerSecond, bytesText(r.peakBytes).c_str(), speedText(r).c_str(), terminal ? "\033[K" : "\n");
  unfinishedLine = terminal;
  std::fflush(stdout);
}

void Report::goBack(int64_t step) {
  if (Status status = log.isOpen() ? log.goBack(step) : Status::success(); !status.ok())
    error(status.message);
  if (Status status = tensorBoard.isOpen() ? tensorBoard.goBack(step + 1) : Status::success(); !status.ok())
    error(status.message);
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
