// See GpuKernels.h. The shape of the code: index of the run → offsets by division with constants → vector
// loads → the scalar ops once an element → vector stores.
#include "GpuKernels.h"
#include "KernelBuilder.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <numbers>
#include <numeric>

using namespace mlir;
using namespace galvatron;

/// Runs a thread computes where there are enough to fill the GPU: independent loads hide memory's latency.
static constexpr int64_t kRunsPerThread = 4;
/// From so many runs on a GPU is full with one thread for every `kRunsPerThread` (132 multiprocessors of 2048).
static constexpr int64_t kManyRuns = int64_t(132) * 2048 * kRunsPerThread;
static constexpr unsigned kGlobalMemory = 1; // NVPTX address space

/// Bytes that the buffer's address is surely a multiple of: arguments but data are buffers of the arena.
static int64_t alignmentOf(Value buffer) {
  int64_t offset = 0;
  while (auto view = buffer.getDefiningOp<exec::BufferOp>()) {
    offset += view.getOffset();
    buffer = view.getBase();
  }
  // Integers are data: micro-batches lie one after another without padding.
  bool isData = isa<BlockArgument>(buffer) && getElementTypeOrSelf(buffer.getType()).isInteger(64);
  return std::gcd(isData ? int64_t(8) : exec::kBufferAlignment, offset);
}

static int64_t bytesOf(Type element) { return llvm::divideCeil(element.getIntOrFloatBitWidth(), 8); }

/// Whether every run of the buffer starts at a multiple of its own size, up to an access.
bool KernelBuilder::isRunAligned(unsigned buffer) {
  int64_t bytes = bytesOf(elementOf(buffer)), access = std::min(run * bytes, kAccessBytes);
  if (alignmentOf(buffers[buffer]) % access != 0)
    return false;
  return llvm::all_of(ArrayRef(nest.strides[buffer]).drop_back(),
                      [&](int64_t stride) { return stride * bytes % access == 0; });
}

void KernelBuilder::chooseRun() {
  if (nest.extents.empty())
    return;
  int64_t narrowest = kAccessBytes;
  for (unsigned buffer = 0; buffer < buffers.size(); ++buffer)
    if (innerStride(buffer) == 1 && elementOf(buffer).getIntOrFloatBitWidth() >= 16)
      narrowest = std::min(narrowest, bytesOf(elementOf(buffer)));
  run = kAccessBytes / narrowest;
  while (run > 1 && nest.extents.back() % run != 0)
    run /= 2;
  for (unsigned output = op.getInputs().size(); output < buffers.size(); ++output)
    while (run > 1 && !isRowOutput(output) && (innerStride(output) != 1 || !isRunAligned(output)))
      run /= 2;
}

void KernelBuilder::createFunction(StringRef name) {
  auto global = LLVM::LLVMPointerType::get(builder.getContext(), kGlobalMemory);
  SmallVector<Type> types;
  for (Value buffer : pointers.distinct)
    if (!exec::getConstantSource(buffer))
      types.push_back(global);
  builder.setInsertionPointToEnd(kernels.getBody());
  function = LLVM::LLVMFuncOp::create(builder, loc, name,
                                      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(builder.getContext()), types),
                                      LLVM::Linkage::External, /*dsoLocal=*/false, LLVM::cconv::CConv::PTX_Kernel);
  Block *entry = function.addEntryBlock(builder);
  builder.setInsertionPointToStart(entry);
  unsigned next = 0, numOutputs = op.getOutputs().size();
  for (auto [index, buffer] : llvm::enumerate(pointers.distinct)) {
    if (exec::ConstantOp source = exec::getConstantSource(buffer)) {
      auto elements = cast<DenseElementsAttr>(source.getValue());
      int64_t count = elements.getNumElements();
      std::string symbol = (name + "_data_" + Twine(index)).str();
      {
        OpBuilder::InsertionGuard guard(builder);
        builder.setInsertionPointToStart(kernels.getBody());
        LLVM::GlobalOp::create(builder, loc, LLVM::LLVMArrayType::get(elements.getElementType(), count),
                               /*isConstant=*/true, LLVM::Linkage::Internal, symbol,
                               elements.reshape(RankedTensorType::get({count}, elements.getElementType())),
                               /*alignment=*/exec::kBufferAlignment, kGlobalMemory);
      }
      Value base = LLVM::AddressOfOp::create(builder, loc, global, symbol);
      int64_t offset = 0;
      for (Value view = buffer; auto bufferOp = view.getDefiningOp<exec::BufferOp>(); view = bufferOp.getBase())
        offset += bufferOp.getOffset();
      bases.push_back(LLVM::GEPOp::create(builder, loc, global, builder.getI8Type(), base,
                                          ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(offset)}));
      continue;
    }
    function.setArgAttr(next, LLVM::LLVMDialect::getNoAliasAttrName(), builder.getUnitAttr());
    if (index >= numOutputs)
      function.setArgAttr(next, LLVM::LLVMDialect::getReadonlyAttrName(), builder.getUnitAttr());
    bases.push_back(entry->getArgument(next++));
  }
}

