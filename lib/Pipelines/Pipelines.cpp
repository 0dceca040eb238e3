// Every pass in order: the table of contents of the compiler. One function per phase, a reason
// beside each addPass, the phase's verify pass last.
#include "galvatron/Pipelines/Pipelines.h"

#include "galvatron/Conversion/Passes.h"
#include "galvatron/Pipelines/Phases.h"
#include "galvatron/Transforms/Passes.h"
#include "galvatron/Transforms/PlanMemory.h"
#include "galvatron/Transforms/SearchPlan.h"

#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"

using namespace galvatron;

/// What a model computes becomes known by name; still one function.
static void addNamingPasses(mlir::OpPassManager &passes) {
  // Named ops carry what decomposed arithmetic only implies: which loops there are, which library has it. Norms first,
  // and with them the normal form of shapes, in which other spellings are few.
  passes.addPass(createRaiseNormsPass());
  // Its labels and logits are then neither flattened nor cut: the sequence is one axis from here on.
  passes.addPass(createRaiseLossPass());
  // Rows of a table need no data, and are no lookup to shard.
  passes.addPass(createRaisePositionsPass());
  // Before attention, whose scores may go through a tanh.
  passes.addPass(createRaiseActivationsPass());
  // Before attention, which looks through it for scales and repeated heads.
  passes.addPass(createRaiseRopePass());
  // Scores and masks of S x S elements are gone with it.
  passes.addPass(createRaiseAttentionPass());
  // The reshapes that attention has put around itself meet those that were there, and slices of slices.
  passes.addPass(createRaiseShapesPass());
}

void galvatron::buildDocumentsPhase(mlir::OpPassManager &passes) {
  // Positions and attention have to be seen to be replaced.
  addNamingPasses(passes);
  // What layers add to attention is looked at once.
  passes.addPass(mlir::createCSEPass());
  passes.addPass(createInsertDocumentsPass());
  // Each layer's angles and masks are the same.
  passes.addPass(mlir::createCSEPass());
  passes.addPass(mlir::createCanonicalizerPass());
}

void galvatron::buildImportPhase(mlir::OpPassManager &passes, const ImportPhaseOptions &options) {
  addNamingPasses(passes);
  // When nothing reads a fused product but slices.
  passes.addPass(createSplitProjectionsPass());
  // A gate and what it multiplies often come out of one fused product.
  passes.addPass(createRaiseGatedActivationsPass());
  // Slices and reshapes of split parameters.
  passes.addPass(createRaiseShapesPass());
  // Patterns have renamed subscripts; equal layers are to be equal.
  passes.addPass(createNormalizeEquationsPass());
  // What raising left behind.
  passes.addPass(mlir::createCSEPass());
  passes.addPass(mlir::createCanonicalizerPass());
  // While labels and losses stand in one function: what the whole batch decides is taken out of layers.
  passes.addPass(createFormTotalsPass());
  // From here on work does not grow with depth.
  passes.addPass(createFormLayersPass());
  buildImportPhaseEnd(passes, options);
}

void galvatron::buildImportPhaseEnd(mlir::OpPassManager &passes, const ImportPhaseOptions &options) {
  // Where a plan asks for it: halves are layers for whatever follows.
  FormSublayersPassOptions sublayers;
  sublayers.units.assign(options.units.begin(), options.units.end());
  if (!sublayers.units.empty())
    passes.addPass(createFormSublayersPass(sublayers));
  passes.addPass(createVerifyImportPass());
}

void galvatron::buildDifferentiatePhase(mlir::OpPassManager &passes, const DifferentiatePhaseOptions &options) {
  // Another batch than the trace's: while there is no backward yet, so that fewer types change.
  passes.addPass(createRebatchPass({options.globalBatch}));
  // One sum where several partial values meet needs one all-reduce.
  passes.addPass(createFlattenSumsPass());
  // Backward, memory and messages then follow from types.
  passes.addPass(createAssignPrecisionPass({options.precision}));
  // On global shapes, before anything is divided: no gradient can be counted twice.
  passes.addPass(createDifferentiatePass());
  // A sharded vocabulary is then no special case.
  passes.addPass(createExpandCrossEntropyPass());
  // Whatever types a model casts to: the runtime's functions have three.
  passes.addPass(createAssignKernelTypesPass());
  // Statistics that forward and backward both computed become one value, saved between them.
  passes.addPass(mlir::createCSEPass());
  // Axes follow from what reads a value, and constants are none that two readers share.
  passes.addPass(createSeparateConstantsPass());
  passes.addPass(createVerifyDifferentiatePass());
}

