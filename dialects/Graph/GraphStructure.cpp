// Parsing, printing and verification of what holds a program together: parameters, layers, their
// backward regions, calls.
#include "dialects/Graph/GraphStructure.h"

#include "dialects/FunctionSyntax.h"

#include "mlir/IR/DialectImplementation.h"

using namespace mlir;
using namespace galvatron::graph;

func::FuncOp galvatron::graph::getStep(ModuleOp module) { return module.lookupSymbol<func::FuncOp>("step"); }

FailureOr<func::FuncOp> galvatron::graph::expectStep(ModuleOp module) {
  func::FuncOp step = getStep(module);
  if (!step || step.isExternal())
    return module.emitOpError("expects a function @step with a body; write one with galvatron-import");
  return step;
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

/// `{normal = [mean, std]}`, `{uniform = [low, high]}` or `{constant = value}`.
static LogicalResult verifyInit(Attribute init, function_ref<InFlightDiagnostic()> emitError) {
  auto dictionary = dyn_cast<DictionaryAttr>(init);
  if (dictionary && dictionary.size() == 1) {
    StringRef name = dictionary.begin()->getName();
    Attribute value = dictionary.begin()->getValue();
    auto isNumber = [](Attribute a) { return isa<FloatAttr>(a); };
    auto list = dyn_cast<ArrayAttr>(value);
    if (name == "constant" && isNumber(value))
      return success();
    if ((name == "normal" || name == "uniform") && list && list.size() == 2 && llvm::all_of(list, isNumber))
      return success();
  }
  return emitError() << "expects init to be {normal = [mean, std]}, {uniform = [low, high]} or "
                        "{constant = value}, but got "
                     << init;
}

LogicalResult ParameterOp::verify() {
  if (getNames().empty())
    return emitOpError("expects at least one name");
  if (!getInit())
    return success();
  return verifyInit(*getInit(), [&] { return emitOpError(); });
}

LogicalResult GraphDialect::verifyRegionArgAttribute(Operation *op, unsigned region, unsigned argument,
                                                     NamedAttribute attribute) {
  if (attribute.getName() == kInitAttr)
    return verifyInit(attribute.getValue(), [&] { return op->emitOpError(); });
  if (attribute.getName() == kParameterAttr && !isa<StringAttr>(attribute.getValue()))
    return op->emitOpError("expects graph.parameter to be a name, but got ") << attribute.getValue();
  if (attribute.getName() == kFrozenAttr && !isa<UnitAttr>(attribute.getValue()))
    return op->emitOpError("expects graph.frozen to have no value, but got ") << attribute.getValue();
  if (attribute.getName() == kPaddingAttr && !isa<PaddingAttr>(attribute.getValue()))
    return op->emitOpError("expects graph.padding to be a #graph.padding, but got ") << attribute.getValue();
  return success();
}

//===----------------------------------------------------------------------===//
// Layers
//===----------------------------------------------------------------------===//

ParseResult LayerOp::parse(OpAsmParser &parser, OperationState &result) {
  return parseFunction<LayerOp>(parser, result);
}

void LayerOp::print(OpAsmPrinter &printer) { printFunction(printer, *this); }

StringRef LayerOp::getParameterName(unsigned argument) {
  auto name = getArgAttrOfType<StringAttr>(argument, kParameterAttr);
  return name ? name.getValue() : StringRef();
}

unsigned LayerOp::getNumInputs() {
  unsigned n = 0;
  while (n < getNumArguments() && !getArgAttr(n, kParameterAttr))
    ++n;
  return n;
}

BackwardOp LayerOp::getBackward(BackwardKind kind) {
  for (auto backward : getBody().getOps<BackwardOp>())
    if (backward.getKind() == kind)
      return backward;
  return nullptr;
}

bool LayerOp::hasGradient(unsigned argument) {
  return isFloatTensor(getArgumentTypes()[argument]) && !getArgAttr(argument, kFrozenAttr);
}

bool LayerOp::hasResultGradient(unsigned result) {
  return isFloatTensor(getResultTypes()[result]) && !getResultAttr(result, kFrozenAttr);
}

unsigned LayerOp::getNumInputGradients() {
  return llvm::count_if(llvm::seq(getNumInputs()), [&](unsigned input) { return hasGradient(input); });
}

SmallVector<BlockArgument> LayerOp::getDifferentiated() {
  SmallVector<BlockArgument> arguments;
  for (BlockArgument argument : getBody().getArguments())
    if (hasGradient(argument.getArgNumber()))
      arguments.push_back(argument);
  return arguments;
}

SmallVector<Type> LayerOp::getGradientTypes() {
  SmallVector<Type> types;
  unsigned numInputs = getNumInputs();
  for (auto [index, type] : llvm::enumerate(getArgumentTypes()))
    if (hasGradient(index))
      types.push_back(index < numInputs ? type : getWidened(type));
  return types;
}

SmallVector<Type> LayerOp::getResultGradientTypes() {
  SmallVector<Type> types;
  for (auto [index, type] : llvm::enumerate(getResultTypes()))
    if (hasResultGradient(index))
      types.push_back(type);
  return types;
}

/// Whether the types of `values` are `expected`, encodings aside.
template <typename Range>
static LogicalResult expectTypes(Operation *op, StringRef what, Range &&values, TypeRange expected) {
  if (size_t(llvm::size(values)) != expected.size())
    return op->emitOpError("expects ") << expected.size() << " " << what << ", but got " << llvm::size(values);
  for (auto [index, value, type] : llvm::enumerate(values, expected))
    if (!isSameTensor(value.getType(), type))
      return op->emitOpError("expects ") << what << " " << index << " to be " << type << ", but got "
                                         << value.getType();
  return success();
}

LogicalResult LayerOp::verifyRegions() {
  unsigned numInputs = getNumInputs();
  for (unsigned i = numInputs; i < getNumArguments(); ++i) {
    if (!getArgAttr(i, kParameterAttr))
      return emitOpError("expects inputs before parameters, but argument ")
             << i << " has no graph.parameter and follows one that has";
    if (!isFloatTensor(getArgumentTypes()[i]))
      return emitOpError("expects parameter ")
             << getParameterName(i) << " to be a float tensor, but got " << getArgumentTypes()[i];
  }
  Operation *terminator = &getBody().front().back();
  if (!isa<ReturnOp>(terminator))
    return emitOpError("expects to end in graph.return, but got ") << terminator->getName();
  if (failed(expectTypes(terminator, "results", terminator->getOperands(), getResultTypes())))
    return failure();

  auto backwards = llvm::to_vector(getBody().getOps<BackwardOp>());
  bool merged = backwards.size() == 1 && backwards[0].getKind() == BackwardKind::Merged;
  bool pair = backwards.size() == 2 && backwards[0].getKind() == BackwardKind::Input &&
              backwards[1].getKind() == BackwardKind::Weight;
  if (!backwards.empty() && !merged && !pair)
    return emitOpError("expects no backward, one, or the pair of input and weight, but got ") << backwards.size();
  Operation *next = terminator;
  for (BackwardOp backward : llvm::reverse(backwards)) {
    if (backward->getNextNode() != next)
      return backward.emitOpError("expects to stand directly before the layer's graph.return");
    next = backward;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Backward
//===----------------------------------------------------------------------===//

ParseResult BackwardOp::parse(OpAsmParser &parser, OperationState &result) {
  StringRef keyword;
  if (succeeded(parser.parseOptionalKeyword(&keyword, {"input", "weight"})))
    result.getOrAddProperties<Properties>().kind =
        BackwardKindAttr::get(parser.getContext(), *symbolizeBackwardKind(keyword));
  SmallVector<OpAsmParser::Argument> arguments;
  if (parser.parseArgumentList(arguments, OpAsmParser::Delimiter::Paren, /*allowType=*/true) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes))
    return failure();
  return parser.parseRegion(*result.addRegion(), arguments);
}

void BackwardOp::print(OpAsmPrinter &printer) {
  if (getKind() != BackwardKind::Merged)
    printer << " " << stringifyBackwardKind(getKind());
  printer << "(";
  llvm::interleaveComma(getBody().getArguments(), printer,
                        [&](BlockArgument argument) { printer.printRegionArgument(argument); });
  printer << ")";
  printer.printOptionalAttrDictWithKeyword((*this)->getAttrs(), {getKindAttrName()});
  printer << " ";
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

LogicalResult BackwardOp::verifyRegions() {
  auto layer = cast<LayerOp>((*this)->getParentOp());
  Block &block = getBody().front();
  auto terminator = dyn_cast<ReturnOp>(block.back());
  if (!terminator)
    return emitOpError("expects to end in graph.return, but got ") << block.back().getName();

  SmallVector<Type> arguments = layer.getResultGradientTypes();
  SmallVector<Type> gradients = layer.getGradientTypes();
  unsigned inputGradients = layer.getNumInputGradients();
  if (getKind() == BackwardKind::Input) {
    if (terminator.getNumOperands() < inputGradients)
      return emitOpError("expects at least ")
             << inputGradients << " input gradients, but got " << terminator.getNumOperands();
    gradients.resize(inputGradients);
    for (Value kept : terminator.getOperands().drop_front(inputGradients))
      gradients.push_back(kept.getType());
  }
  if (getKind() == BackwardKind::Weight) {
    gradients.erase(gradients.begin(), gradients.begin() + inputGradients);
    if (BackwardOp input = layer.getBackward(BackwardKind::Input))
      for (Value kept : input.getBody().front().back().getOperands().drop_front(inputGradients))
        arguments.push_back(kept.getType());
  }
  if (failed(expectTypes(*this, "arguments", block.getArguments(), arguments)))
    return failure();
  return expectTypes(terminator, "gradients", terminator.getOperands(), gradients);
}

//===----------------------------------------------------------------------===//
// Calls
//===----------------------------------------------------------------------===//

/// Null where it is of another dialect: a layer cut into local bodies checks its own calls.
template <typename Op> static FailureOr<LayerOp> findCallee(Op op, SymbolTableCollection &symbols) {
  Operation *callee = symbols.lookupNearestSymbolFrom(op, op.getCalleeAttr());
  if (!callee)
    return op.emitOpError("expects a layer named ") << op.getCalleeAttr() << " in the module";
  return dyn_cast<LayerOp>(callee);
}

StringRef CallOp::getBlockPath() {
  auto block = (*this)->getAttrOfType<StringAttr>(kBlockAttr);
  return block ? block.getValue() : getPath();
}

LogicalResult CallOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<LayerOp> found = findCallee(*this, symbols);
  if (failed(found) || !*found)
    return found;
  LayerOp layer = *found;
  unsigned numInputs = layer.getNumInputs();
  TypeRange inputs = TypeRange(layer.getArgumentTypes()).take_front(numInputs);
  if (failed(expectTypes(*this, "inputs", getInputs(), inputs)) ||
      failed(expectTypes(*this, "results", getOutputs(), layer.getResultTypes())))
    return failure();
  unsigned numParameters = layer.getNumArguments() - numInputs;
  if (getParameters().size() != numParameters)
    return emitOpError("expects ") << numParameters << " parameter names, but got " << getParameters().size();
  return success();
}

//===----------------------------------------------------------------------===//
// Totals
//===----------------------------------------------------------------------===//

LogicalResult TotalOp::verifySymbolUses(SymbolTableCollection &symbols) {
  FailureOr<LayerOp> found = findCallee(*this, symbols);
  if (failed(found) || !*found)
    return found;
  LayerOp layer = *found;
  if (layer.getNumInputs() != layer.getNumArguments())
    return emitOpError("expects a layer without parameters, but ")
           << getCalleeAttr() << " has " << layer.getNumArguments() - layer.getNumInputs();
  if (failed(expectTypes(*this, "inputs", getInputs(), layer.getArgumentTypes())))
    return failure();
  return expectTypes(*this, "results", (*this)->getResults(), layer.getResultTypes());
}
