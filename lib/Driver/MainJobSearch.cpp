// Makes search and lowered program agree about memory: the search knows estimates, a lowered plan its bytes.
//
//   search ─▶ shard ─▶ stage ─▶ lower ─▶ fits: look for a faster one whose estimate is too high (MainJobTrials.cpp)
//     ▲                           │ a rank takes more than the budget:
//     └─ leave as much free ◀─────┘ search again, with the least estimate as the last resort
//
// When nothing fits, the same way finds the figure to name: the driver succeeds with it, and fails with a byte less.
#include "MainJob.h"

#include "galvatron/Transforms/SearchPlan.h"

#include "mlir/IR/Diagnostics.h"
#include "llvm/Support/Format.h"

#include <cmath>

using namespace mlir;
using namespace galvatron;

/// Each round leaves free what the last one took beyond its estimate, so two are usual; a bound, since an
/// estimate may be wrong in other ways.
static constexpr int kMaxRounds = 8;
/// Budgets tried to find the smallest that does. Two are usual: what the smallest plan takes, and a byte less.
static constexpr int kMaxProbes = 48;

/// Searches with `memory` bytes less `reserve`, and lowers what comes out.
FailureOr<MainJob::Trial> MainJob::searchOnce(int64_t memory, int64_t reserve) {
  Trial trial;
  *searched = {};
  if (failed(planOnce(std::to_string(memory), reserve))) {
    const search::Infeasible &infeasible = searched->infeasible;
    if (infeasible.message.empty())
      return failure();
    trial.smallestEstimate = std::max<int64_t>(infeasible.smallestBudgetBytes - reserve, 0);
    trial.message = infeasible.message;
    return trial;
  }
  if (failed(readChosen()))
    return failure();
  for (search::StageMemory &estimate : chosen.stageMemory)
    estimate.reservedBytes -= reserve;
  if (failed(lowerChosen())) {
    (void)lowerPlanned(*module, Phase::Lower); // once more, to say why
    return failure();
  }
  trial.plan = chosen;
  trial.bytes = mostBytes();
  return trial;
}

/// The best plan by estimate that takes at most `memory` bytes; without one, `bytes` and `plan` are those of the
/// plan with the least estimate, if there is any plan.
FailureOr<MainJob::Trial> MainJob::searchByEstimate(int64_t memory) {
  int64_t reserve = 0;
  for (int round = 0;; ++round) {
    // In the last round nothing is left, so that the search says what it needs.
    FailureOr<Trial> trial = searchOnce(memory, round < kMaxRounds ? reserve : memory);
    if (failed(trial) || trial->fits(memory))
      return trial;
    if (!trial->plan) {
      if (!trial->smallestEstimate)
        return trial;
      std::string message = trial->message;
      trial = searchOnce(trial->smallestEstimate, /*reserve=*/0);
      if (succeeded(trial) && !trial->plan)
        trial->message = message;
      return trial;
    }
    int64_t missing = 0;
    for (auto [stage, estimate] : llvm::enumerate(chosen.stageMemory)) {
      int64_t bytes = bytesOfRank(stage * chosen.ranksPerStage());
      if (bytes > memory)
        missing = std::max(missing, bytes - std::min(estimate.total() + reserve, memory));
    }
    reserve += std::max<int64_t>(missing, 1);
  }
}

/// The fastest plan found that takes at most `memory` bytes; without one, that of the least bytes found.
FailureOr<MainJob::Trial> MainJob::searchFitting(int64_t memory) {
  extraBytesOfShapes.clear();
  bytesAtHand.clear();
  FailureOr<Trial> trial = searchByEstimate(memory);
  if (succeeded(trial) && trial->plan && failed(improve(*trial, memory)))
    return failure();
  return trial;
}

/// The least bytes of a lowered plan that are more than `memory`.
int64_t MainJob::findBytesAbove(int64_t memory) const {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const search::LoweredPlan &plan : tried)
    if (plan.bytes > memory)
      least = std::min(least, plan.bytes);
  return least;
}

/// Given that `memory` is too little: a budget with which the driver succeeds, though not with a byte less, as `bytes`.
FailureOr<MainJob::Trial> MainJob::findSmallest(int64_t memory) {
  int64_t tooLittle = memory, probe = findBytesAbove(memory);
  Trial smallest; // of the budget `bytes`, once there is a plan
  for (int round = 0; round < kMaxProbes && probe < std::numeric_limits<int64_t>::max(); ++round) {
    FailureOr<Trial> trial = searchFitting(probe);
    if (failed(trial))
      return failure();
    if (trial->fits(probe)) {
      int64_t taken = trial->bytes;
      smallest = std::move(*trial);
      smallest.bytes = probe;
      probe = taken < probe && taken > tooLittle ? taken : probe - 1;
    } else {
      tooLittle = probe;
      probe = smallest.plan ? tooLittle + (smallest.bytes - tooLittle) / 2 : findBytesAbove(tooLittle);
    }
    if (smallest.plan && smallest.bytes - tooLittle <= 1)
      break;
  }
  return smallest;
}

LogicalResult MainJob::searchWithinBudget() {
  FailureOr<Trial> trial = searchFitting(budget);
  if (failed(trial))
    return failure();
  if (!trial->plan)
    return emitError(module->getLoc()) << trial->message;
  if (!trial->fits(budget)) {
    FailureOr<Trial> smallest = findSmallest(budget);
    return failed(smallest) ? failure() : failTooSmall(smallest->plan ? *smallest : *trial);
  }
  chosen = std::move(*trial->plan);
  return takeChosen();
}

std::string MainJob::formatAtLeast(int64_t bytes) {
  static constexpr const char *kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  double value = double(bytes);
  for (; value >= 1024 && unit < 4; ++unit)
    value /= 1024;
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format(unit ? "%.2f" : "%.0f", std::ceil(value * 100) / 100) << kUnits[unit];
  return text;
}

/// Names the plan that needs the least: its fullest stage, and on that the unit that takes the most.
LogicalResult MainJob::failTooSmall(const Trial &smallest) {
  chosen = *smallest.plan;
  if (failed(explain(chosen)))
    return failure();
  int stage = 0;
  for (int other = 1; other < chosen.pipeline; ++other)
    if (bytesOfRank(other * chosen.ranksPerStage()) > bytesOfRank(stage * chosen.ranksPerStage()))
      stage = other;
  const search::PlannedUnit *largest = nullptr;
  int64_t most = -1;
  for (auto [unit, why] : llvm::zip(chosen.units, chosen.reasons.units))
    if (unit.stage == stage && why.stateBytes + why.activationBytes > most) {
      most = why.stateBytes + why.activationBytes;
      largest = &unit;
    }
  InFlightDiagnostic error = emitError(module->getLoc());
  error << "no strategy fits " << search::formatBytes(double(budget)) << " per device; the smallest plan needs "
        << smallest.bytes << " bytes (stage " << stage << " of " << chosen.pipeline;
  if (largest)
    error << ", largest unit '" << largest->path << "' with " << search::describe(largest->strategy, largest->dp);
  error << ", " << chosen.microBatches
        << " micro-batches); raise the budget to --memory=" << formatAtLeast(smallest.bytes)
        << ", or use more ranks or a smaller batch";
  if (!options.microBatches)
    if (std::optional<Diagnostic> whole = findWholeBatchOp(*module))
      error.attachNote(whole->getLocation()) << whole->str();
  return error;
}
