// Every pass in order: the table of contents of the compiler. One function per phase, a reason
// beside each addPass, the phase's verify pass last.
#include "galvatron/Pipelines/Pipelines.h"

#include "galvatron/Conversion/Passes.h"
#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace galvatron;

void galvatron::buildImportPhase(mlir::OpPassManager &passes, const ImportPhaseOptions &options) {
  // Named ops know their loops, their gradient and their kernel; arithmetic of a norm does not.
  passes.addPass(createRaiseOpsPass());
  // Equal layers share a body, so that all later work does not grow with depth.
  passes.addPass(createFormLayersPass());
  passes.addPass(createVerifyImportPass());
}

void galvatron::buildDifferentiatePhase(mlir::OpPassManager &passes, const DifferentiatePhaseOptions &options) {
  // Another batch than the trace's: while there is no backward yet, so that fewer types change.
  passes.addPass(createRebatchPass({options.globalBatch}));
  // One sum where several partial values meet needs one all-reduce.
  passes.addPass(createFlattenSumsPass());
  // On global shapes, before anything is divided: no gradient can be counted twice.
  passes.addPass(createDifferentiatePass());
  // A sharded vocabulary is then no special case.
  passes.addPass(createExpandCrossEntropyPass());
  // Statistics that forward and backward both computed become one value, saved between them.
  passes.addPass(mlir::createCSEPass());
}

void galvatron::buildPlanPhase(mlir::OpPassManager &passes, const PlanPhaseOptions &options) {
  // A plan by hand replaces the search; both write the same attributes.
  AnnotatePlanPassOptions annotate;
  annotate.planFile = options.plan;
  annotate.ranks = options.ranks;
  passes.addPass(createAnnotatePlanPass(annotate));
  // Whoever wrote the plan, later phases rely on it.
  passes.addPass(createVerifyPlanPass());
}

void galvatron::buildShardPhase(mlir::OpPassManager &passes, const ShardPhaseOptions &options) {
  // A placement for every value follows from the strategies and the ops' loops alone.
  passes.addPass(createAssignPlacementsPass());
  // Redistributions become collectives, which CSE then shares like any other op.
  passes.addPass(createInsertCollectivesPass());
  // Wrong placements are wrong gradients without a crash: checked while types still carry them.
  passes.addPass(createVerifyPlacementsPass());
  // After collectives are placed: a gathered copy may be kept or gathered again.
  passes.addPass(createPlanRecomputationPass());
  // The last use of placements as encodings; bodies are on local shapes from here.
  passes.addPass(createSplitTensorsPass());
  passes.addPass(createVerifyShardPass());
}

void galvatron::buildStagePhase(mlir::OpPassManager &passes, const StagePhaseOptions &options) {
  // Values that cross a border become sends and receives.
  passes.addPass(createPartitionStagesPass());
  // Only the order of micro-batches: their entries are expanded when memory is planned.
  passes.addPass(createScheduleMicrobatchesPass());
}

void galvatron::buildLowerPhase(mlir::OpPassManager &passes, const LowerPhaseOptions &options) {
  // Bodies get their scratch memory; timetables need its size.
  passes.addPass(createConvertDistToExecPass());
  // Bytes of every rank, and the proof that no wait is circular, on the same timetable as the object's.
  passes.addPass(createPlanMemoryPass());
}

void galvatron::registerPasses() {
  registerGalvatronTransformsPasses();
  registerGalvatronConversionPasses();
  registerPhases();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mlir::registerSymbolDCEPass();
}
