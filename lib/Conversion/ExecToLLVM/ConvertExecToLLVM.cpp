// Buffers → pointers. Loops become functions of their own: on a processor so that their pointers can be
// `noalias` and the vectorizer needs no run-time checks, on a GPU because they are kernels (GpuKernels.h).
#include "GpuKernels.h"
#include "LoopNest.h"
#include "galvatron/Conversion/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"

namespace galvatron {
#define GEN_PASS_DEF_CONVERTEXECTOLLVMPASS
#include "galvatron/Conversion/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;

namespace {

struct ConvertExecToLLVMPass : galvatron::impl::ConvertExecToLLVMPassBase<ConvertExecToLLVMPass> {
  using Base::Base;

  void runOnOperation() override {
    OpBuilder moduleBuilder(&getContext());
    moduleBuilder.setInsertionPointToEnd(getOperation().getBody());
    builder = &moduleBuilder;
    pointer = LLVM::LLVMPointerType::get(&getContext());
    getOperation()->removeAttr(exec::kGroups);
    if (getOperation()->removeAttr(exec::kDevice)) // absent for the processor
      kernels = ModuleOp::create(*builder, getOperation().getLoc(), exec::kKernels);
    for (auto function : llvm::make_early_inc_range(getOperation().getOps<exec::FunctionOp>()))
      if (failed(convertFunction(function)))
        return signalPassFailure();
  }

private:
  LogicalResult convertFunction(exec::FunctionOp function);
  LogicalResult convertCall(exec::CallOp op);
  /// Calls a function of the runtime's C ABI on pointers. `entry`: (constant, word) of the entry's attributes in its
  /// place.
  void callRuntime(Location loc, StringRef function, ArrayRef<Value> buffers, ArrayRef<int64_t> constants,
                   ArrayRef<std::pair<int64_t, int64_t>> entry = {});
  Value createStackSlot(Location loc, Type element, int64_t count);
  /// The constants with some of them taken from the attributes of the function's own call.
  Value createAttributes(Location loc, Value constants, int64_t count, ArrayRef<std::pair<int64_t, int64_t>> entry);
  void convertLoops(exec::LoopsOp op);
  func::FuncOp createKernel(exec::LoopsOp op, ArrayRef<unsigned> pointerOf, unsigned numPointers);
  /// An internal constant of the object, as a pointer.
  Value createConstant(Location loc, StringRef prefix, ElementsAttr value, Type arrayType);
  func::FuncOp declare(StringRef name, FunctionType type);

  OpBuilder *builder = nullptr;
  Type pointer;
  IRMapping pointers;             // memref → !llvm.ptr
  Value context, entryAttributes; // of the function under conversion
  /// Where generated kernels go; null where they are functions of the object.
  ModuleOp kernels;
  unsigned numConstants = 0, numFunctions = 0;
};

} // namespace

Value ConvertExecToLLVMPass::createConstant(Location loc, StringRef prefix, ElementsAttr value, Type arrayType) {
  std::string name = (prefix + Twine(numConstants++)).str();
  {
    OpBuilder::InsertionGuard guard(*builder);
    builder->setInsertionPointToStart(getOperation().getBody());
    LLVM::GlobalOp::create(*builder, loc, arrayType, /*isConstant=*/true, LLVM::Linkage::Private, name, value);
  }
  return LLVM::AddressOfOp::create(*builder, loc, pointer, name);
}

func::FuncOp ConvertExecToLLVMPass::declare(StringRef name, FunctionType type) {
  if (auto known = getOperation().lookupSymbol<func::FuncOp>(name))
    return known;
  OpBuilder::InsertionGuard guard(*builder);
  builder->setInsertionPointToStart(getOperation().getBody());
  auto function = func::FuncOp::create(*builder, getOperation().getLoc(), name, type);
  function.setPrivate();
  return function;
}

LogicalResult ConvertExecToLLVMPass::convertFunction(exec::FunctionOp function) {
  Location loc = function.getLoc();
  std::string name = function.getSymName().str();
  builder->setInsertionPoint(function);
  auto type = builder->getFunctionType({pointer, pointer, pointer}, {});
  auto body = func::FuncOp::create(*builder, loc, name, type);
  Block *block = body.addEntryBlock();
  builder->setInsertionPointToStart(block);
  context = block->getArgument(0);
  entryAttributes = block->getArgument(2);
  for (BlockArgument argument : function.getArguments()) {
    Value slot = LLVM::GEPOp::create(*builder, loc, pointer, pointer, block->getArgument(1),
                                     ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(argument.getArgNumber())});
    pointers.map(argument, LLVM::LoadOp::create(*builder, loc, pointer, slot).getResult());
  }
  for (Operation &op : function.getBody().front()) {
    if (auto buffer = dyn_cast<exec::BufferOp>(op)) {
      Value base = pointers.lookup(buffer.getBase());
      if (int64_t bytes = buffer.getOffset()) {
        Value amount = LLVM::ConstantOp::create(*builder, loc, builder->getI64IntegerAttr(bytes));
        base = LLVM::GEPOp::create(*builder, op.getLoc(), pointer, builder->getI8Type(), base, ValueRange{amount});
      }
      pointers.map(buffer.getResult(), base);
    } else if (auto constant = dyn_cast<exec::ConstantOp>(op)) {
      auto elements = cast<ElementsAttr>(constant.getValue());
      Type array = LLVM::LLVMArrayType::get(elements.getElementType(), elements.getNumElements());
      auto flat = cast<DenseElementsAttr>(elements).reshape(
          RankedTensorType::get({elements.getNumElements()}, elements.getElementType()));
      pointers.map(constant.getResult(), createConstant(op.getLoc(), "data_", flat, array));
    } else if (auto call = dyn_cast<exec::CallOp>(op)) {
      if (failed(convertCall(call)))
        return failure();
    } else if (auto loops = dyn_cast<exec::LoopsOp>(op)) {
      convertLoops(loops);
    }
  }
  func::ReturnOp::create(*builder, loc);
  function.erase();
  return success();
}