Value KernelBuilder::special(StringRef intrinsic) {
  return LLVM::CallIntrinsicOp::create(builder, loc, builder.getI32Type(), builder.getStringAttr(intrinsic),
                                       ValueRange{})
      .getResult(0);
}

/// `first` plus thread plus block times the block's runs.
Value KernelBuilder::threadIndex(int64_t first) {
  Value thread = special("llvm.nvvm.read.ptx.sreg.tid.x"), block = special("llvm.nvvm.read.ptx.sreg.ctaid.x");
  if (indexType.getWidth() == 64) {
    thread = arith::ExtUIOp::create(builder, loc, indexType, thread);
    block = arith::ExtUIOp::create(builder, loc, indexType, block);
  }
  Value start = arith::MulIOp::create(builder, loc, block, constant(indexType, first));
  return arith::AddIOp::create(builder, loc, start, thread);
}

Value KernelBuilder::addressOf(unsigned buffer, ArrayRef<Value> counters) {
  Value position;
  for (auto [counter, stride] : llvm::zip_equal(counters, nest.strides[buffer])) {
    if (stride == 0)
      continue;
    Value wide = counter;
    if (indexType.getWidth() != 64)
      wide = arith::ExtUIOp::create(builder, loc, builder.getI64Type(), counter);
    Value term = stride == 1
                     ? wide
                     : arith::MulIOp::create(builder, loc, wide, constant(builder.getI64Type(), stride)).getResult();
    position = position ? arith::AddIOp::create(builder, loc, position, term).getResult() : term;
  }
  Value base = bases[pointers.indexOf[buffer]];
  if (!position)
    return base;
  return LLVM::GEPOp::create(builder, loc, base.getType(), storedType(elementOf(buffer)), base, ValueRange{position});
}

Value KernelBuilder::elementAddress(unsigned buffer, Value address, int64_t element) {
  int64_t offset = element * innerStride(buffer);
  if (offset == 0)
    return address;
  return LLVM::GEPOp::create(builder, loc, address.getType(), storedType(elementOf(buffer)), address,
                             ValueRange{constant(builder.getI64Type(), offset)});
}

Value KernelBuilder::fromStored(Value stored, Type element) {
  if (!element.isInteger(1))
    return stored;
  return arith::TruncIOp::create(builder, loc, element, stored);
}

SmallVector<Value> KernelBuilder::load(unsigned buffer, Value address) {
  Type element = elementOf(buffer), stored = storedType(element);
  SmallVector<Value> elements;
  if (run == 1 || innerStride(buffer) == 0) {
    Value value = fromStored(LLVM::LoadOp::create(builder, loc, stored, address), element);
    elements.assign(run, value);
  } else if (innerStride(buffer) == 1 && isRunAligned(buffer)) {
    auto vector = VectorType::get({run}, stored);
    unsigned alignment = std::min(run * bytesOf(element), kAccessBytes);
    Value all = LLVM::LoadOp::create(builder, loc, vector, address, alignment);
    for (int64_t i = 0; i < run; ++i)
      elements.push_back(
          fromStored(LLVM::ExtractElementOp::create(builder, loc, all, constant(builder.getI32Type(), i)), element));
  } else {
    for (int64_t i = 0; i < run; ++i)
      elements.push_back(
          fromStored(LLVM::LoadOp::create(builder, loc, stored, elementAddress(buffer, address, i)), element));
  }
  return elements;
}

