// Unifies the dimensions of a whole training step into axes.
//
// Every op's loops become lists of factors that its operands' and results' dimensions are matched
// with. Layers are tied together by the calls of `@step`; a parameter's gradient is tied to the
// parameter, as the optimizer's update would, so that a backward op with a loop of its own (the rows
// of an embedding's gradient) does not get an axis of its own.
#include "galvatron/Axes/Axes.h"

#include "AxesBuilder.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

llvm::StringRef galvatron::stringifyAxisRole(AxisRole role) {
  static constexpr llvm::StringLiteral names[] = {"batch", "seq", "hidden", "internal", "expert", "fixed"};
  return names[unsigned(role)];
}

bool AxesBuilder::isStructure(Operation *op) {
  return isa<LayerOp, BackwardOp, graph::ReturnOp, CallOp, TotalOp, func::FuncOp, func::ReturnOp, ModuleOp>(op);
}

//===----------------------------------------------------------------------===//
// Unification
//===----------------------------------------------------------------------===//

llvm::SmallVector<FactorList> &AxesBuilder::getDims(Value value) {
  auto [entry, isNew] = dims.try_emplace(value);
  if (isNew) {
    order.push_back(value);
    if (auto type = dyn_cast<RankedTensorType>(value.getType()))
      for (int64_t extent : type.getShape())
        entry->second.push_back(factors.create(extent));
  }
  return entry->second;
}

void AxesBuilder::unite(Value a, Value b) {
  getDims(a);
  getDims(b); // both exist before either is referenced
  for (auto [x, y] : llvm::zip(getDims(a), getDims(b)))
    factors.match(x, y);
}

void AxesBuilder::uniteOp(Operation *op) {
  OpAxes axes = getOpAxes(op);
  llvm::SmallVector<FactorList> loops;
  for (const Loop &loop : axes.loops)
    loops.push_back(factors.create(loop.extent));

  auto matchDims = [&](Value value, const DimensionLoops &dimLoops) {
    llvm::SmallVector<FactorList> &valueDims = getDims(value);
    for (auto [dim, indices] : llvm::zip(valueDims, dimLoops)) {
      FactorList list;
      for (unsigned loop : indices)
        list.append(loops[loop]);
      if (factors.match(dim, list))
        continue;
      // A barrier: these loops are the op's own from here on, and cannot be cut.
      for (unsigned loop : indices) {
        loops[loop] = factors.create(axes.loops[loop].extent);
        axes.loops[loop].kind = LoopKind::Whole;
      }
    }
  };
  for (auto [value, dimLoops] : llvm::zip(op->getOperands(), axes.operands))
    matchDims(value, dimLoops);
  for (auto [value, dimLoops] : llvm::zip(op->getResults(), axes.results))
    matchDims(value, dimLoops);
  ops.push_back({op, std::move(axes), std::move(loops)});
}

void AxesBuilder::uniteLayer(LayerOp layer) {
  Block &body = layer.getBody().front();
  for (BlockArgument argument : body.getArguments()) {
    getDims(argument);
    if (argument.getArgNumber() >= layer.getNumInputs())
      parameters.insert(argument);
  }
  layer.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (!isStructure(op))
      uniteOp(op);
  });
  ValueRange results = body.getTerminator()->getOperands();
  for (auto backward : body.getOps<BackwardOp>())
    uniteBackward(layer, backward, results);
}

void AxesBuilder::uniteBackward(LayerOp layer, BackwardOp backward, ValueRange results) {
  Block &block = backward.getBody().front();
  auto gradientOf = block.args_begin();
  for (auto [index, result] : llvm::enumerate(results))
    if (layer.hasResultGradient(index))
      unite(result, *gradientOf++);
  llvm::SmallVector<Value> targets;
  for (BlockArgument argument : layer.getDifferentiated()) {
    bool parameter = parameters.contains(argument);
    if (backward.getKind() == BackwardKind::Merged || parameter == (backward.getKind() == BackwardKind::Weight))
      targets.push_back(argument);
  }
  for (auto [target, gradient] : llvm::zip(targets, block.getTerminator()->getOperands())) {
    unite(target, gradient);
    if (parameters.contains(target))
      gradients.insert(gradient);
  }
}

void AxesBuilder::uniteCalls(func::FuncOp step) {
  llvm::StringMap<Value> byName;
  SymbolTable symbols(module);
  for (BlockArgument argument : step.getArguments())
    getDims(argument);
  step.walk([&](CallOp call) {
    auto layer = symbols.lookup<LayerOp>(call.getCallee());
    if (!layer)
      return;
    Block &body = layer.getBody().front();
    for (auto [operand, argument] : llvm::zip(call.getInputs(), body.getArguments()))
      unite(operand, argument);
    for (auto [result, value] : llvm::zip(call.getOutputs(), body.getTerminator()->getOperands()))
      unite(result, value);
    for (auto [name, argument] : llvm::zip(call.getParameters().getAsValueRange<StringAttr>(),
                                           body.getArguments().drop_front(layer.getNumInputs()))) {
      Value &first = byName[name];
      if (first)
        unite(first, argument);
      first = argument;
    }
  });
  step.walk([&](TotalOp total) {
    if (auto layer = symbols.lookup<LayerOp>(total.getCallee()))
      for (auto [operand, argument] : llvm::zip(total.getInputs(), layer.getBody().getArguments()))
        unite(operand, argument);
  });
}

