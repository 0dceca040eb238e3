// Cuts the layers of which a plan names attention and feed-forward. Halves are layers like any other for all that
// follows: they get a strategy, a backward, a clone and a place in timetables each. Only random bits are still those of
// the whole layer: its path keys them, and ops keep the numbers that they have in it.
#include "FormSublayers.h"

#include "FormLayers.h"

#include "galvatron/Costs/ModelLayers.h"
#include "galvatron/Search/Formats/PlanFile.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/IR/IRMapping.h"
#include "mlir/IR/OperationSupport.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/StringExtras.h"

#include <map>

namespace galvatron {
#define GEN_PASS_DEF_FORMSUBLAYERSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::layers;

namespace {

/// One half of a layer, as values of the whole.
struct Half {
  LayerOp type;
  SmallVector<Value> inputs, outputs;
  SmallVector<BlockArgument> parameters;
};
using Halves = std::array<Half, 2>;

/// Makes the layers of a cut.
class SublayerBuilder {
public:
  SublayerBuilder(LayerOp whole, const SublayerCut &cut)
      : whole(whole), cut(cut), freeOps(whole), flow(whole), body(whole.getBody().front()) {}

  Halves build() {
    Halves halves;
    for (unsigned index : {0, 1}) {
      findInputs(halves[index], index);
      findOutputs(halves[index], index);
      halves[index].type = build(halves[index], index);
    }
    return halves;
  }

private:
  bool isOf(Operation *op, unsigned half) const { return !freeOps.isFree(op) && cut.ofAttention.contains(op) == !half; }
  bool isParameter(BlockArgument argument) { return argument.getArgNumber() >= whole.getNumInputs(); }
  SmallVector<Operation *> getOps(unsigned half);
  void findInputs(Half &half, unsigned index);
  void findOutputs(Half &half, unsigned index);
  LayerOp build(const Half &half, unsigned index);
  Attribute getAttributes(Value input);
  Attribute getAttributes(BlockArgument parameter, ArrayRef<Operation *> ops);
  Attribute getAttributesOfResult(Value output);

