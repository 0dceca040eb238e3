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
  /// Calls a function of the runtime's C ABI on pointers.
  void callRuntime(Location loc, StringRef function, ArrayRef<Value> buffers, ArrayRef<int64_t> constants,
                   std::optional<ArrayRef<int64_t>> entry = {});
  Value createStackSlot(Location loc, Type element, int64_t count);
  /// The constants with one of them taken from the attributes of the function's own call.
  Value createAttributes(Location loc, Value constants, int64_t count, ArrayRef<int64_t> entry);
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
  int64_t count = exec::getNumRuntimeBuffers(op.getFunction());
  SmallVector<Value> buffers;
  unsigned next = 0;
  for (int64_t i = 0; i < count; ++i) {
    bool present = !op.getPresent() || (*op.getPresent())[i] == 1;
    Value buffer = present ? op.getBuffers()[next++] : Value();
    if (kernels && buffer && getConstantSource(buffer))
      return op.emitOpError("expects a constant to be read by generated kernels alone, but it is an operand of ")
             << op.getFunction();
    buffers.push_back(buffer ? pointers.lookup(buffer) : LLVM::ZeroOp::create(*builder, op.getLoc(), pointer));
  }
  callRuntime(op.getLoc(), op.getFunction(), buffers, op.getConstants(), op.getEntry());
  return success();
}

/// One stack slot per call, in the entry block.
Value ConvertExecToLLVMPass::createStackSlot(Location loc, Type element, int64_t count) {
  OpBuilder::InsertionGuard guard(*builder);
  builder->setInsertionPointToStart(builder->getInsertionBlock());
  Value size = LLVM::ConstantOp::create(*builder, loc, builder->getI64IntegerAttr(count));
  return LLVM::AllocaOp::create(*builder, loc, pointer, element, size);
}

Value ConvertExecToLLVMPass::createAttributes(Location loc, Value constants, int64_t count, ArrayRef<int64_t> entry) {
  Type word = builder->getI64Type();
  Value attributes = createStackSlot(loc, word, count);
  Value bytes = LLVM::ConstantOp::create(*builder, loc, builder->getI64IntegerAttr(count * 8));
  LLVM::MemcpyOp::create(*builder, loc, attributes, constants, bytes, /*isVolatile=*/false);
  auto wordAt = [&](Value base, int64_t index) -> Value {
    return LLVM::GEPOp::create(*builder, loc, pointer, word, base, ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(index)});
  };
  Value value = LLVM::LoadOp::create(*builder, loc, word, wordAt(entryAttributes, entry[1]));
  LLVM::StoreOp::create(*builder, loc, value, wordAt(attributes, entry[0]));
  return attributes;
}

void ConvertExecToLLVMPass::callRuntime(Location loc, StringRef function, ArrayRef<Value> buffers,
                                        ArrayRef<int64_t> constants, std::optional<ArrayRef<int64_t>> entry) {
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
  if (entry)
    attributes = createAttributes(loc, attributes, constants.size(), *entry);
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
      if (!getConstantSource(buffer))
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

func::FuncOp ConvertExecToLLVMPass::createKernel(exec::LoopsOp op, ArrayRef<unsigned> pointerOf, unsigned numPointers) {
  Location loc = op.getLoc();
  OpBuilder::InsertionGuard guard(*builder);
  builder->setInsertionPointToEnd(getOperation().getBody());
  SmallVector<Type> types(numPointers, pointer);
  auto kernel = func::FuncOp::create(*builder, loc, ("kernel_" + Twine(numFunctions++)).str(),
                                     builder->getFunctionType(types, {}));
  kernel.setPrivate();
  for (unsigned i = 0; i < numPointers; ++i)
    kernel.setArgAttr(i, LLVM::LLVMDialect::getNoAliasAttrName(), builder->getUnitAttr());
  Block *entry = kernel.addEntryBlock();
  builder->setInsertionPointToStart(entry);
  auto index = [&](int64_t value) -> Value { return arith::ConstantIndexOp::create(*builder, loc, value); };
  LoopNest nest = simplifyLoops(op);
  Value zero = index(0), one = index(1);
  SmallVector<Value> counters;
  for (int64_t extent : nest.extents) {
    auto loop = scf::ForOp::create(*builder, loc, zero, index(extent), one);
    counters.push_back(loop.getInductionVar());
    builder->setInsertionPointToStart(loop.getBody());
  }
  auto addressOf = [&](unsigned buffer, Type element) -> Value {
    Value position;
    for (auto [counter, stride] : llvm::zip_equal(counters, nest.strides[buffer])) {
      if (stride == 0)
        continue;
      Value term = stride == 1 ? counter : arith::MulIOp::create(*builder, loc, counter, index(stride)).getResult();
      position = position ? arith::AddIOp::create(*builder, loc, position, term).getResult() : term;
    }
    Value base = entry->getArgument(pointerOf[buffer]);
    if (!position)
      return base;
    position = arith::IndexCastOp::create(*builder, loc, builder->getI64Type(), position);
    return LLVM::GEPOp::create(*builder, loc, pointer, element, base, ValueRange{position});
  };
  IRMapping scalars;
  Block &body = op.getBody().front();
  unsigned numInputs = op.getInputs().size();
  for (BlockArgument argument : body.getArguments())
    scalars.map(argument, LLVM::LoadOp::create(*builder, loc, argument.getType(),
                                               addressOf(argument.getArgNumber(), argument.getType()))
                              .getResult());
  for (Operation &scalar : body.without_terminator())
    builder->clone(scalar, scalars);
  for (auto [number, value] : llvm::enumerate(body.getTerminator()->getOperands()))
    LLVM::StoreOp::create(*builder, loc, scalars.lookupOrDefault(value),
                          addressOf(numInputs + number, value.getType()));
  builder->setInsertionPointToEnd(entry);
  func::ReturnOp::create(*builder, loc);
  return kernel;
}
