// The phases of the compiler, in order. Each is one function that adds its passes, the last of which
// verifies the phase's contract; `--compile-to=<phase>` stops after one.
//
//   model.mlir ─import─▶ layers ─differentiate─▶ step ─plan─▶ strategies ─shard─▶ local shapes
//              ─stage─▶ timetables ─lower─▶ functions with addresses ─▶ stage binaries
#ifndef GALVATRON_PIPELINES_PHASES_H
#define GALVATRON_PIPELINES_PHASES_H

#include "galvatron/Transforms/SearchPlan.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"

#include <optional>

namespace galvatron {

struct Timetable;

enum class Phase { None, Import, Differentiate, Plan, Shard, Stage, Lower };

llvm::StringRef getPhaseName(Phase phase);
std::optional<Phase> parsePhase(llvm::StringRef name);
/// One line for `--help`: what holds after the phase.
llvm::StringRef getPhaseContract(Phase phase);

/// The phase that a module is after, from what it holds: `None` for the importer's output.
Phase detectPhase(mlir::ModuleOp module);

struct ImportPhaseOptions : mlir::PassPipelineOptions<ImportPhaseOptions> {
  ListOption<std::string> units{
      *this, "units", llvm::cl::desc("Names of a plan's layers: those that name halves of one cut it in two")};
};

struct DifferentiatePhaseOptions : mlir::PassPipelineOptions<DifferentiatePhaseOptions> {
  Option<int64_t> globalBatch{*this, "global-batch", llvm::cl::init(0),
                              llvm::cl::desc("Samples of a step; 0: as the model was imported")};
  Option<std::string> precision{*this, "precision", llvm::cl::init("fp32"),
                                llvm::cl::desc("Of activations and products: fp32, bf16 or fp16")};
};

struct PlanPhaseOptions : mlir::PassPipelineOptions<PlanPhaseOptions> {
  Option<std::string> plan{*this, "plan", llvm::cl::desc("Plan file; empty: search")};
  Option<int64_t> ranks{*this, "ranks", llvm::cl::init(0),
                        llvm::cl::desc("Ranks; 0: as many as the plan says, or this machine's cores")};
  Option<std::string> cluster{*this, "cluster", llvm::cl::desc("Cluster file for the search, instead of ranks")};
  Option<std::string> profile{*this, "profile", llvm::cl::desc("Profile that prices the devices of the search")};
  Option<std::string> deviceKind{*this, "device-kind", llvm::cl::init("cpu"),
                                 llvm::cl::desc("Kind of the devices where no cluster file says it")};
  Option<std::string> memory{*this, "memory", llvm::cl::desc("Budget of one device, such as 2GiB")};
  Option<int64_t> overhead{
      *this, "reserve", llvm::cl::init(0),
      llvm::cl::desc("Bytes of the budget to leave free: what a lowered plan took beyond its estimate")};
  Option<int64_t> microBatches{*this, "micro-batches", llvm::cl::init(0),
                               llvm::cl::desc("Micro-batches of the searched plan; 0: any number")};
  /// Who answers the search's question; null: search::solve.
  PlanSolver solver;
};

struct ShardPhaseOptions : mlir::PassPipelineOptions<ShardPhaseOptions> {};
struct StagePhaseOptions : mlir::PassPipelineOptions<StagePhaseOptions> {};

struct LowerPhaseOptions : mlir::PassPipelineOptions<LowerPhaseOptions> {
  Option<std::string> device{*this, "device", llvm::cl::init("cpu"),
                             llvm::cl::desc("Device library that the stages link: cpu or cuda")};
  Option<bool> keepBodies{*this, "keep-bodies", llvm::cl::init(false),
                          llvm::cl::desc("Keep what bodies compute, for the evaluator")};
  /// Where the phase leaves the stages' timetables, which binaries are made of; may be null.
  std::shared_ptr<std::vector<Timetable>> timetables;
};

/// Before all phases, in `galvatron-import --documents`: rows hold several documents from here on.
void buildDocumentsPhase(mlir::OpPassManager &passes);
void buildImportPhase(mlir::OpPassManager &passes, const ImportPhaseOptions &options);
/// The phase's end, which a program that has been through it takes again for a plan that cuts layers.
void buildImportPhaseEnd(mlir::OpPassManager &passes, const ImportPhaseOptions &options);
void buildDifferentiatePhase(mlir::OpPassManager &passes, const DifferentiatePhaseOptions &options);
void buildPlanPhase(mlir::OpPassManager &passes, const PlanPhaseOptions &options);
void buildShardPhase(mlir::OpPassManager &passes, const ShardPhaseOptions &options);
void buildStagePhase(mlir::OpPassManager &passes, const StagePhaseOptions &options);
void buildLowerPhase(mlir::OpPassManager &passes, const LowerPhaseOptions &options);

/// Makes every phase known as `--galvatron-phase-<name>`.
void registerPhases();

} // namespace galvatron

#endif // GALVATRON_PIPELINES_PHASES_H
