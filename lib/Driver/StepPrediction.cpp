// One price list for all of it: what a reader of timetable.json has, so that `galvatron-search --predict` says the
// same.
#include "StepPrediction.h"

#include "ProgramDiagnostics.h"

#include "galvatron/Costs/LoweredStep.h"
#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Target/StageBinaries.h"
#include "runtime/core/Version.h"

#include "llvm/Support/Path.h"

using namespace mlir;
using namespace galvatron;

FailureOr<StepPrediction> galvatron::predictStep(ModuleOp lowered, ArrayRef<Timetable> timetables, const JobPlan &job,
                                                 const MainJobOptions &options) {
  search::Result<search::Cluster> cluster = search::parseCluster(search::writeCluster(job.cluster), "", /*isMeasured=*/true);
  if (!cluster)
    return reportError(cluster.error().message);
  if (job.cluster.device.tables) // what a profile says is no part of the file
    cluster->device = job.cluster.device;
  StepPrediction prediction;
  search::StepTimetable &step = prediction.step;
  step = makeStepTimetable(lowered, timetables, job.plan, *cluster, hashProgram(lowered), job.layerHashes);
  step.version = std::string("galvatron-opt ") + kVersion;
  step.model = llvm::sys::path::stem(options.input).str();
  step.target = options.target;
  step.command = options.command;
  search::ClusterPrices prices(step.cluster);
  search::Result<search::SimulatedStep> simulated = search::simulateStep(step, prices);
  if (!simulated)
    return reportError(simulated.error().message);
  prediction.simulated = std::move(*simulated);
  search::noteSimulation(step, prediction.simulated);
  search::noteCollectives(step, prices);
  return prediction;
}

LogicalResult galvatron::writePredictedTrace(const StepPrediction &prediction, const MainJobOptions &options) {
  if (options.simulate.empty())
    return success();
  std::string error;
  return writeOutputFile(options.simulate, search::writeStepTrace(prediction.step, prediction.simulated), error)
             ? success()
             : reportError(error + "; name another with --simulate=FILE");
}