  LayerOp whole;
  const SublayerCut &cut;
  FreeOps freeOps;
  GradientFlow flow;
  Block &body;
};

} // namespace

/// The half's activations and the free ops that they read, in program order.
SmallVector<Operation *> SublayerBuilder::getOps(unsigned half) {
  llvm::SetVector<Operation *> ops;
  for (Operation &op : llvm::reverse(body.without_terminator()))
    if (isOf(&op, half) ||
        (freeOps.isFree(&op) && llvm::any_of(op.getUsers(), [&](Operation *user) { return ops.contains(user); })))
      ops.insert(&op);
  return llvm::to_vector(llvm::reverse(ops));
}

/// Inputs of the whole layer, then what the other half leaves; parameters in the whole layer's order.
void SublayerBuilder::findInputs(Half &half, unsigned index) {
  llvm::SetVector<Value> read;
  for (Operation *op : getOps(index))
    read.insert(op->operand_begin(), op->operand_end());
  for (BlockArgument argument : body.getArguments())
    if (read.contains(argument) && isParameter(argument))
      half.parameters.push_back(argument);
    else if (read.contains(argument))
      half.inputs.push_back(argument);
  for (Operation &op : body.without_terminator())
    for (Value result : op.getResults())
      if (isOf(&op, 1 - index) && read.contains(result))
        half.inputs.push_back(result);
}

void SublayerBuilder::findOutputs(Half &half, unsigned index) {
  for (Operation &op : body.without_terminator())
    for (Value result : op.getResults())
      if (isOf(&op, index) && llvm::any_of(result.getUsers(), [&](Operation *user) {
            return user == body.getTerminator() || isOf(user, 1 - index);
          }))
        half.outputs.push_back(result);
}

static DictionaryAttr getFrozen(MLIRContext *context, bool isFrozen) {
  Builder builder(context);
  return isFrozen ? builder.getDictionaryAttr(builder.getNamedAttr(kFrozenAttr, builder.getUnitAttr()))
                  : builder.getDictionaryAttr({});
}

Attribute SublayerBuilder::getAttributes(Value input) {
  if (auto argument = dyn_cast<BlockArgument>(input))
    return getFrozen(whole.getContext(), bool(whole.getArgAttr(argument.getArgNumber(), kFrozenAttr)));
  return getAttributesOfResult(input);
}

/// A parameter that the other half trains may be read here for its value alone.
Attribute SublayerBuilder::getAttributes(BlockArgument parameter, ArrayRef<Operation *> ops) {
  NamedAttrList attributes(whole.getArgAttrDict(parameter.getArgNumber()));
  auto trains = [&](Operation *user) { return llvm::is_contained(ops, user) && flow.passes(user); };
  if (llvm::none_of(parameter.getUsers(), trains))
    attributes.set(kFrozenAttr, UnitAttr::get(whole.getContext()));
  return attributes.getDictionary(whole.getContext());
}

/// What leaves the whole layer is frozen as it was, for its readers' sake; what the halves pass on, by the flow.
Attribute SublayerBuilder::getAttributesOfResult(Value output) {
  bool isFrozen = isFloatTensor(output.getType()) && !flow.hasGradient(output);
  for (OpOperand &use : output.getUses())
    if (use.getOwner() == body.getTerminator())
      isFrozen = bool(whole.getResultAttr(use.getOperandNumber(), kFrozenAttr));
  return getFrozen(whole.getContext(), isFrozen);
}

LayerOp SublayerBuilder::build(const Half &half, unsigned index) {
  OpBuilder builder(whole);
  SmallVector<Operation *> ops = getOps(index);
  SmallVector<Attribute> ofArguments, ofResults;
  SmallVector<Value> arguments(half.inputs);
  for (Value input : half.inputs)
    ofArguments.push_back(getAttributes(input));
  for (BlockArgument parameter : half.parameters) {
    arguments.push_back(parameter);
    ofArguments.push_back(getAttributes(parameter, ops));
  }
  bool anyFrozen = false;
  for (Value output : half.outputs) {
    ofResults.push_back(getAttributesOfResult(output));
    anyFrozen |= !cast<DictionaryAttr>(ofResults.back()).empty();
  }
  auto function = builder.getFunctionType(ValueRange(arguments).getTypes(), ValueRange(half.outputs).getTypes());
  auto type = LayerOp::create(builder, whole.getLoc(), (whole.getSymName() + "." + cut.names[index]).str(), function,
                              StringAttr(), builder.getArrayAttr(ofArguments),
                              anyFrozen ? builder.getArrayAttr(ofResults) : ArrayAttr());
  auto locations = llvm::map_to_vector(arguments, [](Value value) { return value.getLoc(); });
  Block *block = builder.createBlock(&type.getBody(), {}, function.getInputs(), locations);
  IRMapping mapping;
  mapping.map(arguments, block->getArguments());
  for (Operation *op : ops)
    builder.clone(*op, mapping);
  ReturnOp::create(builder, whole.getLoc(),
                   llvm::map_to_vector(half.outputs, [&](Value output) { return mapping.lookup(output); }));
  return type;
}

bool galvatron::layers::isSameLayer(LayerOp a, LayerOp b) {
  return a.getFunctionType() == b.getFunctionType() && a.getArgAttrsAttr() == b.getArgAttrsAttr() &&
         a.getResAttrsAttr() == b.getResAttrsAttr() &&
         OperationEquivalence::isRegionEquivalentTo(&a.getBody(), &b.getBody(), OperationEquivalence::IgnoreLocations);
}

namespace {

/// What comes of one type of layers, under names that a plan gives its halves.
struct CutType {
  SublayerCut cut;
  Halves halves;
};

struct FormSublayersPass : galvatron::impl::FormSublayersPassBase<FormSublayersPass> {
  using Base::Base;

  void runOnOperation() override {
    FailureOr<ModelLayers> found = collectLayers(getOperation());
    if (failed(found))
      return signalPassFailure();
    model = std::move(*found);
    std::map<size_t, std::vector<std::string>> named; // by the layer's index
    for (const std::string &unit : units)
      if (std::optional<search::LayerPart> part = search::findPart(unit, model.layers))
        if (auto &names = named[part->layer - model.layers.data()]; !llvm::is_contained(names, part->name))
          names.push_back(part->name);
    for (auto &[index, names] : named)
      if (failed(verifyNames(index, names)) || failed(cut(index, {names[0], names[1]})))
        return signalPassFailure();
    for (LayerOp whole : wholes)
      if (SymbolTable::symbolKnownUseEmpty(whole, getOperation()))
        whole.erase();
    numCut += named.size();
  }

private:
  LogicalResult verifyNames(size_t index, ArrayRef<std::string> names);
  LogicalResult cut(size_t index, std::array<std::string, 2> names);
  Half keepOneOfEqual(Half half);
  LayerOp typeOf(size_t index) { return getOperation().lookupSymbol<LayerOp>(model.calls[index].getCallee()); }