void KernelBuilder::store(unsigned buffer, Value address, ArrayRef<Value> elements) {
  Type element = elementOf(buffer), stored = storedType(element);
  SmallVector<Value> bytes(elements);
  if (stored != element)
    for (Value &value : bytes)
      value = arith::ExtUIOp::create(builder, loc, stored, value);
  if (run == 1) {
    LLVM::StoreOp::create(builder, loc, bytes.front(), address);
    return;
  }
  Value all = LLVM::PoisonOp::create(builder, loc, VectorType::get({run}, stored));
  for (auto [i, value] : llvm::enumerate(bytes))
    all = LLVM::InsertElementOp::create(builder, loc, all, value, constant(builder.getI32Type(), i));
  LLVM::StoreOp::create(builder, loc, all, address, std::min(run * bytesOf(element), kAccessBytes));
}

/// Exponentials, logarithms and quotients through the GPU's approximations (2 units in the last place or
/// better, CUDA C Programming Guide, "Intrinsic Functions"); sine and cosine, too, of what is left of an angle after
/// whole turns are taken off in double precision (5e-7 in all); everything else as it is.
void KernelBuilder::cloneScalar(Operation &scalar, IRMapping &map) {
  auto isSingle = [](Value value) { return value.getType().isF32(); };
  auto number = [&](double value) -> Value {
    return arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(value));
  };
  auto intrinsic = [&](StringRef name, Value x) {
    return LLVM::CallIntrinsicOp::create(builder, loc, builder.getF32Type(), builder.getStringAttr(name), ValueRange{x})
        .getResult(0);
  };
  auto operand = [&](unsigned i) { return map.lookupOrDefault(scalar.getOperand(i)); };
  if (isa<math::ExpOp>(scalar) && isSingle(scalar.getResult(0))) {
    Value scaled = arith::MulFOp::create(builder, loc, operand(0), number(std::numbers::log2e));
    map.map(scalar.getResult(0), intrinsic("llvm.nvvm.ex2.approx", scaled));
  } else if (isa<math::LogOp>(scalar) && isSingle(scalar.getResult(0))) {
    Value binary = intrinsic("llvm.nvvm.lg2.approx.f", operand(0));
    map.map(scalar.getResult(0), arith::MulFOp::create(builder, loc, binary, number(std::numbers::ln2)));
  } else if (isa<math::RsqrtOp>(scalar) && isSingle(scalar.getResult(0))) {
    map.map(scalar.getResult(0), intrinsic("llvm.nvvm.rsqrt.approx.f", operand(0)));
  } else if (isa<math::TanhOp>(scalar) && isSingle(scalar.getResult(0))) {
    // 1 - 2/(1 + e^2x): right to 2e-7, at both infinities, too.
    Value scaled = arith::MulFOp::create(builder, loc, operand(0), number(2 * std::numbers::log2e));
    Value exponential = intrinsic("llvm.nvvm.ex2.approx", scaled);
    Value reciprocal =
        intrinsic("llvm.nvvm.rcp.approx.ftz.f", arith::AddFOp::create(builder, loc, exponential, number(1)));
    Value twice = arith::MulFOp::create(builder, loc, reciprocal, number(2));
    map.map(scalar.getResult(0), arith::SubFOp::create(builder, loc, number(1), twice));
  } else if (isa<math::SinOp, math::CosOp>(scalar)) {
    Type type = scalar.getResult(0).getType(), wide = builder.getF64Type();
    auto wideNumber = [&](double value) -> Value {
      return arith::ConstantOp::create(builder, loc, builder.getF64FloatAttr(value));
    };
    Value angle = operand(0);
    if (type != wide)
      angle = arith::ExtFOp::create(builder, loc, wide, angle);
    Value turns = arith::MulFOp::create(builder, loc, angle, wideNumber(0.5 * std::numbers::inv_pi));
    Value whole = arith::MulFOp::create(builder, loc, math::RoundEvenOp::create(builder, loc, turns),
                                        wideNumber(2 * std::numbers::pi));
    Value left = arith::SubFOp::create(builder, loc, angle, whole);
    Value single = arith::TruncFOp::create(builder, loc, builder.getF32Type(), left);
    Value result = intrinsic(isa<math::SinOp>(scalar) ? "llvm.nvvm.sin.approx.f" : "llvm.nvvm.cos.approx.f", single);
    if (type == wide)
      result = arith::ExtFOp::create(builder, loc, type, result);
    else if (!type.isF32())
      result = arith::TruncFOp::create(builder, loc, type, result);
    map.map(scalar.getResult(0), result);
  } else if (isa<arith::DivFOp>(scalar) && isSingle(scalar.getResult(0))) {
    Value reciprocal = intrinsic("llvm.nvvm.rcp.approx.ftz.f", operand(1));
    map.map(scalar.getResult(0), arith::MulFOp::create(builder, loc, operand(0), reciprocal));
  } else {
    builder.clone(scalar, map);
  }
}

