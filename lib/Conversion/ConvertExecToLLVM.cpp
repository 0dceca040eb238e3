// Buffers → pointers. Loops become functions of their own, so that their pointers can be `noalias`
// and the vectorizer needs no run-time checks.
#include "dialects/Exec/Exec.h"
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

/// A loop nest with loops sorted and merged: extents, and per buffer one stride per loop.
struct Nest {
  SmallVector<int64_t> extents;
  SmallVector<SmallVector<int64_t>> strides; // [buffer][loop]
};

/// Loops of extent 1 vanish; the output's smallest stride comes innermost; neighbours that lie behind
/// one another in every buffer merge.
Nest simplify(exec::LoopsOp op) {
  size_t loops = op.getExtents().size(), buffers = op.getInputs().size() + op.getOutputs().size();
  SmallVector<size_t> order;
  for (size_t loop = 0; loop < loops; ++loop)
    if (op.getExtents()[loop] != 1)
      order.push_back(loop);
  auto strideOf = [&](size_t buffer, size_t loop) { return op.getStrides()[buffer * loops + loop]; };
  llvm::stable_sort(order, [&](size_t a, size_t b) { return strideOf(buffers - 1, a) > strideOf(buffers - 1, b); });
  Nest nest;
  nest.strides.resize(buffers);
  for (size_t loop : order) {
    bool merges = !nest.extents.empty();
    for (size_t buffer = 0; merges && buffer < buffers; ++buffer)
      merges = nest.strides[buffer].back() == strideOf(buffer, loop) * op.getExtents()[loop];
    if (!merges)
      nest.extents.push_back(1);
    nest.extents.back() *= op.getExtents()[loop];
    for (size_t buffer = 0; buffer < buffers; ++buffer) {
      if (!merges)
        nest.strides[buffer].push_back(0);
      nest.strides[buffer].back() = strideOf(buffer, loop);
    }
  }
  return nest;
}

struct ConvertExecToLLVMPass : galvatron::impl::ConvertExecToLLVMPassBase<ConvertExecToLLVMPass> {
  using Base::Base;

  void runOnOperation() override {
    OpBuilder moduleBuilder(&getContext());
    moduleBuilder.setInsertionPointToEnd(getOperation().getBody());
    builder = &moduleBuilder;
    pointer = LLVM::LLVMPointerType::get(&getContext());
    getOperation()->removeAttr(exec::kGroups);
    for (auto function : llvm::make_early_inc_range(getOperation().getOps<exec::FunctionOp>()))
      convertFunction(function);
  }

private:
  void convertFunction(exec::FunctionOp function);
  void convertCall(exec::CallOp op);
  void convertLoops(exec::LoopsOp op);
  func::FuncOp createKernel(exec::LoopsOp op, ArrayRef<unsigned> pointerOf, unsigned numPointers);
  /// An internal constant of the object, as a pointer.
  Value createConstant(Location loc, StringRef prefix, ElementsAttr value, Type arrayType);
  func::FuncOp declare(StringRef name, FunctionType type);

  OpBuilder *builder = nullptr;
  Type pointer;
  IRMapping pointers; // memref → !llvm.ptr
  Value context;
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

void ConvertExecToLLVMPass::convertFunction(exec::FunctionOp function) {
  Location loc = function.getLoc();
  std::string name = function.getSymName().str();
  builder->setInsertionPoint(function);
  auto type = builder->getFunctionType({pointer, pointer, pointer}, {});
  auto body = func::FuncOp::create(*builder, loc, name, type);
  Block *block = body.addEntryBlock();
  builder->setInsertionPointToStart(block);
  context = block->getArgument(0);
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
      convertCall(call);
    } else if (auto loops = dyn_cast<exec::LoopsOp>(op)) {
      convertLoops(loops);
    }
  }
  func::ReturnOp::create(*builder, loc);
  function.erase();
}

void ConvertExecToLLVMPass::convertCall(exec::CallOp op) {
  Location loc = op.getLoc();
  int64_t count = exec::getNumRuntimeBuffers(op.getFunction());
  Value table;
  {
    // One stack slot per call, in the entry block.
    OpBuilder::InsertionGuard guard(*builder);
    builder->setInsertionPointToStart(builder->getInsertionBlock());
    Value size = LLVM::ConstantOp::create(*builder, loc, builder->getI64IntegerAttr(count));
    table = LLVM::AllocaOp::create(*builder, loc, pointer, pointer, size);
  }
  unsigned next = 0;
  for (int64_t i = 0; i < count; ++i) {
    bool present = !op.getPresent() || (*op.getPresent())[i] == 1;
    Value buffer =
        present ? pointers.lookup(op.getBuffers()[next++]) : LLVM::ZeroOp::create(*builder, loc, pointer).getResult();
    Value slot =
        LLVM::GEPOp::create(*builder, loc, pointer, pointer, table, ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(i)});
    LLVM::StoreOp::create(*builder, loc, buffer, slot);
  }
  ArrayRef<int64_t> constants = op.getConstants();
  auto type = RankedTensorType::get({static_cast<int64_t>(constants.size())}, builder->getI64Type());
  Value attributes = constants.empty()
                         ? LLVM::ZeroOp::create(*builder, loc, pointer).getResult()
                         : createConstant(loc, "constants_", DenseElementsAttr::get(type, constants),
                                          LLVM::LLVMArrayType::get(builder->getI64Type(), constants.size()));
  auto signature = builder->getFunctionType({pointer, pointer, pointer}, {});
  func::FuncOp callee = declare(("gvrt_" + op.getFunction()).str(), signature);
  func::CallOp::create(*builder, loc, callee, ValueRange{context, table, attributes});
}

void ConvertExecToLLVMPass::convertLoops(exec::LoopsOp op) {
  // An input that is also an output shares its pointer.
  SmallVector<Value> distinct(op.getOutputs());
  SmallVector<unsigned> pointerOf;
  for (Value input : op.getInputs()) {
    auto found = llvm::find(distinct, input);
    pointerOf.push_back(found - distinct.begin());
    if (found == distinct.end())
      distinct.push_back(input);
  }
  for (unsigned output = 0; output < op.getOutputs().size(); ++output)
    pointerOf.push_back(output);
  func::FuncOp kernel = createKernel(op, pointerOf, distinct.size());
  SmallVector<Value> operands;
  for (Value buffer : distinct)
    operands.push_back(pointers.lookup(buffer));
  func::CallOp::create(*builder, op.getLoc(), kernel, operands);
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
  Nest nest = simplify(op);
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
