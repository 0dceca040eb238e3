// Where a layer is cut into attention and what follows it: by the names of parameters and by what reads what, since
// locations do not survive a program that is printed.
//
// The ops that read a half's parameters are its core, and so is attention itself. What leads to attention's core is
// attention's, and what the rest's core leads to is the rest's. What remains lies between them, in program order, and
// is cut where the fewest values cross, of several such places at the first:
//
//     x ─ norm ─ q, k, v ─ attention ─ o ─ dropout ─ + x ┊ norm ─ up, gate ─ down ─ + ─    in sequence: 1 value
//     x ─ norm ┬ q, k, v ─ attention ─ o ┊            ┌ + ─ + x ─                          in parallel: x, norm, o
//              └────────────────────────── up ─ down ─┘
//
// So a residual stays with what is added to it, a norm goes to its reader, and a norm of both to attention.
#include "FormSublayers.h"

#include "FormLayers.h"

#include "dialects/Graph/Graph.h"

#include "llvm/ADT/SetVector.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::layers;

/// "mlp.up_proj.weight" is below "mlp".
static bool isBelow(StringRef name, StringRef module) { return name.consume_front(module) && name.consume_front("."); }

namespace {

/// The parameters that ops read, themselves or through free ops: views of them, scaled ones.
class ParameterReads {
public:
  ParameterReads(LayerOp layer, const FreeOps &freeOps) : layer(layer) {
    for (Operation &op : layer.getBody().front().without_terminator())
      for (Value operand : op.getOperands()) {
        if (auto argument = dyn_cast<BlockArgument>(operand);
            argument && argument.getArgNumber() >= layer.getNumInputs())
          read[&op].insert(argument.getArgNumber());
        else if (Operation *producer = operand.getDefiningOp(); producer && freeOps.isFree(producer))
          read[&op].insert_range(read[producer]);
      }
  }

  /// Names of the parameters, below the layer's path.
  SmallVector<StringRef> of(Operation *op) const {
    auto at = read.find(op);
    if (at == read.end())
      return {};
    return llvm::map_to_vector(at->second,
                               [&](unsigned argument) { return LayerOp(layer).getParameterName(argument); });
  }

private:
  LayerOp layer;
  DenseMap<Operation *, llvm::SmallSetVector<unsigned, 4>> read;
};

class Cutter {
public:
  Cutter(LayerOp layer, std::array<std::string, 2> names, llvm::function_ref<InFlightDiagnostic()> emitError)
      : layer(layer), freeOps(layer), reads(layer, freeOps), names(std::move(names)), emitError(emitError) {
    for (Operation &op : layer.getBody().front().without_terminator())
      if (!freeOps.isFree(&op))
        activations.push_back(&op);
  }

  FailureOr<SublayerCut> run();

private:
  using Ops = DenseSet<Operation *>;

  LogicalResult findAttention();
  LogicalResult findCores();
  Ops getCutOffBefore(const Ops &feedForward, const Ops &led);
  void addSources(Ops &ops) const;
  void addReaders(Ops &ops) const;
  size_t countCrossing(const Ops &first) const;
  bool isOf(Operation *op, StringRef module) const {
    return llvm::any_of(reads.of(op), [&](StringRef name) { return isBelow(name, module); });
  }

  LayerOp layer;
  FreeOps freeOps;
  ParameterReads reads;
  std::array<std::string, 2> names;
  llvm::function_ref<InFlightDiagnostic()> emitError;
  /// In program order.
  SmallVector<Operation *> activations;
  /// The ops that mix positions; what each half is built around.
  Ops mixing, attentionCore, otherCore;
};

} // namespace

/// Adds the activations that the ops of a set read, directly or not.
void Cutter::addSources(Ops &ops) const {
  for (Operation *op : llvm::reverse(activations))
    if (ops.contains(op))
      for (Value operand : op->getOperands())
        if (Operation *producer = operand.getDefiningOp(); producer && !freeOps.isFree(producer))
          ops.insert(producer);
}

/// Adds the activations that read the ops of a set, directly or not.
void Cutter::addReaders(Ops &ops) const {
  for (Operation *op : activations)
    if (llvm::any_of(op->getOperands(), [&](Value operand) { return ops.contains(operand.getDefiningOp()); }))
      ops.insert(op);
}

