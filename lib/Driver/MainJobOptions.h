// What the main job is asked, and what it refuses.
#ifndef GALVATRON_DRIVER_MAINJOBOPTIONS_H
#define GALVATRON_DRIVER_MAINJOBOPTIONS_H

#include "galvatron/Costs/ClusterInput.h"
#include "galvatron/Pipelines/Phases.h"

#include <optional>
#include <string>

namespace galvatron {

struct MainJobOptions {
  std::string input = "-"; ///< model.mlir, after any phase
  std::string command;     ///< the command line, as a shell takes it; for people
  std::string output;      ///< folder, or with `compileTo` or without `lower` a file; empty: by default
  bool search = false, lower = false, explain = false, printTimetable = false, verifyTimetable = false;
  bool keepBodies = false; ///< in a program after phase lower, for `--evaluate`
  std::optional<Phase> compileTo;
  std::string bodies;   ///< request of galvatron-profile for bodies alone, a file; empty: none
  std::string plan;     ///< plan file, instead of a search
  std::string simulate; ///< file for the predicted trace of a step; empty: none
  ClusterInput cluster;
  std::optional<int64_t> globalBatch, microBatches;
  std::optional<int64_t> listPlans;    ///< plans of a search to write into the folder's `plans`
  std::optional<int64_t> threads;      ///< of the search; default: the context's
  std::string target = "cpu";          ///< device library: "cpu" or "cuda"
  std::string architecture = "sm_90a"; ///< of the GPUs
  std::string precision;               ///< fp32, bf16 or fp16; empty: as the target has it

  bool hasPlan() const { return search || !plan.empty(); }
  /// Whether the job ends in a folder of stage binaries; else it prints a program, or what its stages do and what is
  /// proved of that.
  bool writesFolder() const { return lower && !compileTo; }
  /// Whether it ends in the files of plans that were listed, and nothing else.
  bool writesPlansOnly() const { return listPlans && !writesFolder(); }
  /// Whether the job is about what stages do in a step.
  bool asksForTimetable() const { return printTimetable || verifyTimetable; }
  /// The last phase to run.
  Phase getLastPhase() const { return compileTo.value_or(lower || asksForTimetable() ? Phase::Lower : Phase::Plan); }
  std::string getPrecision() const { return !precision.empty() ? precision : target == "cpu" ? "fp32" : "bf16"; }
};

/// What is wrong with the options for a module that is after phase `start`, with remedy; empty: nothing.
std::string findWrongOption(const MainJobOptions &options, Phase start);

} // namespace galvatron

#endif // GALVATRON_DRIVER_MAINJOBOPTIONS_H
