// Kernels with sums along rows (`exec.row_sum`) and over rows (column sums).
//
// A row's elements are read once and stay in registers, a few runs with each thread: a block takes a row, or, where
// rows are short, a part of a warp does and a block takes several. A sum is added up in the thread, by shuffles in
// the warp and, where a row has several warps, through shared memory, in the same order every time:
//
//   thread   r0 + r1 + …          runs t, t + threads, t + 2·threads …
//   warp     butterfly of 32, 16, … lanes
//   block    warp 0 + warp 1 + …  by every thread
//
// Threads beyond the end of a row read its last run again and add nothing.
//
// With sums over rows there are as many blocks as the sums have parts; each walks its rows and keeps its part of every
// sum in registers until the end.
#include "GpuKernels.h"
#include "KernelBuilder.h"
#include "galvatron/Kernels/DeviceTraits.h"

using namespace mlir;
using namespace galvatron;

static constexpr int64_t kWarp = 32;
static constexpr int64_t kMostThreads = 1024;
/// Elements of one buffer that a thread holds, if that leaves no more than `kThreads` threads a row; with sums over
/// rows, which it holds, too.
static constexpr int64_t kElementsPerThread = 16, kSummedElementsPerThread = 8;
static constexpr unsigned kSharedMemory = 3; // NVPTX address space

void KernelBuilder::chooseRowShape() {
  rowRuns = nest.extents.back() / run;
  int64_t wanted = llvm::divideCeil(rowRuns, kThreads);
  int64_t elements = op.getColumnSums() > 0 ? kSummedElementsPerThread : kElementsPerThread;
  threadRuns = std::min(wanted, std::max<int64_t>(elements / run, 1));
  threadRuns = std::max<int64_t>(threadRuns, llvm::divideCeil(rowRuns, kMostThreads));
  rowThreads = llvm::divideCeil(rowRuns, threadRuns);
  if (rowThreads > kWarp || op.getColumnSums() > 0) {
    rowThreads = llvm::alignTo(rowThreads, kWarp);
    return;
  }
  rowThreads = llvm::PowerOf2Ceil(rowThreads);
  blockRows = kThreads / rowThreads;
}

void KernelBuilder::emitIf(Value condition, llvm::function_ref<void()> body) {
  if (!condition)
    return body();
  Block *before = builder.getInsertionBlock();
  Region &region = function.getBody();
  Block *then = builder.createBlock(&region, region.end()), *next = builder.createBlock(&region, region.end());
  builder.setInsertionPointToEnd(before);
  LLVM::CondBrOp::create(builder, loc, condition, then, next);
  builder.setInsertionPointToStart(then);
  body();
  LLVM::BrOp::create(builder, loc, ValueRange{}, next);
  builder.setInsertionPointToStart(next);
}

/// The sum over groups of `threads` neighbouring lanes, in all of them.
Value KernelBuilder::shuffleSum(Value value, int64_t threads) {
  Type word = builder.getI32Type();
  for (int64_t distance = threads / 2; distance > 0; distance /= 2) {
    Value other = LLVM::CallIntrinsicOp::create(
                      builder, loc, builder.getF32Type(), builder.getStringAttr("llvm.nvvm.shfl.sync.bfly.f32"),
                      ValueRange{constant(word, -1), value, constant(word, distance), constant(word, kWarp - 1)})
                      .getResult(0);
    value = arith::AddFOp::create(builder, loc, value, other);
  }
  return value;
}

/// Address of shared float `first + index`.
Value KernelBuilder::sharedSlot(int64_t first, Value index) {
  auto type = LLVM::LLVMPointerType::get(builder.getContext(), kSharedMemory);
  Value base = LLVM::AddressOfOp::create(builder, loc, type, shared.getSymName());
  Value number = arith::AddIOp::create(builder, loc, index, constant(builder.getI32Type(), first));
  return LLVM::GEPOp::create(builder, loc, type, builder.getF32Type(), base, ValueRange{number});
}