LogicalResult ConvertExecToLLVMPass::convertCall(exec::CallOp op) {
  int64_t count = exec::RuntimeFunction::find(op.getFunction())->numBuffers;
  SmallVector<Value> buffers;
  unsigned next = 0;
  for (int64_t i = 0; i < count; ++i) {
    bool present = !op.getPresent() || (*op.getPresent())[i] == 1;
    Value buffer = present ? op.getBuffers()[next++] : Value();
    if (kernels && buffer && exec::getConstantSource(buffer))
      return op.emitOpError("expects a constant to be read by generated kernels alone, but it is an operand of ")
             << op.getFunction();
    buffers.push_back(buffer ? pointers.lookup(buffer) : LLVM::ZeroOp::create(*builder, op.getLoc(), pointer));
  }
  SmallVector<std::pair<int64_t, int64_t>> entry;
  if (DictionaryAttr words = op.getEntryAttr())
    for (NamedAttribute word : words)
      entry.push_back({op.getWordIndex(word.getName()), cast<IntegerAttr>(word.getValue()).getInt()});
  callRuntime(op.getLoc(), op.getFunction(), buffers, op.getWords(), entry);
  return success();
}

/// One stack slot per call, in the entry block.
Value ConvertExecToLLVMPass::createStackSlot(Location loc, Type element, int64_t count) {
  OpBuilder::InsertionGuard guard(*builder);
  builder->setInsertionPointToStart(builder->getInsertionBlock());
  Value size = LLVM::ConstantOp::create(*builder, loc, builder->getI64IntegerAttr(count));
  return LLVM::AllocaOp::create(*builder, loc, pointer, element, size);
}

Value ConvertExecToLLVMPass::createAttributes(Location loc, Value constants, int64_t count,
                                              ArrayRef<std::pair<int64_t, int64_t>> entry) {
  Type word = builder->getI64Type();
  Value attributes = createStackSlot(loc, word, count);
  Value bytes = LLVM::ConstantOp::create(*builder, loc, builder->getI64IntegerAttr(count * 8));
  LLVM::MemcpyOp::create(*builder, loc, attributes, constants, bytes, /*isVolatile=*/false);
  auto wordAt = [&](Value base, int64_t index) -> Value {
    return LLVM::GEPOp::create(*builder, loc, pointer, word, base, ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(index)});
  };
  for (auto [constant, source] : entry) {
    Value value = LLVM::LoadOp::create(*builder, loc, word, wordAt(entryAttributes, source));
    LLVM::StoreOp::create(*builder, loc, value, wordAt(attributes, constant));
  }
  return attributes;
}