void AxesBuilder::unify() {
  func::FuncOp step = graph::getStep(module);
  if (step) // first, so that the step's inputs name the first axes: batch, then positions
    for (BlockArgument argument : step.getArguments())
      getDims(argument);
  for (auto layer : module.getOps<LayerOp>())
    uniteLayer(layer);
  if (!step)
    return;
  uniteCalls(step);
  step.walk([&](Operation *op) { // before `form-layers` the whole model stands in @step
    if (!isStructure(op))
      uniteOp(op);
  });
}

//===----------------------------------------------------------------------===//
// From factors to axes
//===----------------------------------------------------------------------===//

AxisId AxesBuilder::getAxis(unsigned factor) {
  auto [entry, isNew] = axisOf.try_emplace(factor, facts.size());
  if (isNew)
    facts.push_back({factors.getExtent(factor)});
  return entry->second;
}

llvm::SmallVector<AxisId, 2> AxesBuilder::getAxesOf(llvm::ArrayRef<unsigned> list) {
  llvm::SmallVector<AxisId, 2> axes;
  for (unsigned factor : factors.expand(list))
    axes.push_back(getAxis(factor));
  return axes;
}

/// Cuts an op's loops at the borders of axes.
OpFactors AxesBuilder::getOpFactors(const OpLoops &op, const llvm::DenseMap<Value, ValueAxes> &valueAxes) {
  OpFactors result;
  llvm::SmallVector<llvm::SmallVector<unsigned, 2>> pieces;
  for (auto [loop, list] : llvm::zip(op.axes.loops, op.loops)) {
    auto &indices = pieces.emplace_back();
    for (AxisId axis : getAxesOf(list)) {
      indices.push_back(result.loops.size());
      result.loops.push_back({axis, loop.kind, loop.reduction});
    }
  }
  auto convert = [&](Value value, const DimensionLoops &dimLoops) {
    DimensionLoops converted;
    for (auto [axes, indices] : llvm::zip(valueAxes.find(value)->second, dimLoops)) {
      auto &loops = converted.emplace_back();
      for (unsigned index : indices)
        loops.append(pieces[index]);
      bool fits = loops.size() == axes.size();
      for (size_t i = 0; fits && i < axes.size(); ++i)
        fits = result.loops[loops[i]].axis == axes[i];
      if (!fits)
        loops.clear();
    }
    return converted;
  };
  for (auto [value, dimLoops] : llvm::zip(op.op->getOperands(), op.axes.operands))
    result.operands.push_back(convert(value, dimLoops));
  for (auto [value, dimLoops] : llvm::zip(op.op->getResults(), op.axes.results))
    result.results.push_back(convert(value, dimLoops));
  return result;
}

Axes::Axes(ModuleOp module) {
  AxesBuilder builder(module);
  builder.unify();
  for (Value value : builder.order) {
    ValueAxes &list = valueAxes[value];
    for (const FactorList &dim : builder.dims[value])
      list.push_back(builder.getAxesOf(dim));
  }
  for (const AxesBuilder::OpLoops &op : builder.ops)
    opFactors[op.op] = builder.getOpFactors(op, valueAxes);
  parameterLike.insert(builder.parameters.begin(), builder.parameters.end());
  parameterLike.insert(builder.gradients.begin(), builder.gradients.end());
  builder.findRoles(*this);
}

//===----------------------------------------------------------------------===//
// Questions
//===----------------------------------------------------------------------===//

llvm::SmallVector<llvm::SmallVector<AxisId>> Axes::getGroups(LayerOp layer, AxisRole role) const {
  // Lists of neighbours, in the order of the body; joined where they share an axis.
  llvm::SmallVector<llvm::SmallVector<AxisId>> groups;
  auto addDim = [&](llvm::ArrayRef<AxisId> dim) {
    llvm::SmallVector<AxisId> wanted;
    for (AxisId axis : dim)
      if (axes[axis].role == role && !llvm::is_contained(wanted, axis))
        wanted.push_back(axis);
    if (wanted.empty())
      return;
    for (auto &group : groups) {
      if (llvm::none_of(wanted, [&](AxisId axis) { return llvm::is_contained(group, axis); }))
        continue;
      if (wanted.size() > group.size())
        std::swap(wanted, group);
      for (AxisId axis : wanted)
        if (!llvm::is_contained(group, axis))
          group.push_back(axis);
      return;
    }
    groups.push_back(wanted);
  };
  auto addValue = [&](Value value) {
    auto found = valueAxes.find(value);
    if (found != valueAxes.end())
      for (const auto &dim : found->second)
        addDim(dim);
  };
  for (BlockArgument argument : layer.getBody().front().getArguments())
    addValue(argument);
  layer.walk<WalkOrder::PreOrder>([&](Operation *op) { llvm::for_each(op->getResults(), addValue); });
  return groups;
}

bool Axes::isMixing(Operation *op) const {
  unsigned loopsAlongSeq = 0;
  for (const FactorLoop &loop : getFactors(op).loops)
    if (axes[loop.axis].role == AxisRole::Seq) {
      ++loopsAlongSeq;
      if (loop.kind == LoopKind::Whole)
        return true;
    }
  return loopsAlongSeq > 1;
}

std::string Axes::getName(AxisId axis) const {
  std::string name = stringifyAxisRole(axes[axis].role).str();
  unsigned number = 0;
  for (AxisId other = 0; other < axes.size(); ++other) {
    if (axes[other].role != axes[axis].role)
      continue;
    if (other == axis)
      break;
    ++number;
  }
  return number ? name + std::to_string(number) : name;
}