  ModelLayers model;
  std::map<std::pair<Operation *, std::array<std::string, 2>>, CutType> known;
  llvm::SetVector<LayerOp> wholes;
  SmallVector<LayerOp> types;
};

} // namespace

/// Exactly two submodules that there are, and not the layer beside them.
LogicalResult FormSublayersPass::verifyNames(size_t index, ArrayRef<std::string> names) {
  const search::Layer &layer = model.layers[index];
  std::string modules = llvm::join(getModulesWithProducts(typeOf(index)), ", ");
  auto error = [&] { return getOperation().emitError() << "layer '" << layer.path << "' "; };
  for (const std::string &name : names)
    if (!hasModule(typeOf(index), name))
      return error() << "has no submodule '" << name << "' to plan by itself; those with products are " << modules;
  for (const std::string &unit : units)
    if (search::isNameOf(unit, layer, model.layers))
      return error() << "is listed as '" << unit << "' and by its submodule '" << names[0]
                     << "'; list the layer, or its attention and its feed-forward";
  if (names.size() == 1)
    return error() << "is listed by its submodule '" << names[0]
                   << "' alone; list the other half too: its submodules with products are " << modules;
  if (names.size() > 2)
    return error() << "is listed by " << names.size() << " submodules, " << llvm::join(names, ", ")
                   << "; list two, its attention and its feed-forward";
  return success();
}

/// The half with the type of an equal one before it, if there is one.
Half FormSublayersPass::keepOneOfEqual(Half half) {
  auto equal = llvm::find_if(types, [&](LayerOp type) { return isSameLayer(type, half.type); });
  if (equal == types.end()) {
    types.push_back(half.type);
    ++numTypes;
    return half;
  }
  half.type.erase();
  half.type = *equal;
  return half;
}

static CallOp createCall(OpBuilder &builder, CallOp whole, const Half &half, StringRef name, const IRMapping &mapping) {
  auto inputs = llvm::map_to_vector(half.inputs, [&](Value input) { return mapping.lookup(input); });
  SmallVector<Attribute> parameters;
  for (BlockArgument parameter : half.parameters)
    parameters.push_back(whole.getParameters()[parameter.getArgNumber() - whole.getInputs().size()]);
  std::string path = (whole.getPath() + "." + name).str();
  LayerOp type = half.type;
  auto call = CallOp::create(builder, NameLoc::get(builder.getStringAttr(path)), type.getResultTypes(),
                             type.getSymName(), inputs, builder.getArrayAttr(parameters), path);
  call->setAttr(kBlockAttr, whole.getPathAttr());
  return call;
}

LogicalResult FormSublayersPass::cut(size_t index, std::array<std::string, 2> names) {
  CallOp call = model.calls[index];
  LayerOp whole = typeOf(index);
  llvm::sort(names);
  auto at = known.find({whole, names});
  if (at == known.end()) {
    FailureOr<SublayerCut> found = cutIntoSublayers(whole, names, [&] {
      return getOperation().emitError() << "layer '" << call.getPath() << "' cannot be cut into '" << names[0]
                                        << "' and '" << names[1] << "', so list it whole: ";
    });
    if (failed(found))
      return failure();
    Halves halves = SublayerBuilder(whole, *found).build();
    halves = {keepOneOfEqual(std::move(halves[0])), keepOneOfEqual(std::move(halves[1]))};
    at = known.emplace(std::pair(whole, names), CutType{std::move(*found), std::move(halves)}).first;
    wholes.insert(whole);
  }
  OpBuilder builder(call);
  Block &body = whole.getBody().front();
  IRMapping mapping;
  for (auto [argument, input] : llvm::zip(body.getArguments(), call.getInputs()))
    mapping.map(argument, input);
  for (auto [half, name] : llvm::zip_equal(at->second.halves, at->second.cut.names))
    mapping.map(half.outputs, createCall(builder, call, half, name, mapping).getOutputs());
  for (auto [output, result] : llvm::zip_equal(call.getOutputs(), body.getTerminator()->getOperands()))
    output.replaceAllUsesWith(mapping.lookup(result));
  call.erase();
  return success();
}