/// Sums over the row of what each of its threads has, for several sums at once.
SmallVector<Value> KernelBuilder::sumOverRow(ArrayRef<Value> partial) {
  SmallVector<Value> sums;
  for (Value value : partial)
    sums.push_back(shuffleSum(value, std::min(rowThreads, kWarp)));
  if (rowThreads <= kWarp)
    return sums;
  int64_t warps = rowThreads / kWarp, first = numShared;
  numShared += warps * static_cast<int64_t>(sums.size());
  Type word = builder.getI32Type();
  Value lane = arith::AndIOp::create(builder, loc, threadNumber, constant(word, kWarp - 1));
  Value warp = arith::DivUIOp::create(builder, loc, threadNumber, constant(word, kWarp));
  Value isFirst = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, lane, constant(word, 0));
  emitIf(isFirst, [&] {
    for (auto [i, sum] : llvm::enumerate(sums))
      LLVM::StoreOp::create(builder, loc, sum, sharedSlot(first + static_cast<int64_t>(i) * warps, warp));
  });
  barrier();
  for (auto [i, sum] : llvm::enumerate(sums)) {
    Value total;
    for (int64_t w = 0; w < warps; ++w) {
      Value slot = sharedSlot(first + static_cast<int64_t>(i) * warps, constant(word, w));
      Value one = LLVM::LoadOp::create(builder, loc, builder.getF32Type(), slot);
      total = total ? arith::AddFOp::create(builder, loc, total, one).getResult() : one;
    }
    sum = total;
  }
  return sums;
}

void KernelBuilder::computeRow(MutableArrayRef<IRMapping> elements, ArrayRef<Value> isInside) {
  DenseSet<Value> rowValues = op.getRowValues();
  Value zero = arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(0));
  Block &body = op.getBody().front();
  auto partialSum = [&](exec::RowSumOp sum) {
    Value total = zero;
    for (int64_t r = 0; r < threadRuns; ++r) {
      Value ofRun;
      for (int64_t i = 0; i < run; ++i) {
        Value value = elements[r * run + i].lookupOrDefault(sum.getValue());
        ofRun = ofRun ? arith::AddFOp::create(builder, loc, ofRun, value).getResult() : value;
      }
      if (isInside[r])
        ofRun = arith::SelectOp::create(builder, loc, isInside[r], ofRun, zero);
      total = r ? arith::AddFOp::create(builder, loc, total, ofRun).getResult() : ofRun;
    }
    return total;
  };
  for (auto it = body.begin(), end = std::prev(body.end()); it != end;) {
    if (SmallVector<exec::RowSumOp> together = takeRowSums(it); !together.empty()) {
      SmallVector<Value> sums = sumOverRow(llvm::map_to_vector(together, partialSum));
      for (auto [sum, value] : llvm::zip_equal(together, sums))
        for (IRMapping &map : elements)
          map.map(sum.getResult(), value);
      continue;
    }
    Operation &scalar = *it++;
    bool isOnce = llvm::all_of(scalar.getResults(), [&](Value result) { return rowValues.contains(result); });
    cloneScalar(scalar, elements.front());
    for (IRMapping &map : elements.drop_front())
      if (!isOnce)
        cloneScalar(scalar, map);
      else
        for (Value result : scalar.getResults())
          map.map(result, elements.front().lookup(result));
  }
}

void KernelBuilder::barrier() {
  LLVM::CallIntrinsicOp::create(builder, loc, builder.getStringAttr("llvm.nvvm.barrier.cta.sync.aligned.all"),
                                ValueRange{constant(builder.getI32Type(), 0)});
}

/// `counters`: of the row; the innermost is set here.
void KernelBuilder::loadRow(MutableArrayRef<IRMapping> elements, SmallVector<Value> counters, ArrayRef<Value> columns) {
  Block &body = op.getBody().front();
  for (unsigned input = 0; input < op.getInputs().size(); ++input)
    for (int64_t r = 0; r < threadRuns; ++r) {
      counters.back() = columns[r];
      SmallVector<Value> loaded = load(input, addressOf(input, counters));
      for (int64_t i = 0; i < run; ++i)
        elements[r * run + i].map(body.getArgument(input), loaded[i]);
    }
}

