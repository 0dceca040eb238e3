// Cuts a copy of the program, starts from the plan found, and searches the strategies around it.
#include "HalvesSearch.h"

#include "JobPlan.h"
#include "OneBudgetSearch.h"

#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Costs/ProgramCosts.h"

#include "llvm/ADT/SetVector.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace galvatron;

/// What models call the attention of a block, and feed-forwards that have several modules.
static constexpr llvm::StringLiteral kAttention[] = {"self_attn", "attn", "attention", "self_attention"};
static constexpr llvm::StringLiteral kFeedForward = "mlp";

/// The two submodules of a block, by the names of its tables of weights; empty: it has no such two.
static std::vector<std::string> nameHalves(graph::CallOp call) {
  llvm::SetVector<StringRef> modules;
  auto layer = SymbolTable::lookupNearestSymbolFrom<graph::LayerOp>(call, call.getCalleeAttr());
  ArrayRef<Type> types = layer.getArgumentTypes();
  for (auto [type, name] :
       llvm::zip(types.drop_front(layer.getNumInputs()), call.getParameters().getAsValueRange<StringAttr>())) {
    StringRef below = name;
    if (cast<ShapedType>(type).getRank() >= 2 && below.consume_front(call.getPath()) && below.consume_front("."))
      modules.insert(below.take_until([](char letter) { return letter == '.'; }));
  }
  auto attention = llvm::find_if(modules, [](StringRef name) { return llvm::is_contained(kAttention, name); });
  if (attention == modules.end() || modules.size() < 2)
    return {};
  StringRef other = modules.size() > 2 ? kFeedForward : *attention == modules[0] ? modules[1] : modules[0];
  return {(call.getPath() + "." + *attention).str(), (call.getPath() + "." + other).str()};
}

/// A copy of the program whose blocks are cut, after phase differentiate; null: it has none that can be.
static OwningOpRef<ModuleOp> cutBlocks(ModuleOp imported, int64_t globalBatch, const MainJobOptions &options,
                                       PhaseRunner &phases) {
  FailureOr<ModelLayers> model = collectLayers(imported);
  if (failed(model))
    return {};
  ImportPhaseOptions import;
  for (auto [call, layer] : llvm::zip_equal(model->calls, model->layers))
    if (layer.role == search::LayerRole::Block)
      for (std::string &name : nameHalves(call))
        import.units.push_back(std::move(name));
  if (import.units.empty())
    return {};
  DifferentiatePhaseOptions differentiate;
  differentiate.globalBatch = globalBatch;
  differentiate.precision = options.getPrecision();
  OwningOpRef<ModuleOp> cut = imported.clone();
  if (failed(phases.tryRun(*cut, Phase::Import, [&](OpPassManager &passes) { buildImportPhaseEnd(passes, import); })) ||
      failed(phases.tryRun(*cut, Phase::Differentiate,
                           [&](OpPassManager &passes) { buildDifferentiatePhase(passes, differentiate); })))
    return {};
  return cut;
}

/// The same plan, in which halves have the strategies of their blocks and recompute what they have of the same values.
static search::Plan planHalves(const search::Plan &whole, const ModelLayers &model) {
  search::Plan plan = whole;
  plan.layers.clear();
  plan.reasons = {};
  plan.recomputableValues.clear();
  for (const search::Layer &layer : model.layers) {
    const std::string &path = layer.block.empty() ? layer.path : layer.block;
    auto planned = llvm::find_if(whole.layers, [&](const search::PlannedLayer &each) { return each.path == path; });
    assert(planned != whole.layers.end() && "halves of the model's layers");
    search::PlannedLayer half = *planned;
    half.path = layer.path;
    half.layerType = layer.layerType;
    half.role = layer.role;
    half.block = layer.block;
    llvm::erase_if(half.recomputeValues,
                   [&](const std::string &name) { return !llvm::is_contained(layer.recomputableValues, name); });
    plan.layers.push_back(std::move(half));
    if (!layer.recomputableValues.empty())
      plan.recomputableValues[layer.layerType] = layer.recomputableValues;
  }
  return plan;
}

static std::string formatSeconds(double seconds) { return llvm::formatv("{0:f3} ms", seconds * 1e3); }

HalvesFound galvatron::searchHalves(ModuleOp imported, const search::Plan &whole, const search::Cluster &cluster,
                                    const MainJobOptions &options, PhaseRunner &phases) {
  HalvesFound found;
  OwningOpRef<ModuleOp> cut = cutBlocks(imported, whole.globalBatch, options, phases);
  if (!cut)
    return found;
  FailureOr<ModelLayers> model = collectLayers(*cut);
  if (failed(model))
    return found;
  ProgramCosts costs(*cut, cluster, model->globalBatch);
  search::Problem problem{.cluster = cluster,
                          .globalBatch = model->globalBatch,
                          .layers = model->layers,
                          .ties = model->ties,
                          .space = search::SearchSpace::supported(),
                          .costs = &costs};
  search::Result<search::Plan> start = search::evaluatePlan(problem, planHalves(whole, *model));
  if (!start)
    return found;
  LoweredPlans lowered([&](const search::Plan &plan) { return lowerForBytes(*cut, plan, cluster, phases); });
  search::SolveOptions solve;
  solve.threads = int(options.threads.value_or(cut->getContext()->getNumThreads()));
  OneBudgetSearch search(problem, solve, lowered, cluster.memoryBytesPerDevice);
  search::Result<FoundPlan> best = search.runFrom(*start);
  double wholes = whole.predictedStepSeconds;
  bool isFaster = best && best->fits(cluster.memoryBytesPerDevice) && best->plan->predictedStepSeconds < wholes;
  if (!isFaster) {
    found.note = "halves of layers: none of the plans around it is faster and fits";
    return found;
  }
  search::Result<search::Plan> priced = search::evaluatePlan(problem, *best->plan);
  if (!priced)
    return found;
  found.plan = std::move(*best->plan);
  found.plan.recomputableValues = start->recomputableValues;
  found.plan.reasons = std::move(priced->reasons);
  found.plan.reasons.lowered = lowered.explain(found.plan, cluster.memoryBytesPerDevice);
  found.note = "halves of layers: attention and feed-forward apart take " +
               formatSeconds(found.plan.predictedStepSeconds) + " a step, whole layers " + formatSeconds(wholes);
  annotatePlan(*model, found.plan);
  found.module = std::move(cut);
  return found;
}
