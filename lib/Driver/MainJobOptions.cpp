// Options that contradict each other, or the module: by themselves, then with the phase that the module is after.
#include "MainJobOptions.h"

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Target/DeviceCode.h"

using namespace galvatron;

/// Plans that a user may ask for: each one is lowered.
static constexpr int64_t kMostListed = 999;

static std::string findWrongValue(const MainJobOptions &options) {
  if (options.search && !options.plan.empty())
    return "expects --search or --plan, but got both";
  if (options.target != "cpu" && options.target != "cuda")
    return "expects --target cpu or cuda, but got '" + options.target + "'";
  if (options.target == "cuda" && !isKnownGpuArchitecture(options.architecture))
    return "expects --arch to name a GPU that LLVM generates code for, such as sm_90a, but got '" +
           options.architecture + "'";
  if (!options.precision.empty() && options.precision != "fp32" && options.precision != "bf16" &&
      options.precision != "fp16")
    return "expects --precision fp32, bf16 or fp16, but got '" + options.precision + "'";
  if (options.asksForTimetable() && options.compileTo.value_or(Phase::Lower) != Phase::Lower)
    return std::string("expects ") + (options.printTimetable ? "--print-timetable" : "--verify-timetable") +
           " alone or with --compile-to=lower, but got --compile-to=" + getPhaseName(*options.compileTo).str();
  if (options.printTimetable && options.writesFolder())
    return "expects --print-timetable or --lower, but got both; the timetable of a plan.json is printed with "
           "--plan=FILE";
  if (!options.simulate.empty() && options.getLastPhase() < Phase::Plan)
    return "expects --simulate with a plan to lower, but got --compile-to=" + getPhaseName(*options.compileTo).str();
  if (options.keepBodies && options.compileTo != Phase::Lower)
    return "expects --keep-bodies with --compile-to=lower, whose program then says what its bodies compute";
  return "";
}

/// Of a step; as many as plans may have.
static constexpr int64_t kMostSamples = 1 << 24;

static std::string findWrongNumber(const MainJobOptions &options) {
  if (options.globalBatch && *options.globalBatch < 1)
    return "expects --global-batch of at least 1, but got " + std::to_string(*options.globalBatch);
  if (options.globalBatch && *options.globalBatch > kMostSamples)
    return "expects --global-batch of at most " + std::to_string(kMostSamples) + ", but got " +
           std::to_string(*options.globalBatch);
  if (options.microBatches && *options.microBatches < 1)
    return "expects --micro-batches of at least 1, but got " + std::to_string(*options.microBatches);
  if (options.microBatches && *options.microBatches > search::kMostMicroBatches)
    return "expects --micro-batches of at most " + std::to_string(search::kMostMicroBatches) +
           ", which a timetable can list, but got " + std::to_string(*options.microBatches);
  if (options.microBatches && !options.search)
    return "expects --micro-batches with --search; a plan has them as its key micro_batches";
  if (options.listPlans && (*options.listPlans < 1 || *options.listPlans > kMostListed))
    return "expects --list-plans of 1 to " + std::to_string(kMostListed) + ", but got " +
           std::to_string(*options.listPlans);
  if (options.listPlans && !options.search)
    return "expects --list-plans with --search, whose best plans it lists";
  if (options.listPlans && options.compileTo)
    return "expects --list-plans or --compile-to, but got both: -o names a folder or a file";
  if (options.listPlans && options.asksForTimetable() && !options.writesFolder())
    return "expects --list-plans with --search or --search --lower, but got an option that prints a timetable; print "
           "those of listed plans with --plan=FILE";
  if (options.writesPlansOnly() && options.output.empty())
    return "expects -o DIR with --list-plans, a folder for the plans";
  if (options.threads && *options.threads < 1)
    return "expects --threads of at least 1, but got " + std::to_string(*options.threads);
  if (options.threads && !options.search)
    return "expects --threads with --search, whose threads they are";
  return "";
}

/// What comes too late, or too early, for a module after phase `start`.
static std::string findWrongPhase(const MainJobOptions &options, Phase start) {
  if (!options.bodies.empty()) // which goes its own way (LayerBodies.h)
    return "";
  std::string after = getPhaseName(start).str();
  if (!options.precision.empty() && start >= Phase::Differentiate)
    return "expects --precision before phase differentiate, but the module is after phase " + after;
  if (options.getLastPhase() >= Phase::Plan && start < Phase::Plan && !options.hasPlan())
    return "expects --search or --plan=FILE, since the module has no plan yet";
  if (!options.simulate.empty() && start > Phase::Plan)
    return "expects a module before phase shard for --simulate, whose layers have a plan, but it is after phase " +
           after;
  if (options.hasPlan() && start > Phase::Plan)
    return "expects a module before phase shard to plan, but it is after phase " + after;
  if (options.compileTo && *options.compileTo < start)
    return "expects a phase after " + after +
           ", where the module is already, but got --compile-to=" + getPhaseName(*options.compileTo).str();
  if (options.globalBatch && start >= Phase::Differentiate)
    return "expects --global-batch before phase differentiate, but the module is after phase " + after;
  if (options.writesFolder() && start > Phase::Plan)
    return "expects a module before phase shard for stage binaries and their plan.json, but it is after phase " +
           after + "; start from an earlier phase, or print it with --compile-to";
  return "";
}

std::string galvatron::findWrongOption(const MainJobOptions &options, Phase start) {
  if (std::string wrong = findWrongValue(options); !wrong.empty())
    return wrong;
  if (std::string wrong = findWrongNumber(options); !wrong.empty())
    return wrong;
  if (std::string wrong = findWrongPhase(options, start); !wrong.empty())
    return wrong;
  if (options.writesFolder() && options.output.empty() && options.input == "-")
    return "expects -o DIR, since a model read from standard input has no name";
  return "";
}