void ConvertExecToLLVMPass::callRuntime(Location loc, StringRef function, ArrayRef<Value> buffers,
                                        ArrayRef<int64_t> constants, ArrayRef<std::pair<int64_t, int64_t>> entry) {
  Value table = createStackSlot(loc, pointer, buffers.size());
  for (auto [i, buffer] : llvm::enumerate(buffers)) {
    Value slot =
        LLVM::GEPOp::create(*builder, loc, pointer, pointer, table, ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
    LLVM::StoreOp::create(*builder, loc, buffer, slot);
  }
  auto type = RankedTensorType::get({static_cast<int64_t>(constants.size())}, builder->getI64Type());
  Value attributes = constants.empty()
                         ? LLVM::ZeroOp::create(*builder, loc, pointer).getResult()
                         : createConstant(loc, "constants_", DenseElementsAttr::get(type, constants),
                                          LLVM::LLVMArrayType::get(builder->getI64Type(), constants.size()));
  if (!entry.empty())
    attributes = createAttributes(loc, attributes, constants.size(), entry);
  auto signature = builder->getFunctionType({pointer, pointer, pointer}, {});
  func::FuncOp callee = declare(("gvrt_" + function).str(), signature);
  func::CallOp::create(*builder, loc, callee, ValueRange{context, table, attributes});
}

void ConvertExecToLLVMPass::convertLoops(exec::LoopsOp op) {
  KernelPointers shared = collectPointers(op);
  if (kernels) {
    LaunchShape shape = createGpuKernel(op, shared, ("kernel_" + Twine(numFunctions)).str(), kernels);
    SmallVector<Value> operands;
    for (Value buffer : shared.distinct)
      if (!exec::getConstantSource(buffer))
        operands.push_back(pointers.lookup(buffer));
    int64_t count = operands.size();
    callRuntime(op.getLoc(), "launch", operands, {int64_t(numFunctions), shape.blocks, shape.threads, count});
    ++numFunctions;
  } else {
    func::FuncOp kernel = createKernel(op, shared.indexOf, shared.distinct.size());
    SmallVector<Value> operands;
    for (Value buffer : shared.distinct)
      operands.push_back(pointers.lookup(buffer));
    func::CallOp::create(*builder, op.getLoc(), kernel, operands);
  }
  ++numKernels;
}

namespace {

/// Fills a function of the object with the loops of one `exec.loops`.
class LoopEmitter {
public:
  LoopEmitter(OpBuilder &builder, exec::LoopsOp op, func::FuncOp kernel, ArrayRef<unsigned> pointerOf)
      : builder(builder), op(op), kernel(kernel), pointerOf(pointerOf), nest(simplifyLoops(op)), loc(op.getLoc()),
        body(op.getBody().front()), rowValues(op.getRowValues()) {}

  void emit();

private:
  Value index(int64_t value) { return arith::ConstantIndexOp::create(builder, loc, value); }
  scf::ForOp createLoop(int64_t extent, ValueRange carried = {}) {
    auto loop = scf::ForOp::create(builder, loc, index(0), index(extent), index(1), carried);
    builder.setInsertionPointToStart(loop.getBody());
    counters.push_back(loop.getInductionVar());
    return loop;
  }
  Value addressOf(unsigned buffer, Type element);
  /// Same for a whole row: computed once for it.
  bool isOfRow(Operation &scalar) {
    return llvm::all_of(scalar.getResults(), [&](Value result) { return rowValues.contains(result); });
  }
  void read(BlockArgument argument, IRMapping &scalars);
  /// The arguments that are the same for a whole row, or the others.
  void readArguments(bool ofRow, IRMapping &scalars) {
    for (BlockArgument argument : body.getArguments())
      if (rowValues.contains(argument) == ofRow)
        read(argument, scalars);
  }
  void write(unsigned output, IRMapping &scalars);
  void clearColumnSums();
  void emitRow();
  void emitSums(ArrayRef<exec::RowSumOp> sums, IRMapping &row);

  OpBuilder &builder;
  exec::LoopsOp op;
  func::FuncOp kernel;
  ArrayRef<unsigned> pointerOf;
  LoopNest nest;
  Location loc;
  Block &body;
  DenseSet<Value> rowValues;
  SmallVector<Value> counters;
};

} // namespace

Value LoopEmitter::addressOf(unsigned buffer, Type element) {
  Value position;
  for (auto [counter, stride] : llvm::zip(counters, nest.strides[buffer])) {
    if (stride == 0)
      continue;
    Value term = stride == 1 ? counter : arith::MulIOp::create(builder, loc, counter, index(stride)).getResult();
    position = position ? arith::AddIOp::create(builder, loc, position, term).getResult() : term;
  }
  Value base = kernel.getArgument(pointerOf[buffer]);
  if (!position)
    return base;
  position = arith::IndexCastOp::create(builder, loc, builder.getI64Type(), position);
  return LLVM::GEPOp::create(builder, loc, base.getType(), element, base, ValueRange{position});
}

void LoopEmitter::read(BlockArgument argument, IRMapping &scalars) {
  Type type = argument.getType();
  scalars.map(argument, LLVM::LoadOp::create(builder, loc, type, addressOf(argument.getArgNumber(), type)).getResult());
}

void LoopEmitter::write(unsigned output, IRMapping &scalars) {
  Value value = body.getTerminator()->getOperand(output), scalar = scalars.lookupOrDefault(value);
  Value address = addressOf(op.getInputs().size() + output, value.getType());
  if (output >= op.getFirstColumnSum()) {
    Value before = LLVM::LoadOp::create(builder, loc, value.getType(), address);
    scalar = arith::AddFOp::create(builder, loc, before, scalar);
  }
  LLVM::StoreOp::create(builder, loc, scalar, address);
}

/// All rows go into the first part of a sum over rows; the others are zero.
void LoopEmitter::clearColumnSums() {
  for (size_t output = op.getFirstColumnSum(); output < op.getOutputs().size(); ++output) {
    OpBuilder::InsertionGuard guard(builder);
    Value zero = arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(0));
    auto loop = scf::ForOp::create(
        builder, loc, index(0), index(cast<MemRefType>(op.getOutputs()[output].getType()).getNumElements()), index(1));
    builder.setInsertionPointToStart(loop.getBody());
    Value position = arith::IndexCastOp::create(builder, loc, builder.getI64Type(), loop.getInductionVar());
    Value base = kernel.getArgument(pointerOf[op.getInputs().size() + output]);
    Value address = LLVM::GEPOp::create(builder, loc, base.getType(), zero.getType(), base, ValueRange{position});
    LLVM::StoreOp::create(builder, loc, zero, address);
  }
}

