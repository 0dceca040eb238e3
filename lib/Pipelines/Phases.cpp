// Names, contracts and recognition of phases; their passes are in Pipelines.cpp.
#include "galvatron/Pipelines/Phases.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Pass/PassRegistry.h"

using namespace mlir;
using namespace galvatron;

namespace {
struct PhaseRow {
  Phase phase;
  llvm::StringLiteral name, contract;
};

constexpr PhaseRow kPhases[] = {
    {Phase::Import, "import", "named ops on static shapes; every op in a layer; equal layers share a body"},
    {Phase::Differentiate, "differentiate", "the whole training step on global shapes, still for one device"},
    {Phase::Plan, "plan", "one legal strategy and a stage for every layer"},
    {Phase::Shard, "shard", "local shapes and collectives; placements verified on every value"},
    {Phase::Stage, "stage", "a timetable for each pipeline stage; no cycle of waits"},
    {Phase::Lower, "lower", "runtime calls and loops over one arena; bytes of every rank known"},
};
} // namespace

llvm::StringRef galvatron::getPhaseName(Phase phase) {
  for (const PhaseRow &row : kPhases)
    if (row.phase == phase)
      return row.name;
  return "none";
}

llvm::StringRef galvatron::getPhaseContract(Phase phase) {
  for (const PhaseRow &row : kPhases)
    if (row.phase == phase)
      return row.contract;
  return "";
}

std::optional<Phase> galvatron::parsePhase(llvm::StringRef name) {
  for (const PhaseRow &row : kPhases)
    if (row.name == name)
      return row.phase;
  return std::nullopt;
}

Phase galvatron::detectPhase(ModuleOp module) {
  Phase phase = Phase::None;
  auto atLeast = [&](Phase other) { phase = std::max(phase, other); };
  for (Operation &op : module.getBody()->getOperations()) {
    if (auto stage = dyn_cast<dist::StageOp>(op))
      atLeast(stage->hasAttr(dist::kArenaBytesAttrName) ? Phase::Lower : Phase::Stage);
    else if (isa<dist::LayerOp>(op))
      atLeast(Phase::Shard);
    else if (auto layer = dyn_cast<graph::LayerOp>(op))
      atLeast(layer.getBody().getOps<graph::BackwardOp>().empty() ? Phase::Import : Phase::Differentiate);
  }
  if (module->hasAttr(plan::kPipelineAttrName))
    atLeast(Phase::Plan);
  return phase;
}

/// `--galvatron-phase-plan="…"`: for tests of a phase by itself.
template <typename Options> static void registerPhase(Phase phase, void (*build)(OpPassManager &, const Options &)) {
  // The registry keeps the strings' addresses.
  static const std::string flag = ("galvatron-phase-" + getPhaseName(phase)).str();
  static PassPipelineRegistration<Options> registration(flag, getPhaseContract(phase), build);
}

void galvatron::registerPhases() {
  registerPhase(Phase::Import, buildImportPhase);
  registerPhase(Phase::Differentiate, buildDifferentiatePhase);
  registerPhase(Phase::Plan, buildPlanPhase);
  registerPhase(Phase::Shard, buildShardPhase);
  registerPhase(Phase::Stage, buildStagePhase);
  registerPhase(Phase::Lower, buildLowerPhase);
}
