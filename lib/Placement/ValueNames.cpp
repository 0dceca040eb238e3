// Names of what backward keeps of forward, for plans that recompute it value by value. From parameters' names and ops
// alone: locations do not survive a program that is printed, placements are not there yet.
#include "galvatron/Placement/Recomputation.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Graph/Graph.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

using namespace mlir;
using namespace galvatron;

/// Bits of `plan::StrategyValues::values`, as lib/Search counts them.
static constexpr size_t kMostValues = 32;

namespace {

/// The module that an op belongs to: that of the parameters that it reads, or else what is common to the modules that
/// its operands come from.
class ModuleFinder {
public:
  explicit ModuleFinder(graph::LayerOp layer) : layer(layer) {
    for (Operation &op : layer.getBody().front())
      if (!isa<graph::BackwardOp>(op))
        modules[&op] = find(&op);
  }

  /// "self_attn.q_proj", or "mlp.gated_activation" of what reads no parameter.
  std::string getName(Operation *op);

private:
  struct Module {
    std::string path;
    bool ownsParameter = false, isKnown = false;

    void meet(StringRef other) {
      path = isKnown ? getCommon(path, other) : other.str();
      isKnown = true;
    }
    static std::string getCommon(StringRef a, StringRef b);
  };
  Module find(Operation *op);
  bool isRotation(Operation *op) const;

  graph::LayerOp layer;
  DenseMap<Operation *, Module> modules;
};

} // namespace

static bool isCast(Operation *op) { return isa<arith::TruncFOp, arith::ExtFOp>(op); }

/// The components that both paths begin with.
std::string ModuleFinder::Module::getCommon(StringRef a, StringRef b) {
  SmallVector<StringRef> left, right, common;
  a.split(left, '.');
  b.split(right, '.');
  for (auto [x, y] : llvm::zip(left, right)) {
    if (x != y)
      break;
    common.push_back(x);
  }
  return llvm::join(common, ".");
}

ModuleFinder::Module ModuleFinder::find(Operation *op) {
  Module ofParameters, ofOperands;
  for (Value operand : op->getOperands()) {
    Value root = getViewedValue(operand);
    if (auto argument = dyn_cast<BlockArgument>(root)) {
      if (argument.getArgNumber() >= layer.getNumInputs())
        ofParameters.meet(layer.getParameterName(argument.getArgNumber()).rsplit('.').first);
    } else if (const Module &other = modules[root.getDefiningOp()]; other.isKnown)
      ofOperands.meet(other.path);
  }
  ofParameters.ownsParameter = ofParameters.isKnown;
  return ofParameters.isKnown ? ofParameters : ofOperands;
}

/// Whether the op joins what cosines and sines turned: rotary embedding at positions that a module itself is given
/// (position_ids), which no `graph.rope` says. It has the name all the same.
bool ModuleFinder::isRotation(Operation *op) const {
  if (!isa<graph::ConcatOp, graph::SumOp, arith::AddFOp>(op))
    return false;
  SmallVector<Operation *> open = {op};
  DenseSet<Operation *> seen;
  bool hasCosine = false, hasSine = false;
  while (!open.empty() && !(hasCosine && hasSine)) {
    Operation *next = open.pop_back_val();
    if (!seen.insert(next).second || modules.lookup(next).ownsParameter)
      continue;
    hasCosine |= isa<math::CosOp>(next);
    hasSine |= isa<math::SinOp>(next);
    for (Value operand : next->getOperands())
      if (Operation *producer = operand.getDefiningOp())
        open.push_back(producer);
  }
  return hasCosine && hasSine;
}

std::string ModuleFinder::getName(Operation *op) {
  while (isCast(op) && getViewedValue(op->getOperand(0)).getDefiningOp())
    op = getViewedValue(op->getOperand(0)).getDefiningOp();
  const Module &module = modules[op];
  if (module.ownsParameter && !module.path.empty())
    return module.path;
  std::string role = isRotation(op) ? "rope" : op->getName().stripDialect().str();
  return (module.path.empty() ? "" : module.path + ".") + role;
}

/// Ops of forward whose results backward keeps without recomputation, in forward order; of too many the largest.
static SmallVector<Operation *> findKeptOps(graph::LayerOp layer) {
  llvm::MapVector<Operation *, int64_t> bytes;
  if (graph::BackwardOp backward = layer.getBackward())
    for (Value value : getKeptValues(layer, backward))
      if (Operation *op = getViewedValue(value).getDefiningOp(); op && op->getNumOperands())
        bytes[op] += dist::getLocalBytes(value.getType());
  auto ops = llvm::to_vector(llvm::make_first_range(bytes));
  llvm::stable_sort(ops, [&](Operation *a, Operation *b) { return bytes[a] > bytes[b]; });
  ops.truncate(std::min(ops.size(), kMostValues));
  llvm::sort(ops, [](Operation *a, Operation *b) { return a->isBeforeInBlock(b); });
  return ops;
}

static SmallVector<std::string> nameOps(graph::LayerOp layer, ArrayRef<Operation *> ops) {
  ModuleFinder finder(layer);
  SmallVector<std::string> names;
  llvm::StringSet<> taken;
  for (Operation *op : ops) {
    std::string name = finder.getName(op), unique = name;
    for (int number = 2; !taken.insert(unique).second; ++number)
      unique = name + "." + std::to_string(number);
    names.push_back(unique);
  }
  return names;
}

std::vector<std::string> galvatron::getRecomputableValues(graph::LayerOp layer) {
  std::vector<std::string> names;
  if (auto tagged = layer->getAttrOfType<ArrayAttr>(plan::kValuesAttrName)) {
    for (StringRef name : tagged.getAsValueRange<StringAttr>())
      names.push_back(name.str());
    return names;
  }
  for (std::string &name : nameOps(layer, findKeptOps(layer)))
    names.push_back(std::move(name));
  return names;
}

void galvatron::tagRecomputableValues(graph::LayerOp layer) {
  if (layer->hasAttr(plan::kValuesAttrName))
    return;
  Builder builder(layer.getContext());
  SmallVector<Operation *> ops = findKeptOps(layer);
  SmallVector<std::string> names = nameOps(layer, ops);
  layer->setAttr(plan::kValuesAttrName, builder.getStrArrayAttr(SmallVector<StringRef>(names.begin(), names.end())));
  for (auto [bit, op] : llvm::enumerate(ops))
    op->setAttr(plan::kValueAttrName, builder.getI64IntegerAttr(bit));
}

void galvatron::untagRecomputableValues(graph::LayerOp layer) {
  if (!layer->removeAttr(plan::kValuesAttrName))
    return;
  layer.walk([](Operation *op) { op->removeAttr(plan::kValueAttrName); });
}
