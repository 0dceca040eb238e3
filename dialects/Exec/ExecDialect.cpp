// Registration of the exec dialect and the checks of its ops.
#include "dialects/Exec/Exec.h"

#include "dialects/FunctionSyntax.h"

#include "llvm/ADT/StringSwitch.h"

#include "dialects/Exec/ExecDialect.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/Exec/ExecOps.cpp.inc"

using namespace mlir;
using namespace galvatron::exec;

void ExecDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialects/Exec/ExecOps.cpp.inc"
      >();
}

int64_t galvatron::exec::getNumRuntimeBuffers(StringRef function) {
  // A buffer list such as "q, k, bias?" has one entry more than it has commas.
  StringRef buffers = llvm::StringSwitch<StringRef>(function)
#define GVRT_FUNCTION(name, buffers, attributes) .Case(#name, buffers)
#include "runtime/api/Functions.def"
#undef GVRT_FUNCTION
                          .Default("");
  return buffers.empty() ? -1 : static_cast<int64_t>(buffers.count(',')) + 1;
}

ParseResult FunctionOp::parse(OpAsmParser &parser, OperationState &result) {
  return parseFunction<FunctionOp>(parser, result);
}

void FunctionOp::print(OpAsmPrinter &printer) { printFunction(printer, *this); }

LogicalResult FunctionOp::verify() {
  if (!getResultTypes().empty())
    return emitOpError("expects no results, but got ") << getResultTypes().size();
  for (Type type : getArgumentTypes())
    if (!isa<MemRefType>(type))
      return emitOpError("expects memref arguments, but got ") << type;
  if (!(*this)->getAttrOfType<IntegerAttr>(kScratchBytes))
    return emitOpError("expects an integer attribute ") << kScratchBytes;
  return success();
}

LogicalResult BufferOp::verify() {
  if (auto offset = static_cast<int64_t>(getOffset()); offset < 0)
    return emitOpError("expects an offset of at least 0 bytes, but got ") << offset;
  return success();
}

LogicalResult CallOp::verify() {
  int64_t expected = getNumRuntimeBuffers(getFunction());
  if (expected < 0)
    return emitOpError("expects a function of runtime/api/Functions.def, but got \"") << getFunction() << "\"";
  int64_t given = getBuffers().size();
  if (auto present = getPresent()) {
    if (static_cast<int64_t>(present->size()) != expected)
      return emitOpError("expects ") << expected << " entries in present, but got " << present->size();
    expected = llvm::count(*present, 1);
  }
  if (given != expected)
    return emitOpError("expects ") << expected << " buffers for \"" << getFunction() << "\", but got " << given;
  if (auto entry = getEntry()) {
    int64_t count = getConstants().size();
    if (entry->size() != 2 || (*entry)[0] < 0 || (*entry)[0] >= count || (*entry)[1] < 0)
      return emitOpError("expects entry [constant below ") << count << ", word], but got [" << *entry << "]";
  }
  return success();
}

ArrayRef<int64_t> LoopsOp::getStridesOf(size_t buffer) {
  size_t loops = getExtents().size();
  return getStrides().slice(buffer * loops, loops);
}

SmallVector<Value> LoopsOp::getBuffers() {
  SmallVector<Value> buffers(getInputs());
  llvm::append_range(buffers, getOutputs());
  return buffers;
}

bool LoopsOp::hasRowSums() { return !getBody().front().getOps<RowSumOp>().empty(); }

DenseSet<Value> LoopsOp::getRowValues() {
  DenseSet<Value> values;
  Block &body = getBody().front();
  for (BlockArgument argument : body.getArguments())
    if (getExtents().empty() || getStridesOf(argument.getArgNumber()).back() == 0)
      values.insert(argument);
  for (Operation &op : body.without_terminator())
    if (isa<RowSumOp>(op) || llvm::all_of(op.getOperands(), [&](Value operand) { return values.contains(operand); }))
      values.insert_range(op.getResults());
  return values;
}

LogicalResult LoopsOp::verify() {
  size_t loops = getExtents().size(), buffers = getInputs().size() + getOutputs().size();
  if (getStrides().size() != loops * buffers)
    return emitOpError("expects ") << loops * buffers << " strides, but got " << getStrides().size();
  Block &body = getBody().front();
  if (body.getNumArguments() != getInputs().size())
    return emitOpError("expects ") << getInputs().size() << " block arguments, but got " << body.getNumArguments();
  auto yield = dyn_cast_or_null<YieldOp>(body.empty() ? nullptr : &body.back());
  if (!yield || yield.getNumOperands() != getOutputs().size())
    return emitOpError("expects its body to yield ") << getOutputs().size() << " values";
  if (loops == 0 && hasRowSums())
    return emitOpError("expects a loop to sum over");
  if (getColumnSums() > getOutputs().size())
    return emitOpError("expects at most ") << getOutputs().size() << " column sums, but got " << getColumnSums();
  for (Value output : getOutputs().take_back(getColumnSums())) {
    auto type = cast<MemRefType>(output.getType());
    if (loops == 0 || type.getRank() != 2 || !type.getElementType().isF32() ||
        type.getDimSize(1) != getExtents().back())
      return emitOpError("expects a column sum of type memref<?x")
             << (loops ? getExtents().back() : 1) << "xf32>, but got " << type;
  }
  DenseSet<Value> rowValues = getRowValues();
  for (auto [index, value] : llvm::enumerate(yield.getOperands()))
    if (loops && getExtents().back() != 1 && getStridesOf(getInputs().size() + index).back() == 0 &&
        !rowValues.contains(value))
      return emitOpError("expects output ") << index << ", of stride 0 along the row, to take a value of the row";
  return success();
}