/// A plan by hand, or the search; both write the same attributes.
static std::unique_ptr<mlir::Pass> createPlanningPass(const PlanPhaseOptions &options) {
  if (options.plan.empty())
    return createSearchPlanPass({options.cluster, options.profile, options.deviceKind, options.ranks, options.memory,
                                 options.overhead, options.microBatches},
                                options.solver);
  AnnotatePlanPassOptions annotate;
  annotate.planFile = options.plan;
  annotate.ranks = options.ranks;
  return createAnnotatePlanPass(annotate);
}

void galvatron::buildPlanPhase(mlir::OpPassManager &passes, const PlanPhaseOptions &options) {
  // After differentiation: the backward's cost and what it keeps are known.
  passes.addPass(createPlanningPass(options));
  // On the graph, so that all that follows counts, places and checks padding like anything else.
  passes.addPass(createPadDimensionsPass());
  // Whoever wrote the plan, later phases rely on it.
  passes.addPass(createVerifyPlanPass());
}

void galvatron::buildShardPhase(mlir::OpPassManager &passes, const ShardPhaseOptions &options) {
  // One clone of a layer per strategy in use; placements follow from loops and priority lists.
  passes.addPass(createAssignPlacementsPass());
  // Shares no code with the assigner: what passes here is right, or nothing is built.
  passes.addPass(createVerifyPlacementsPass());
  // Redistributions become collectives along mesh axes.
  passes.addPass(createInsertCollectivesPass());
  // Only now is it known in which placement a value would be kept.
  passes.addPass(createPlanRecomputationPass());
  // What backward recomputes is exchanged there too.
  passes.addPass(createFuseExchangesPass());
  // Once more with every collective and every op that backward recomputes.
  passes.addPass(createVerifyPlacementsPass());
  // The last use of placements as encodings: bodies are on local shapes from here.
  passes.addPass(createSplitTensorsPass());
  // Gathers of keys become rings, where a strategy says so: which device's keys attention reads is then nothing that a
  // placement could say.
  passes.addPass(createInsertRingsPass());
  // A model's own fused matrices were cut for placement; here their pieces lie together again.
  passes.addPass(createFuseSlicesPass());
  // On local shapes: whatever tp, a device's parts of q, k and v lie together.
  passes.addPass(createFuseParametersPass());
  passes.addPass(createVerifyShardPass());
}

void galvatron::buildStagePhase(mlir::OpPassManager &passes, const StagePhaseOptions &options) {
  // Values that cross a border become sends and receives.
  passes.addPass(createPartitionStagesPass());
  // Only the order of micro-batches: entries are expanded where memory is planned.
  passes.addPass(createScheduleMicrobatchesPass());
  // Bodies are final by now, and it is known which calls end in the loss.
  passes.addPass(createSplitBackwardPass());
  passes.addPass(createVerifyStagePass());
}

void galvatron::buildLowerPhase(mlir::OpPassManager &passes, const LowerPhaseOptions &options) {
  // Bodies first: their scratch is part of the memory to plan.
  passes.addPass(createConvertDistToExecPass({options.device, /*lacking=*/{}, options.keepBodies}));
  // Then only the timetable is left to make: planned and proved here, it is the very one that is emitted.
  passes.addPass(createPlanMemoryPass(options.timetables));
  passes.addPass(createVerifyLowerPass());
}

void galvatron::registerPasses() {
  registerGalvatronTransformsPasses();
  registerGalvatronConversionPasses();
  registerPhases();
  mlir::registerCanonicalizerPass();
  mlir::registerCSEPass();
  mlir::registerSymbolDCEPass();
}
