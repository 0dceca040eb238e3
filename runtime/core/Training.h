//===- Training.h - one run: start values, steps, checkpoint -------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_TRAINING_H
#define GALVATRON_RUNTIME_CORE_TRAINING_H

#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/Resume.h"
#include "runtime/core/Ends.h"
#include "runtime/core/Evaluation.h"
#include "runtime/core/ExitCode.h"
#include "runtime/core/LossWatch.h"
#include "runtime/core/NotFinite.h"
#include "runtime/core/Report.h"
#include "runtime/core/Timetable.h"
#include "runtime/core/Trace.h"
#include "runtime/data/Batches.h"
#include "runtime/data/DataSource.h"
#include "runtime/optim/LossScale.h"

#include <chrono>

namespace galvatron {

/// All functions are collective and return the same status on every rank.
class Training {
public:
  Training(const World &world, const Manifest &manifest, const gvrt_program &program, const Options &options,
           gvrt_context &context, const Device &device)
      : world(world), manifest(manifest), program(program), options(options), context(context), device(device),
        timetable(program, manifest, Timetable::training(program)),
        evaluation(world, manifest, program, options, context, device),
        trace(world, manifest, program, options, context, device) {}
  ~Training();

  /// Checks what can be checked before the first step, allocates the arena, brings the start values.
  Status prepare();
  Status run();
  /// Of the process, once `run` is through.
  int exitCode() const { return code; }
  /// The last step that was finished.
  int64_t lastDone() const { return done.step; }

private:
  using Clock = std::chrono::steady_clock;

  Status prepareHosts();
  Status prepareDevice();
  Status prepareArena();
  Status prepareGroups();
  Status prepareParameters();
  Status checkPatterns() const;
  Status loadParameters();
  void warnOfUnknownWeights(const std::string &path);
  Status openCarried(const std::string &start);
  Status prepareData();
  Status prepareEvaluation();
  /// Whether what changes the numbers is as it was in the checkpoint, if there is one; then moves on to where that
  /// stopped.
  Status resume(DataSource &source);
  Status prepareFiles();
  Status prepareTrace();
  /// What was traced, on every rank; a failure is told.
  void finishTrace();
  Status openSaver();
  /// On every rank, when all is well.
  Status prepareEvents();
  void writeStart();
  /// The checkpoint that --load names, if there is one.
  Status loadFrom();
  /// The weights that a run starts with: of a file, or drawn.
  Status loadFirstWeights();
  void introduce();
  Status step(int64_t number);
  void tellStep(const StepReport &row);
  // TrainingOnNan.cpp
  /// Of a step whose loss or gradients are not finite: an error where the run ends by it.
  Status onNotFinite(const Status &error, int64_t number, double rate, StepReport &row);
  NotFiniteOrigin findOrigin(double rate);
  Status explainNotFinite(const Status &error, NotFiniteOrigin &origin);
  Status stopAtNotFinite(const Status &error, double rate);
  Status rewind(const Status &error, int64_t number);
  Status goBack(TrainingState &back, std::string &from);
  Status loadStart();
  /// Whether --save has a checkpoint of this state.
  bool isSaved() const;
  /// By the first rank.
  void warnOnce(const std::string &text);
  void watchLoss(int64_t number, double loss);

  /// Where it is due.
  std::optional<EvaluationReport> evaluate();
  Status evaluateOnly();
  /// Every rank's sums, then the update if they are good; `total` is what all ranks know together.
  Status update(int64_t number, double rate, StepSums &total);
  /// Why this rank wants to end after the step that began then.
  int64_t wantedEnd(Clock::time_point stepStart);
  bool isSaveDue() const { return options.saveEvery && done.step % options.saveEvery == 0; }
  /// A failure is told, and the run goes on. Waits for the save before; `atOnce`: for this one, too.
  void save(bool atOnce);
  /// Goes on with a save that is written beside the steps; `waits` for its end.
  void goOnSaving(bool waits);
  /// The error of a run that ended as the next step's data cannot be read.
  Status explainNoData();
  /// Tells why the run ended early, and what to do.
  void tellEnd();
  void conclude();
  ModelState state() { return {context, device, manifest, arena}; }

  const World &world;
  const Manifest &manifest;
  const gvrt_program &program;
  const Options &options;
  gvrt_context &context;
  const Device &device;
  Timetable timetable;
  Evaluation evaluation;
  Trace trace;
  char *arena = nullptr;
  Catalog catalog;
  Carried carried; // on the first rank
  SaveFolder saveFolder;
  std::optional<Saver> saver; // with --save
  LoadedFrom loaded;
  std::optional<Batches> batches;
  Report report;
  TrainingState saved;      // what was loaded
  TrainingState done;       // at start, then after each step
  TrainingState begun;      // before the first
  int64_t updatedStep = -1; // the last step that moved parameters; -1: none since the start
  NotFiniteRule notFinite{options.onNan, options.nanLimit};
  Spikes spikes;
  LossScale lossScale;
  int64_t firstStep = 1, lastStep = 0, residentAtStart = 0, savedStep = -1;
  int code = kSuccess;
  bool saveFailed = false; // the last one
  bool isComplete = false; // from the start on
  int64_t end = kNoEnd;    // why the run ends after this step, on which all ranks agree
  Clock::time_point started = Clock::now();
  double longestStep = 0, longestEvaluation = 0, longestSave = -1; // seconds; of the first rank; -1: none yet
  std::string startText, startFile, dataText;                      // startFile: where weights are from; empty if drawn
  std::vector<std::string> warnings;                               // of the preparation
};

} // namespace galvatron

#endif
