// The main job: from a model to stage binaries, phase by phase.
#ifndef GALVATRON_DRIVER_MAINJOB_H
#define GALVATRON_DRIVER_MAINJOB_H

#include "galvatron/Costs/ClusterInput.h"
#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Search/Solver/Solver.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Support/Timing.h"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace galvatron {

struct MainJobOptions {
  std::string input = "-"; ///< model.mlir, after any phase
  std::string output;      ///< folder, or with `compileTo` or without `lower` a file; empty: by default
  bool search = false, lower = false, explain = false;
  std::optional<Phase> compileTo;
  std::string plan; ///< plan file, instead of a search
  ClusterInput cluster;
  std::optional<int64_t> globalBatch, microBatches;
  std::string target = "cpu";          ///< device library: "cpu" or "cuda"
  std::string architecture = "sm_90a"; ///< of the GPUs
  std::string precision;               ///< fp32 or bf16; empty: as the target has it
};

class MainJob {
public:
  MainJob(mlir::MLIRContext *context, const MainJobOptions &options) : context(context), options(options) {}

  /// Runs the module through the phases that the options ask for and writes the result. Messages
  /// about the program go to the context's diagnostics, those about options and files to stderr.
  mlir::LogicalResult run(mlir::OwningOpRef<mlir::ModuleOp> module, mlir::TimingScope &timing);

private:
  mlir::LogicalResult checkOptions(Phase start);
  mlir::LogicalResult readPlanBatch(bool isBatchFree);
  mlir::LogicalResult plan();
  mlir::LogicalResult readChosen();
  mlir::LogicalResult takeBudget(const search::Cluster &cluster);
  mlir::LogicalResult planOnce(llvm::StringRef memory, int64_t reserve);
  mlir::LogicalResult lowerPlanned(mlir::ModuleOp planned, Phase last);
  mlir::LogicalResult measure(mlir::ModuleOp lowered);
  /// Arena and reserve of a rank of `chosen`.
  int64_t bytesOfRank(int64_t rank) const { return chosen.peakBytesPerRank[rank] + chosen.reservedBytesPerRank[rank]; }
  int64_t mostBytes() const;

  /// A plan that was lowered to know its bytes.
  struct Trial {
    std::optional<search::Plan> plan; ///< none: not even an estimate fits
    int64_t bytes = 0;                ///< of the rank that needs the most, its reserve included
    int64_t smallestEstimate = 0;     ///< if nothing fits: the least estimate of any plan, 0 if there is no plan
    std::string message;              ///< if nothing fits: the search's
    bool fits(int64_t memory) const { return plan && bytes <= memory; }
  };
  mlir::FailureOr<Trial> searchOnce(int64_t memory, int64_t reserve);
  mlir::FailureOr<Trial> searchByEstimate(int64_t memory);
  mlir::FailureOr<Trial> searchFitting(int64_t memory);
  int64_t findBytesAbove(int64_t memory) const;
  mlir::FailureOr<Trial> findSmallest(int64_t memory);
  mlir::LogicalResult searchWithinBudget();
  mlir::LogicalResult failTooSmall(const Trial &smallest);

  /// Plans out of a ranked list, lowered to know their bytes: MainJobTrials.cpp.
  struct Question;
  mlir::FailureOr<std::unique_ptr<Question>> ask();
  mlir::LogicalResult lowerChosen();
  mlir::LogicalResult improve(Trial &trial, int64_t memory);
  mlir::LogicalResult narrow(Trial &trial, search::Problem problem, int64_t memory);
  mlir::LogicalResult lowerPlan(search::Plan plan);
  mlir::LogicalResult lowerListed(std::vector<search::Plan> plans, int64_t memory, Trial &trial, int &left);
  bool isKnownTooLarge(const search::Plan &plan, int64_t memory) const;
  bool recallBytes();
  void noteStages();
  mlir::LogicalResult explain(search::Plan &plan);
  mlir::LogicalResult takeChosen();
  mlir::LogicalResult print();
  mlir::LogicalResult writeFolder();
  mlir::LogicalResult runPhase(mlir::ModuleOp target, Phase phase,
                               llvm::function_ref<void(mlir::OpPassManager &)> build);
  mlir::LogicalResult fail(const llvm::Twine &message);
  /// A size that `--memory` reads back as at least `bytes`: search::formatBytes would round down as often as up.
  static std::string formatAtLeast(int64_t bytes);
  std::vector<std::string> getFilesBeside();
  std::string getModelName() const;
  std::string getOutputFolder() const;

  mlir::MLIRContext *context;
  MainJobOptions options;
  mlir::TimingScope *timing = nullptr;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  /// While a plan is lowered for its bytes alone: options that print programs are for the one that is kept.
  bool isTrial = false;
  /// The last phase to run.
  Phase stop = Phase::None;
  int64_t globalBatch = 0; ///< 0: the model's
  int64_t ranks = 0;       ///< that were asked for; 0: any
  search::Plan chosen;
  std::shared_ptr<search::Solution> searched = std::make_shared<search::Solution>();
  int64_t budget = 0; ///< bytes of a device that a rank may take, arena and reserve
  search::ReservedBytes reserved;
  /// Bytes of a rank of every stage that was lowered, arena and reserve, by what the stage holds: spares lowering it
  /// again for another budget.
  std::map<std::string, std::pair<int64_t, int64_t>> bytesOfStages;
  /// Their sums, of what was lowered for the budget at hand: the answer is the same whatever was asked before.
  std::map<std::string, int64_t> bytesAtHand;
  /// What the stages of the plan lowered last took beyond their estimates, by stages and micro-batches; of those
  /// lowered for the budget at hand.
  std::map<std::pair<int, int>, std::vector<int64_t>> extraBytesOfShapes;
  std::vector<search::LoweredPlan> tried; ///< in the order of their lowering
};

} // namespace galvatron

#endif // GALVATRON_DRIVER_MAINJOB_H