void KernelBuilder::storeRow(MutableArrayRef<IRMapping> elements, SmallVector<Value> counters, ArrayRef<Value> columns,
                             ArrayRef<Value> isInside, Value isRow) {
  auto both = [&](Value a, Value b) -> Value {
    return a && b ? arith::AndIOp::create(builder, loc, a, b).getResult() : a ? a : b;
  };
  Operation *yield = op.getBody().front().getTerminator();
  unsigned numInputs = op.getInputs().size(), numOutputs = op.getFirstColumnSum();
  SmallVector<unsigned> whole, ofRow;
  for (unsigned output = 0; output < numOutputs; ++output)
    (isRowOutput(numInputs + output) ? ofRow : whole).push_back(output);
  for (int64_t r = 0; !whole.empty() && r < threadRuns; ++r)
    emitIf(both(isInside[r], isRow), [&] {
      counters.back() = columns[r];
      for (unsigned output : whole) {
        SmallVector<Value> results;
        for (int64_t i = 0; i < run; ++i)
          results.push_back(elements[r * run + i].lookupOrDefault(yield->getOperand(output)));
        store(numInputs + output, addressOf(numInputs + output, counters), results);
      }
    });
  if (ofRow.empty())
    return;
  Value lane = threadNumber;
  if (blockRows > 1)
    lane = arith::AndIOp::create(builder, loc, threadNumber, constant(builder.getI32Type(), rowThreads - 1));
  Value isFirst =
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, lane, constant(builder.getI32Type(), 0));
  emitIf(both(isFirst, isRow), [&] {
    for (unsigned output : ofRow) {
      Value value = elements.front().lookupOrDefault(yield->getOperand(output));
      LLVM::StoreOp::create(builder, loc, value, addressOf(numInputs + output, counters));
    }
  });
}

/// Launch and function; `indexType` and `shared` follow.
LaunchShape KernelBuilder::startRows(StringRef name, int64_t rows) {
  int64_t numSums = op.getColumnSums();
  LaunchShape shape{static_cast<int64_t>(llvm::divideCeil(rows, blockRows)), rowThreads * blockRows};
  for (Value sum : op.getOutputs().take_back(numSums))
    shape.blocks = cast<MemRefType>(sum.getType()).getDimSize(0);
  indexType = builder.getIntegerType((rows + shape.blocks) * nest.extents.back() < (int64_t(1) << 31) ? 32 : 64);
  createFunction(name);
  SmallVector<Attribute> limits = {builder.getStrArrayAttr({"nvvm.maxntid", std::to_string(shape.threads)})};
  if (numSums)
    limits.push_back(builder.getStrArrayAttr({"nvvm.minctasm", std::to_string(rowBlocks(shape.threads))}));
  function.setPassthroughAttr(builder.getArrayAttr(limits));
  if (rowThreads > kWarp && op.hasRowSums()) {
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(kernels.getBody());
    shared = LLVM::GlobalOp::create(builder, loc, LLVM::LLVMArrayType::get(builder.getF32Type(), 1),
                                    /*isConstant=*/false, LLVM::Linkage::Internal, (name + "_shared").str(),
                                    Attribute(), /*alignment=*/16, kSharedMemory);
  }
  return shape;
}

Value KernelBuilder::widen(Value value) {
  return indexType.getWidth() == 32 ? value : arith::ExtUIOp::create(builder, loc, indexType, value).getResult();
}

KernelBuilder::RowPlace KernelBuilder::placeThread(int64_t rows) {
  Type word = builder.getI32Type();
  threadNumber = special("llvm.nvvm.read.ptx.sreg.tid.x");
  RowPlace place;
  place.block = widen(special("llvm.nvvm.read.ptx.sreg.ctaid.x"));
  place.row = place.block;
  Value inRow = threadNumber;
  if (blockRows > 1) {
    inRow = arith::AndIOp::create(builder, loc, threadNumber, constant(word, rowThreads - 1));
    Value number = arith::DivUIOp::create(builder, loc, threadNumber, constant(word, rowThreads));
    Value first = arith::MulIOp::create(builder, loc, place.row, constant(indexType, blockRows));
    place.row = arith::AddIOp::create(builder, loc, first, widen(number));
    if (rows % blockRows) {
      place.isRow =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, place.row, constant(indexType, rows));
      place.row = arith::MinUIOp::create(builder, loc, place.row, constant(indexType, rows - 1));
    }
  }
  for (int64_t r = 0; r < threadRuns; ++r) {
    Value number = inRow;
    if (r)
      number = arith::AddIOp::create(builder, loc, inRow, constant(word, r * rowThreads));
    place.isInside.push_back({});
    if ((r + 1) * rowThreads > rowRuns) {
      place.isInside.back() =
          arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, number, constant(word, rowRuns));
      number = arith::MinUIOp::create(builder, loc, number, constant(word, rowRuns - 1));
    }
    place.columns.push_back(widen(arith::MulIOp::create(builder, loc, number, constant(word, run))));
  }
  return place;
}