/// One walk over the row for all of `sums`, which may be added up in any order: vectors of partial sums.
void LoopEmitter::emitSums(ArrayRef<exec::RowSumOp> sums, IRMapping &row) {
  SmallVector<Value> zeros(sums.size(), arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(0)));
  OpBuilder::InsertionGuard guard(builder);
  scf::ForOp loop = createLoop(nest.extents.back(), zeros);
  IRMapping scalars(row);
  readArguments(/*ofRow=*/false, scalars);
  for (Operation &scalar : body) {
    if (&scalar == sums.front())
      break;
    if (!isOfRow(scalar))
      builder.clone(scalar, scalars);
  }
  SmallVector<Value> totals;
  for (auto [sum, total] : llvm::zip_equal(sums, loop.getRegionIterArgs())) {
    Value term = scalars.lookupOrDefault(exec::RowSumOp(sum).getValue());
    totals.push_back(arith::AddFOp::create(builder, loc, total, term, arith::FastMathFlags::reassoc));
  }
  scf::YieldOp::create(builder, loc, totals);
  counters.pop_back();
  for (auto [sum, total] : llvm::zip_equal(sums, loop.getResults()))
    row.map(exec::RowSumOp(sum).getResult(), total);
}

void LoopEmitter::emitRow() {
  IRMapping row;
  readArguments(/*ofRow=*/true, row);
  for (auto it = body.begin(), end = std::prev(body.end()); it != end;) {
    if (SmallVector<exec::RowSumOp> sums = takeRowSums(it); !sums.empty()) {
      emitSums(sums, row);
      continue;
    }
    if (isOfRow(*it))
      builder.clone(*it, row);
    ++it;
  }
  auto isRowOutput = [&](unsigned output) { return nest.strides[op.getInputs().size() + output].back() == 0; };
  for (unsigned output = 0; output < op.getOutputs().size(); ++output)
    if (isRowOutput(output))
      write(output, row);
  createLoop(nest.extents.back());
  readArguments(/*ofRow=*/false, row);
  for (Operation &scalar : body.without_terminator())
    if (!isOfRow(scalar))
      builder.clone(scalar, row);
  for (unsigned output = 0; output < op.getOutputs().size(); ++output)
    if (!isRowOutput(output))
      write(output, row);
}

void LoopEmitter::emit() {
  Block *entry = kernel.addEntryBlock();
  builder.setInsertionPointToStart(entry);
  bool hasRows = op.hasRows();
  clearColumnSums();
  for (int64_t extent : ArrayRef(nest.extents).drop_back(hasRows))
    createLoop(extent);
  if (hasRows) {
    emitRow();
  } else {
    IRMapping scalars;
    for (BlockArgument argument : body.getArguments())
      read(argument, scalars);
    for (Operation &scalar : body.without_terminator())
      builder.clone(scalar, scalars);
    for (unsigned output = 0; output < op.getOutputs().size(); ++output)
      write(output, scalars);
  }
  builder.setInsertionPointToEnd(entry);
  func::ReturnOp::create(builder, loc);
}

func::FuncOp ConvertExecToLLVMPass::createKernel(exec::LoopsOp op, ArrayRef<unsigned> pointerOf, unsigned numPointers) {
  OpBuilder::InsertionGuard guard(*builder);
  builder->setInsertionPointToEnd(getOperation().getBody());
  SmallVector<Type> types(numPointers, pointer);
  auto kernel = func::FuncOp::create(*builder, op.getLoc(), ("kernel_" + Twine(numFunctions++)).str(),
                                     builder->getFunctionType(types, {}));
  kernel.setPrivate();
  for (unsigned i = 0; i < numPointers; ++i)
    kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), builder->getUnitAttr());
  LoopEmitter(*builder, op, kernel, pointerOf).emit();
  return kernel;
}
