// What a module says of its step is read by every phase, and by the folder that comes of it: it may contradict no tensor,
// and name no file but one beside the program.
#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Support/Files.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

/// A file of tensors or, ending in .weights, a folder of such: no other part of a program's folder has such a name.
static LogicalResult verifyFileName(Operation *op, NamedAttribute attribute) {
  auto name = dyn_cast<StringAttr>(attribute.getValue());
  if (!name)
    return op->emitOpError() << "expects " << attribute.getName().getValue() << " to be the name of a file";
  std::string why = whyNoBaseName(name.getValue());
  if (why.empty() && !name.getValue().ends_with(".safetensors") && !name.getValue().ends_with(".weights"))
    why = "ends in neither .safetensors nor .weights";
  if (!why.empty())
    return op->emitOpError() << "expects " << attribute.getName().getValue() << " to be the name of a file beside the program, but "
                             << attribute.getValue() << " " << why;
  return success();
}

/// `dim` of all inputs of tokens [batch, positions] of `@step`; one of a single row is the same for all samples, and inputs
/// by name have lengths of their own.
static LogicalResult verifyExtent(Operation *op, NamedAttribute attribute, unsigned dim) {
  auto extent = dyn_cast<IntegerAttr>(attribute.getValue());
  if (!extent || extent.getInt() < 1)
    return op->emitOpError() << "expects " << attribute.getName().getValue() << " to be an integer of at least 1, but got "
                             << attribute.getValue();
  auto module = dyn_cast<ModuleOp>(op);
  func::FuncOp step = module ? getStep(module) : func::FuncOp();
  if (!step || (dim > 0 && op->hasAttr(kInputsAttr)))
    return success();
  for (auto [number, type] : llvm::enumerate(step.getArgumentTypes())) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    bool areTokens = tensor && tensor.getRank() == 2 && tensor.getElementType().isInteger() && tensor.hasStaticShape();
    if (!areTokens || (number > 0 && tensor.getDimSize(0) == 1) || tensor.getDimSize(dim) == extent.getInt())
      continue;
    return op->emitOpError() << "expects " << attribute.getName().getValue() << " " << extent.getInt() << " to be dimension " << dim
                             << " of the step's inputs, but input " << number << " has " << tensor.getDimSize(dim);
  }
  return success();
}

LogicalResult GraphDialect::verifyOperationAttribute(Operation *op, NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name == kWeightsAttr || name == kBuffersAttr)
    return verifyFileName(op, attribute);
  if (name == kBatchAttr)
    return verifyExtent(op, attribute, 0);
  if (name == kSeqAttr && !op->hasAttr(kPaddedSeqAttr))
    return verifyExtent(op, attribute, 1);
  if (name == kPaddedSeqAttr)
    return verifyExtent(op, attribute, 1);
  if (name == kVocabularyAttr)
    if (auto size = dyn_cast<IntegerAttr>(attribute.getValue()); !size || size.getInt() < 0)
      return op->emitOpError() << "expects " << name << " to be an integer of at least 0, but got "
                               << attribute.getValue();
  return success();
}