/// A block's rows: row, row + blocks, row + 2·blocks, …; the loop carries one sum for each element, from 0 on.
Block *KernelBuilder::enterRowLoop(Value &row, MutableArrayRef<Value> sums) {
  SmallVector<Value> start = {row};
  start.append(sums.size(), arith::ConstantOp::create(builder, loc, builder.getF32FloatAttr(0)));
  Block *before = builder.getInsertionBlock();
  Region &region = function.getBody();
  Block *loop = builder.createBlock(&region, region.end());
  row = loop->addArgument(indexType, loc);
  for (Value &sum : sums)
    sum = loop->addArgument(builder.getF32Type(), loc);
  builder.setInsertionPointToEnd(before);
  LLVM::BrOp::create(builder, loc, start, loop);
  builder.setInsertionPointToStart(loop);
  return loop;
}

/// Adds the row's terms to `sums`, and goes on with the block's next row, if there is one, else after the loop.
void KernelBuilder::leaveRowLoop(Block *loop, Value row, MutableArrayRef<Value> sums, ArrayRef<IRMapping> elements,
                                 int64_t rows, int64_t blocks) {
  Operation *yield = op.getBody().front().getTerminator();
  for (int64_t sum = 0; sum < op.getColumnSums(); ++sum)
    for (auto [e, element] : llvm::enumerate(elements)) {
      Value &total = sums[sum * elements.size() + e];
      Value term = element.lookupOrDefault(yield->getOperand(op.getFirstColumnSum() + sum));
      total = arith::AddFOp::create(builder, loc, total, term);
    }
  if (shared)
    barrier(); // everyone has read what the next row writes
  SmallVector<Value> next = {arith::AddIOp::create(builder, loc, row, constant(indexType, blocks))};
  Value isMore =
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult, next.front(), constant(indexType, rows));
  llvm::append_range(next, sums);
  Block *last = builder.getInsertionBlock();
  Region &region = function.getBody();
  Block *exit = builder.createBlock(&region, region.end());
  builder.setInsertionPointToEnd(last);
  LLVM::CondBrOp::create(builder, loc, isMore, loop, next, exit, ValueRange{});
  builder.setInsertionPointToStart(exit);
}

LaunchShape KernelBuilder::buildRows(StringRef name) {
  chooseRun();
  chooseRowShape();
  ArrayRef<int64_t> outer = ArrayRef(nest.extents).drop_back();
  int64_t rows = llvm::product_of(outer);
  LaunchShape shape = startRows(name, rows);
  RowPlace place = placeThread(rows);
  SmallVector<IRMapping> elements(threadRuns * run);
  SmallVector<Value> sums(op.getColumnSums() * elements.size());
  Block *loop = sums.empty() ? nullptr : enterRowLoop(place.row, sums);
  SmallVector<Value> counters = countersOf(place.row, outer);
  counters.push_back({});
  loadRow(elements, counters, place.columns);
  computeRow(elements, place.isInside);
  if (shared)
    shared.setGlobalTypeAttr(TypeAttr::get(LLVM::LLVMArrayType::get(builder.getF32Type(), numShared)));
  storeRow(elements, counters, place.columns, place.isInside, place.isRow);
  if (loop) {
    leaveRowLoop(loop, place.row, sums, elements, rows, shape.blocks);
    storeColumnSums(sums, place.block, place.columns, place.isInside);
  }
  LLVM::ReturnOp::create(builder, loc, ValueRange{});
  return shape;
}

/// This block's part of the sums over rows.
void KernelBuilder::storeColumnSums(ArrayRef<Value> sums, Value block, ArrayRef<Value> columns,
                                    ArrayRef<Value> isInside) {
  int64_t numElements = threadRuns * run;
  Value first = arith::MulIOp::create(builder, loc, block, constant(indexType, nest.extents.back()));
  for (int64_t r = 0; r < threadRuns; ++r)
    emitIf(isInside[r], [&] {
      SmallVector<Value> counters(nest.extents.size(), constant(indexType, 0));
      counters.back() = arith::AddIOp::create(builder, loc, first, columns[r]);
      for (auto [sum, output] : llvm::enumerate(llvm::seq(op.getFirstColumnSum(), op.getOutputs().size()))) {
        unsigned buffer = op.getInputs().size() + output;
        store(buffer, addressOf(buffer, counters), sums.slice(sum * numElements + r * run, run));
      }
    });
}