/// Puts the name of the half that attention is in first.
LogicalResult Cutter::findAttention() {
  for (Operation *op : activations)
    if (isa<AttentionOp>(op))
      mixing.insert(op);
  for (Operation *op : activations)
    if (mixing.empty() && isa<SoftmaxOp>(op))
      mixing.insert(op);
  if (mixing.empty())
    return emitError() << "it has no attention";
  Ops sources = mixing;
  addSources(sources);
  auto feeds = [&](StringRef module) { return llvm::any_of(sources, [&](Operation *op) { return isOf(op, module); }); };
  bool first = feeds(names[0]), second = feeds(names[1]);
  if (first && second)
    return emitError() << "its attention reads weights of both";
  if (!first && !second)
    return emitError() << "its attention reads weights of neither";
  if (second)
    std::swap(names[0], names[1]);
  return success();
}

LogicalResult Cutter::findCores() {
  attentionCore = mixing;
  bool isNamed = llvm::any_of(activations, [&](Operation *op) { return isOf(op, names[1]); });
  for (Operation *op : activations) {
    if (isOf(op, names[0]))
      attentionCore.insert(op);
    else if (isOf(op, names[1]) || (!isNamed && isa<EinsumOp>(op) && !reads.of(op).empty()))
      otherCore.insert(op);
    else if (isa<EinsumOp>(op) && !reads.of(op).empty())
      return emitError() << "its weight '" << reads.of(op).front() << "' is in neither";
  }
  if (otherCore.empty())
    return emitError() << "'" << names[1] << "' has no weights of its own";
  return success();
}

/// How many values the other half reads of a first one and of the layer's inputs.
size_t Cutter::countCrossing(const Ops &first) const {
  DenseSet<Value> crossing;
  for (Operation *op : activations)
    if (!first.contains(op))
      for (Value operand : op->getOperands()) {
        auto argument = dyn_cast<BlockArgument>(operand);
        if (argument ? argument.getArgNumber() < LayerOp(layer).getNumInputs()
                     : first.contains(operand.getDefiningOp()))
          crossing.insert(operand);
      }
  return crossing.size();
}

/// Attention's half: what leads to its core, and of what follows that, as much as leaves the fewest values to cross.
Cutter::Ops Cutter::getCutOffBefore(const Ops &sources, const Ops &followers) {
  Ops reached = attentionCore, half = sources;
  addReaders(reached);
  Ops best = half;
  size_t fewest = countCrossing(half);
  for (Operation *op : activations) {
    if (!reached.contains(op) || half.contains(op) || followers.contains(op))
      continue;
    half.insert(op);
    addSources(half);
    if (size_t count = countCrossing(half); count < fewest)
      fewest = count, best = half;
  }
  return best;
}

FailureOr<SublayerCut> Cutter::run() {
  if (failed(findAttention()) || failed(findCores()))
    return failure();
  Ops sources = attentionCore, followers = otherCore;
  addSources(sources);
  addReaders(followers);
  if (llvm::any_of(sources, [&](Operation *op) { return followers.contains(op); }))
    return emitError() << "'" << names[0] << "' reads what '" << names[1] << "' computes";
  return SublayerCut{names, getCutOffBefore(sources, followers)};
}

SmallVector<std::string> layers::getModulesWithProducts(LayerOp layer) {
  FreeOps freeOps(layer);
  ParameterReads reads(layer, freeOps);
  SmallVector<std::string> modules;
  for (Operation &op : layer.getBody().front())
    if (isa<EinsumOp>(op) && !freeOps.isFree(&op))
      for (StringRef name : reads.of(&op))
        if (std::string module = name.split('.').first.str(); !llvm::is_contained(modules, module))
          modules.push_back(module);
  return modules;
}

bool layers::hasModule(LayerOp layer, StringRef name) {
  if (name == kUnnamedFeedForward)
    return true;
  for (unsigned argument = layer.getNumInputs(); argument < layer.getNumArguments(); ++argument)
    if (isBelow(layer.getParameterName(argument), name))
      return true;
  return false;
}

FailureOr<SublayerCut> layers::cutIntoSublayers(LayerOp layer, std::array<std::string, 2> names,
                                                llvm::function_ref<InFlightDiagnostic()> emitError) {
  return Cutter(layer, std::move(names), emitError).run();
}
