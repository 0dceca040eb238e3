// Registration of the exec dialect and the checks of its ops.
#include "dialects/Exec/Exec.h"

#include "dialects/FunctionSyntax.h"

#include "mlir/IR/Builders.h"

#include "dialects/Exec/ExecDialect.cpp.inc"

/// `{M = 6, …}`, in any order.
static mlir::ParseResult parseConstants(mlir::OpAsmParser &parser, mlir::DictionaryAttr &constants, mlir::StringAttr) {
  mlir::NamedAttrList parsed;
  if (parser.parseOptionalAttrDict(parsed))
    return mlir::failure();
  constants = parsed.getDictionary(parser.getContext());
  return mlir::success();
}

/// In the order of Functions.def, without types, which that says.
static void printConstants(mlir::OpAsmPrinter &printer, mlir::Operation *, mlir::DictionaryAttr constants,
                           mlir::StringAttr function) {
  printer << "{";
  llvm::interleaveComma(galvatron::exec::RuntimeFunction::find(function)->constants, printer,
                        [&](const galvatron::exec::RuntimeConstant &constant) {
                          printer << constant.name << " = ";
                          printer.printAttributeWithoutType(constants.get(constant.name));
                        });
  printer << "}";
}

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

ConstantOp galvatron::exec::getConstantSource(Value buffer) {
  while (auto view = buffer.getDefiningOp<BufferOp>())
    buffer = view.getBase();
  return buffer.getDefiningOp<ConstantOp>();
}

void CallOp::build(OpBuilder &builder, OperationState &state, StringRef function, ValueRange buffers,
                   ArrayRef<CallConstant> constants, DenseI64ArrayAttr present, DictionaryAttr entry) {
  NamedAttrList attributes;
  for (const CallConstant &constant : constants)
    attributes.append(constant.toAttribute(builder));
  build(builder, state, TypeRange(), function, buffers, attributes.getDictionary(builder.getContext()), present, entry);
}

SmallVector<int64_t> CallOp::getWords() {
  SmallVector<int64_t> words;
  for (const RuntimeConstant &constant : RuntimeFunction::find(getFunction())->constants)
    llvm::append_range(words, *constant.wordsOf(getConstants().get(constant.name)));
  return words;
}

int64_t CallOp::getWordIndex(StringRef name) {
  int64_t index = 0;
  for (const RuntimeConstant &constant : RuntimeFunction::find(getFunction())->constants) {
    if (constant.name == name)
      break;
    index += constant.wordsOf(getConstants().get(constant.name))->size();
  }
  return index;
}

std::optional<int64_t> CallOp::getGroup() {
  auto group = getConstants().getAs<IntegerAttr>("group");
  return group ? std::optional(group.getInt()) : std::nullopt;
}

/// Each constant of Functions.def once, of its kind and length, and no other.
static LogicalResult verifyConstants(CallOp op, const RuntimeFunction &function) {
  DictionaryAttr constants = op.getConstants();
  auto of = [&](StringRef name) { return (name + " of \"" + op.getFunction() + "\"").str(); };
  for (NamedAttribute given : constants)
    if (!function.findConstant(given.getName())) {
      InFlightDiagnostic error = op.emitOpError("expects constants ");
      llvm::interleaveComma(function.constants, error, [&](const RuntimeConstant &known) { error << known.name; });
      return error << " of \"" << op.getFunction() << "\", but got " << given.getName().getValue();
    }
  for (const RuntimeConstant &constant : function.constants) {
    Attribute value = constants.get(constant.name);
    if (!value)
      return op.emitOpError("expects constant ") << of(constant.name) << ", but got none";
    std::optional<SmallVector<int64_t>> words = constant.wordsOf(value);
    if (!words)
      return op.emitOpError("expects constant ")
             << of(constant.name) << " to be " << (constant.isList() ? "an array of " : "")
             << (constant.kind == RuntimeConstant::Kind::Bits ? "f64" : "i64") << ", but got " << value;
    if (!constant.isWhole(*words, constants))
      return op.emitOpError("expects constant ")
             << of(constant.name) << " to be a " << (constant.kind == RuntimeConstant::Kind::Map ? "map" : "list")
             << " of length " << constant.count
             << (constant.wordsOfEach > 1 ? " x " + std::to_string(constant.wordsOfEach) : "") << ", but got " << value;
  }
  return success();
}

LogicalResult CallOp::verify() {
  const RuntimeFunction *function = RuntimeFunction::find(getFunction());
  if (!function)
    return emitOpError("expects a function of runtime/api/Functions.def, but got \"") << getFunction() << "\"";
  int64_t given = getBuffers().size(), expected = function->numBuffers;
  if (auto present = getPresent()) {
    if (static_cast<int64_t>(present->size()) != expected)
      return emitOpError("expects ") << expected << " entries in present, but got " << present->size();
    expected = llvm::count(*present, 1);
  }
  if (given != expected)
    return emitOpError("expects ") << expected << " buffers for \"" << getFunction() << "\", but got " << given;
  if (failed(verifyConstants(*this, *function)))
    return failure();
  for (NamedAttribute constant : getEntry().value_or(DictionaryAttr::get(getContext()))) {
    auto word = dyn_cast<IntegerAttr>(constant.getValue());
    if (!word || word.getInt() < 0 || !isa_and_nonnull<IntegerAttr>(getConstants().get(constant.getName())))
      return emitOpError("expects entry {number among the constants = word}, but got ")
             << constant.getName().getValue() << " = " << constant.getValue();
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
