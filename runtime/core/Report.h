//===- Report.h - what a run tells people and its log file ------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_REPORT_H
#define GALVATRON_RUNTIME_CORE_REPORT_H

#include "runtime/core/Speed.h"
#include "runtime/core/TensorBoard.h"

#include <cstdint>
#include <optional>

namespace galvatron {

/// Of data that are not trained on.
struct EvaluationReport {
  double loss, seconds;
};

struct StepReport {
  int64_t step, last;
  double loss, rate, gradientNorm;
  double seconds;                                            // wall time of the step
  double tokensPerSecond;                                    // tokens of the global batch / that
  int64_t peakBytes;                                         // largest of the ranks
  std::optional<EvaluationReport> evaluation = std::nullopt; // where one followed the step
};

/// The rows of --log. What a full disk does not take is kept and tried again with the next row.
class LogFile {
public:
  static constexpr const char *kHeader = "step,loss,lr,grad_norm,tokens_per_second,peak_bytes";
  static constexpr const char *kEvaluationHeader = ",eval_loss,eval_perplexity";

  /// `evaluates`: rows have its columns. `after`: goes on behind the row of that step, without the later rows that are
  /// there; else begins anew.
  Status open(const std::string &path, bool evaluates, std::optional<int64_t> after);
  bool isOpen() const { return file.isOpen(); }
  bool hasEvaluation() const { return evaluates; }
  /// Cuts the rows behind that step.
  Status goBack(int64_t step);
  /// An error only of the first row that cannot be written, and again once one could.
  Status add(const std::string &row);

private:
  AppendedFile file;
  std::string path;
  std::string full, header; // of the columns; a new one's, until its first row
  bool evaluates = false;
};

/// Says nothing before it is opened, which only the first rank does.
class Report {
public:
  /// An empty `log` writes none; one that is there goes on `after` a step.
  static Status open(const std::string &log, bool evaluates, std::optional<int64_t> after, bool quiet, Report &report);

  /// Prints a line unless quiet.
  void line(const std::string &text);
  /// Says on the error stream what may be wrong though the run goes on, quiet or not.
  static void warn(const std::string &text);
  /// Likewise what failed though the run goes on.
  static void error(const std::string &text);
  /// What a run was made for, with 8 digits, quiet or not.
  static void result(const char *what, double value);
  /// A row of the log; a line that overwrites the last one on a terminal, elsewhere a line for at most about fifty
  /// steps. An error of the log is none of the run.
  Status step(const StepReport &report);
  /// Tells speeds of devices, too.
  void setSpeed(const Speed &newSpeed) { speed = newSpeed; }
  /// Writes for TensorBoard, too, from step `next` on.
  Status openTensorBoard(const std::string &folder, int64_t next) { return tensorBoard.open(folder, next); }
  /// As if the steps behind this one had not been. What cannot be done is told, and the run goes on.
  void goBack(int64_t step);

private:
  void showProgress(const StepReport &report);
  std::string speedText(const StepReport &report) const;
  Status addScalars(const StepReport &report);

  LogFile log;
  TensorBoard tensorBoard;
  Speed speed;
  Remaining remaining;
  double secondsLeft = 0;
  bool quiet = true, terminal = false, unfinishedLine = false;
};

/// E.g. 1536 -> "1.5 KiB".
std::string bytesText(int64_t bytes);

/// Largest resident size of this process so far, in bytes.
int64_t highWaterBytes();

} // namespace galvatron

#endif