SmallVector<Value> KernelBuilder::countersOf(Value index, ArrayRef<int64_t> extents) {
  SmallVector<Value> counters(extents.size());
  Value rest = index;
  for (int64_t loop = static_cast<int64_t>(extents.size()) - 1; loop >= 0; --loop) {
    Value counter = rest;
    if (loop > 0) {
      Value divisor = constant(indexType, extents[loop]);
      counter = arith::RemUIOp::create(builder, loc, rest, divisor);
      rest = arith::DivUIOp::create(builder, loc, rest, divisor);
    }
    counters[loop] = counter;
  }
  return counters;
}

void KernelBuilder::computeRun(Value index) {
  // The innermost loop counts runs.
  SmallVector<int64_t> extents(nest.extents);
  if (!extents.empty())
    extents.back() /= run;
  SmallVector<Value> counters = countersOf(index, extents);
  if (run > 1)
    counters.back() = arith::MulIOp::create(builder, loc, counters.back(), constant(indexType, run));
  unsigned numInputs = op.getInputs().size(), numOutputs = op.getOutputs().size();
  SmallVector<SmallVector<Value>> loaded;
  for (unsigned input = 0; input < numInputs; ++input)
    loaded.push_back(load(input, addressOf(input, counters)));
  Block &body = op.getBody().front();
  SmallVector<SmallVector<Value>> results(numOutputs);
  for (int64_t i = 0; i < run; ++i) {
    IRMapping map;
    for (BlockArgument argument : body.getArguments())
      map.map(argument, loaded[argument.getArgNumber()][i]);
    for (Operation &scalar : body.without_terminator())
      cloneScalar(scalar, map);
    for (auto [output, value] : llvm::enumerate(body.getTerminator()->getOperands()))
      results[output].push_back(map.lookupOrDefault(value));
  }
  for (unsigned output = 0; output < numOutputs; ++output)
    store(numInputs + output, addressOf(numInputs + output, counters), results[output]);
}

LaunchShape KernelBuilder::build(StringRef name) {
  chooseRun();
  int64_t elements = 1;
  for (int64_t extent : nest.extents)
    elements *= extent;
  int64_t runs = elements / run, perThread = runs >= kManyRuns ? kRunsPerThread : 1;
  LaunchShape shape;
  shape.threads = std::min(kThreads, runs);
  int64_t perBlock = shape.threads * perThread;
  shape.blocks = llvm::divideCeil(runs, perBlock);
  indexType = builder.getIntegerType(shape.blocks * perBlock < (int64_t(1) << 31) ? 32 : 64);
  createFunction(name);
  Value first = threadIndex(perBlock);
  bool isExact = shape.blocks * perBlock == runs;
  for (int64_t step = 0; step < perThread; ++step) {
    Value index = first;
    if (step)
      index = arith::AddIOp::create(builder, loc, first, constant(indexType, step * shape.threads));
    if (isExact) {
      computeRun(index);
      continue;
    }
    Region &region = function.getBody();
    Block *compute = builder.createBlock(&region, region.end()), *next = builder.createBlock(&region, region.end());
    builder.setInsertionPointToEnd(compute->getPrevNode());
    Value isInside = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, index, constant(indexType, runs));
    LLVM::CondBrOp::create(builder, loc, isInside, compute, next);
    builder.setInsertionPointToStart(compute);
    computeRun(index);
    LLVM::BrOp::create(builder, loc, ValueRange{}, next);
    builder.setInsertionPointToStart(next);
  }
  LLVM::ReturnOp::create(builder, loc, ValueRange{});
  return shape;
}

LaunchShape galvatron::createGpuKernel(exec::LoopsOp op, const KernelPointers &pointers, StringRef name,
                                       ModuleOp kernels) {
  KernelBuilder kernel(op, pointers, kernels);
  return op.hasRows() ? kernel.buildRows(name) : kernel.build(name);
}
