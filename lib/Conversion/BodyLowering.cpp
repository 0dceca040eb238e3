// The bookkeeping of BodyLowering.h: layouts, views, destinations.
#include "BodyLowering.h"

#include "GpuKernels.h"
#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphNorms.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "runtime/api/ElementType.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

Strides galvatron::rowMajorStrides(ArrayRef<int64_t> shape) {
  Strides strides(shape.size(), 1);
  for (int64_t dim = static_cast<int64_t>(shape.size()) - 2; dim >= 0; --dim)
    strides[dim] = strides[dim + 1] * shape[dim + 1];
  return strides;
}

Strides galvatron::stridesOf(Value memref) {
  SmallVector<int64_t> strides;
  int64_t offset;
  [[maybe_unused]] LogicalResult known = cast<MemRefType>(memref.getType()).getStridesAndOffset(strides, offset);
  assert(succeeded(known) && "layouts are static strides");
  return Strides(strides.begin(), strides.end());
}

ArrayRef<int64_t> galvatron::shapeOf(Value value) { return cast<ShapedType>(value.getType()).getShape(); }

bool galvatron::isRowMajor(ArrayRef<int64_t> shape, ArrayRef<int64_t> strides) {
  int64_t expected = 1;
  for (auto [extent, stride] : llvm::reverse(llvm::zip_equal(shape, strides))) {
    if (extent != 1 && stride != expected)
      return false;
    expected *= extent;
  }
  return true;
}

std::optional<Strides> galvatron::reshapedStrides(ArrayRef<int64_t> from, ArrayRef<int64_t> strides,
                                                  ArrayRef<int64_t> to) {
  // Walk both shapes from the minor end; `from` dimensions that lie behind one another merge.
  Strides result(to.size(), 0);
  int64_t i = from.size() - 1, j = to.size() - 1;
  while (i >= 0 || j >= 0) {
    while (i >= 0 && from[i] == 1)
      --i;
    // Any stride does for a dimension of extent 1; what lies inside it is as aligned as the rest, which libraries and
    // wide accesses ask of every stride.
    for (; j >= 0 && to[j] == 1; --j)
      result[j] = j + 1 < static_cast<int64_t>(to.size()) ? result[j + 1] * to[j + 1] : 1;
    if (i < 0 || j < 0)
      break;
    int64_t unit = strides[i], fromExtent = from[i], toExtent = 1;
    do {
      while (fromExtent % (toExtent * to[j]) != 0) {
        do
          --i;
        while (i >= 0 && from[i] == 1);
        if (i < 0 || strides[i] != unit * fromExtent)
          return std::nullopt;
        fromExtent *= from[i];
      }
      result[j] = unit * toExtent;
      toExtent *= to[j--];
    } while (toExtent != fromExtent && j >= 0);
    if (toExtent != fromExtent)
      return std::nullopt;
    --i;
  }
  return result;
}

int64_t galvatron::elementBytes(Type type) {
  return llvm::divideCeil(getElementTypeOrSelf(type).getIntOrFloatBitWidth(), 8);
}

int64_t galvatron::elementTypeCode(Type type) {
  Type element = getElementTypeOrSelf(type);
  return element.isBF16() ? GVRT_BF16 : isa<FloatType>(element) ? GVRT_F32 : GVRT_I64;
}

int64_t GroupTable::indexOf(ArrayRef<int64_t> axes) {
  for (auto [index, group] : llvm::enumerate(groups))
    if (ArrayRef<int64_t>(group) == axes)
      return index;
  groups.emplace_back(axes);
  return groups.size() - 1;
}

ArrayAttr GroupTable::getAttribute(Builder &builder) const {
  return builder.getArrayAttr(llvm::map_to_vector(
      groups, [&](ArrayRef<int64_t> axes) -> Attribute { return builder.getDenseI64ArrayAttr(axes); }));
}

static MemRefType memrefType(ShapedType tensor, ArrayRef<int64_t> strides) {
  if (strides == ArrayRef<int64_t>(rowMajorStrides(tensor.getShape())))
    return MemRefType::get(tensor.getShape(), tensor.getElementType());
  return MemRefType::get(tensor.getShape(), tensor.getElementType(),
                         StridedLayoutAttr::get(tensor.getContext(), 0, strides));
}

BodyLowering::BodyLowering(dist::BodyOp body, unsigned numAccumulated, unsigned numSaved,
                           ArrayRef<Strides> argumentStrides, GroupTable &groups, const DeviceTraits &device,
                           ArrayRef<std::string> lacking)
    : body(body), numAccumulated(numAccumulated), numSaved(numSaved), argumentStrides(argumentStrides), groups(groups),
      device(device), lacking(lacking), builder(body.getContext()) {}

Value BodyLowering::bufferOf(Value value) {
  auto found = buffers.find(value);
  if (found != buffers.end())
    return found->second;
  // An inlined elementwise value that a kernel wants after all (a constant, say).
  Operation *op = value.getDefiningOp();
  assert(op && isComputedInLoops(op) && "every value is lowered before its readers");
  if (failed(lowerElementwise(*this, op)))
    return {};
  return buffers.lookup(value);
}

Value BodyLowering::rowMajorBufferOf(Value value) {
  Value buffer = bufferOf(value);
  if (isRowMajor(shapeOf(buffer), stridesOf(buffer)))
    return buffer;
  auto type = cast<MemRefType>(buffer.getType());
  Value dense = createScratch(MemRefType::get(type.getShape(), type.getElementType()), value.getLoc());
  copy(value.getLoc(), buffer, dense);
  return dense;
}

Value BodyLowering::bufferWithUnitStride(Value value) {
  Value buffer = bufferOf(value);
  Strides strides = stridesOf(buffer);
  if (strides.empty() || strides.back() == 1 || shapeOf(buffer).back() == 1)
    return buffer;
  return rowMajorBufferOf(value);
}

Value BodyLowering::createScratch(MemRefType type, Location loc) {
  // `planScratch` gives the offset.
  return exec::BufferOp::create(builder, loc, type, scratch, 0);
}

SmallVector<int64_t> BodyLowering::preferredOrder(Value value) {
  for (Operation *user : value.getUsers())
    if (auto transpose = dyn_cast<graph::TransposeOp>(user))
      return llvm::to_vector(transpose.getPermutation());
  return {};
}

Strides BodyLowering::resultStridesOf(Value value) {
  Value piece = pieces.lookup(value);
  return piece ? stridesOf(piece) : rowMajorStrides(shapeOf(value));
}

Value BodyLowering::createResult(Value value, ArrayRef<int64_t> order) {
  if (Value piece = pieces.lookup(value)) {
    setBuffer(value, piece);
    return piece;
  }
  auto type = cast<RankedTensorType>(value.getType());
  Strides strides = rowMajorStrides(type.getShape());
  if (!order.empty()) {
    int64_t stride = 1;
    for (int64_t dim : llvm::reverse(order)) {
      strides[dim] = stride;
      stride *= type.getDimSize(dim);
    }
  }
  Value buffer;
  auto destination = destinations.find(value);
  if (destination != destinations.end()) {
    auto [base, free] = destination->second;
    if (!free)
      strides = rowMajorStrides(type.getShape());
    buffer = view(value.getLoc(), base, 0, type.getShape(), strides);
  } else {
    int64_t count = type.getNumElements();
    Value flat = createScratch(MemRefType::get({count}, type.getElementType()), value.getLoc());
    buffer = view(value.getLoc(), flat, 0, type.getShape(), strides);
  }
  setBuffer(value, buffer);
  return buffer;
}

Value BodyLowering::view(Location loc, Value base, int64_t elementOffset, ArrayRef<int64_t> shape,
                         ArrayRef<int64_t> strides) {
  auto from = cast<MemRefType>(base.getType());
  MemRefType type = memrefType(RankedTensorType::get(shape, from.getElementType()), strides);
  if (type == from && elementOffset == 0)
    return base;
  int64_t bytes = elementOffset * elementBytes(from);
  return exec::BufferOp::create(builder, loc, type, base, bytes);
}

int64_t BodyLowering::kernelType(Value value) const {
  int64_t type = elementTypeCode(value.getType());
  return type == GVRT_BF16 && !device.takesBf16 ? int64_t(GVRT_F32) : type;
}

DictionaryAttr BodyLowering::accumulateByEntry(Value value) {
  auto found = accumulated.find(value);
  if (found == accumulated.end())
    return {};
  writable.insert_range(found->second);
  return builder.getDictionaryAttr(
      builder.getNamedAttr("accumulate", builder.getI64IntegerAttr(found->second.front())));
}

void BodyLowering::call(Location loc, StringRef name, ValueRange operands, ArrayRef<exec::CallConstant> constants,
                        ArrayRef<int64_t> present, DictionaryAttr entry) {
  SmallVector<Value> buffers(operands);
  if (device.hasConstantsInKernels)
    for (Value &buffer : buffers)
      if (getConstantSource(buffer))
        buffer = copyByKernel(loc, buffer);
  exec::CallOp::create(builder, loc, name, buffers, constants,
                       present.empty() ? DenseI64ArrayAttr() : builder.getDenseI64ArrayAttr(present), entry);
}

/// In scratch, with the same strides; every element once.
Value BodyLowering::copyByKernel(Location loc, Value buffer) {
  SmallVector<int64_t> shape(shapeOf(buffer));
  Strides strides = stridesOf(buffer);
  int64_t extent = 1;
  for (auto [size, stride] : llvm::zip_equal(shape, strides)) {
    extent += (size - 1) * stride;
    size = stride ? size : 1;
  }
  Value flat = createScratch(MemRefType::get({extent}, cast<MemRefType>(buffer.getType()).getElementType()), loc);
  convert(loc, view(loc, buffer, 0, shape, strides), view(loc, flat, 0, shape, strides));
  return view(loc, flat, 0, shapeOf(buffer), strides);
}

void BodyLowering::callAtEnd(Location loc, StringRef name, ValueRange operands, ArrayRef<exec::CallConstant> constants,
                             DictionaryAttr entry) {
  call(loc, name, operands, constants, {}, entry);
  lastCalls.push_back(cast<exec::CallOp>(*std::prev(builder.getInsertionPoint())));
}

void BodyLowering::callKernel(Location loc, StringRef name, ValueRange operands, unsigned firstOutput,
                              ArrayRef<exec::CallConstant> constants, ArrayRef<int64_t> present, DictionaryAttr entry) {
  if (device.takesBf16)
    return call(loc, name, operands, constants, present, entry);
  SmallVector<Value> widened(operands);
  SmallVector<std::pair<Value, Value>> results; // wide, narrow
  for (auto [index, buffer] : llvm::enumerate(widened)) {
    auto type = cast<MemRefType>(buffer.getType());
    if (!type.getElementType().isBF16())
      continue;
    // Strides may leave gaps.
    int64_t extent = 1;
    for (auto [size, stride] : llvm::zip_equal(type.getShape(), stridesOf(buffer)))
      extent += (size - 1) * stride;
    Value wide = createScratch(MemRefType::get({extent}, builder.getF32Type()), loc);
    wide = view(loc, wide, 0, type.getShape(), stridesOf(buffer));
    if (index < firstOutput)
      convert(loc, buffer, wide);
    else
      results.push_back({wide, buffer});
    buffer = wide;
  }
  call(loc, name, widened, constants, present, entry);
  for (auto [wide, narrow] : results)
    convert(loc, wide, narrow);
}

void BodyLowering::copy(Location loc, Value from, Value to) {
  auto type = cast<MemRefType>(from.getType());
  call(loc, "copy", {from, to},
       {{"element_bytes", elementBytes(type)},
        {"rank", type.getRank()},
        {"extents", type.getShape()},
        {"x_strides", stridesOf(from)},
        {"y_strides", stridesOf(to)}});
}

/// The value whose buffer holds all of `value`, elements in the same places up to order: through
/// reshapes and transposes, but not slices.
static Value rootOf(Value value, bool throughTransposes) {
  while (Operation *op = value.getDefiningOp()) {
    if (isa<graph::ReshapeOp>(op) || (throughTransposes && isa<graph::TransposeOp>(op)))
      value = op->getOperand(0);
    else
      break;
  }
  return value;
}

/// Whether the producer can add to what the buffer holds.
static bool canAccumulate(Operation *op) {
  return isa<graph::EinsumOp, graph::NormWeightBackwardOp, graph::EmbeddingBackwardOp>(op) ||
         (isa<graph::ReduceOp>(op) && cast<graph::ReduceOp>(op).getKind() == graph::ReduceKind::Sum) ||
         isComputedInLoops(op);
}

/// Gradients of parameters that lie together are the rows of one product, which adds to all of them.
void BodyLowering::placeGradientsTogether() {
  Operation *terminator = body.getBody().front().getTerminator();
  unsigned numResults = terminator->getNumOperands(), numArguments = body.getNumArguments();
  for (unsigned i = numResults - numAccumulated; i < numResults; ++i) {
    auto slice = terminator->getOperand(i).getDefiningOp<graph::SliceOp>();
    if (!slice || !slice.getX().getDefiningOp() || !slice.getX().getDefiningOp()->hasAttr(dist::kAdjacentAttrName))
      continue;
    Value whole = slice.getX();
    if (!destinations.contains(whole)) {
      // The first piece stands where the whole begins.
      builder.setInsertionPointToEnd(&function.getBody().front());
      int64_t count = cast<ShapedType>(whole.getType()).getNumElements();
      Value buffer = view(whole.getLoc(), function.getArgument(numArguments + i), 0, {count}, {1});
      destinations[whole] = {buffer, false};
    }
    accumulated[whole].push_back(i - (numResults - numAccumulated));
    placed[i] = true;
  }
}

/// The buffer of a reshape's or transpose's operand, given that of its result; null where no strides say it.
static Value unviewed(BodyLowering &lowering, Operation *op, Value buffer) {
  Strides strides = stridesOf(buffer);
  ArrayRef<int64_t> shape = shapeOf(op->getOperand(0));
  if (auto transpose = dyn_cast<graph::TransposeOp>(op)) {
    Strides inner(strides.size());
    for (auto [dim, from] : llvm::enumerate(transpose.getPermutation()))
      inner[from] = strides[dim];
    return lowering.view(op->getLoc(), buffer, 0, shape, inner);
  }
  std::optional<Strides> inner = reshapedStrides(shapeOf(buffer), strides, shape);
  return inner ? lowering.view(op->getLoc(), buffer, 0, shape, *inner) : Value();
}

/// Lets what computes an operand of a concatenation write it there, if its kernel takes strides.
void BodyLowering::placePiece(graph::ConcatOp op, unsigned input, Value piece) {
  Value value = op.getInputs()[input];
  while (isa_and_nonnull<graph::ReshapeOp, graph::TransposeOp>(value.getDefiningOp())) {
    piece = unviewed(*this, value.getDefiningOp(), piece);
    value = value.getDefiningOp()->getOperand(0);
    if (!piece)
      return;
  }
  Operation *producer = value.getDefiningOp();
  if (!producer || destinations.contains(value) || pieces.contains(value))
    return;
  bool takesStrides = isa<graph::EinsumOp, graph::RopeOp, graph::AttentionBackwardOp>(producer) ||
                      (isComputedInLoops(producer) && !isInlined(value) && !isa<arith::ConstantOp>(producer));
  bool needsUnitStride = isa<graph::RopeOp, graph::AttentionBackwardOp>(producer);
  if (!takesStrides || (needsUnitStride && stridesOf(piece).back() != 1))
    return;
  pieces[value] = piece;
  piecesInPlace.insert({op, input});
}

void BodyLowering::placeConcatenations() {
  builder.setInsertionPointToEnd(&function.getBody().front());
  for (auto op : body.getBody().front().getOps<graph::ConcatOp>()) {
    if (op->hasAttr(dist::kAdjacentAttrName) || destinations.contains(op.getResult()))
      continue;
    auto type = cast<RankedTensorType>(op.getType());
    Value whole = createScratch(MemRefType::get(type.getShape(), type.getElementType()), op.getLoc());
    concatenations[op] = whole;
    int64_t offset = 0, unit = stridesOf(whole)[op.getDim()];
    for (auto [input, value] : llvm::enumerate(op.getInputs())) {
      placePiece(op, input, view(op.getLoc(), whole, offset, shapeOf(value), stridesOf(whole)));
      offset += unit * shapeOf(value)[op.getDim()];
    }
  }
}

void BodyLowering::chooseDestinations() {
  Operation *terminator = body.getBody().front().getTerminator();
  unsigned numResults = terminator->getNumOperands(), numArguments = body.getNumArguments();
  placed.assign(numResults, false);
  placeGradientsTogether();
  for (unsigned i = 0; i < numResults; ++i) {
    if (placed[i])
      continue;
    Value result = terminator->getOperand(i);
    bool saved = i >= numResults - numSaved;
    bool accumulate = i >= numResults - numAccumulated;
    Value root = rootOf(result, saved);
    Operation *producer = root.getDefiningOp();
    if (!producer || destinations.contains(root) ||
        isa<graph::SliceOp, graph::TransposeOp, arith::ConstantOp>(producer))
      continue;
    if (accumulate && (!canAccumulate(producer) || !root.hasOneUse() || !result.hasOneUse()))
      continue;
    if (isComputedInLoops(producer) && isInlined(root))
      continue;
    Value buffer = function.getArgument(numArguments + i);
    auto type = cast<RankedTensorType>(root.getType());
    builder.setInsertionPointToEnd(&function.getBody().front());
    buffer = view(root.getLoc(), buffer, 0, {type.getNumElements()}, {1});
    destinations[root] = {buffer, saved};
    if (accumulate)
      accumulated[root].push_back(i - (numResults - numAccumulated));
    placed[i] = true;
  }
}

void BodyLowering::finishResults() {
  for (exec::CallOp call : lastCalls)
    call->moveBefore(builder.getInsertionBlock(), builder.getInsertionPoint());
  Operation *terminator = body.getBody().front().getTerminator();
  unsigned numArguments = body.getNumArguments(), numResults = terminator->getNumOperands();
  for (unsigned i = 0; i < numResults; ++i) {
    Value result = terminator->getOperand(i), target = function.getArgument(numArguments + i);
    Location loc = result.getLoc();
    if (placed[i]) {
      Value buffer = bufferOf(result);
      resultStrides.push_back(stridesOf(buffer));
      continue;
    }
    resultStrides.push_back(rowMajorStrides(shapeOf(result)));
    if (i >= numResults - numAccumulated) {
      Value buffer = rowMajorBufferOf(result);
      call(loc, "accumulate", {buffer, target},
           {{"type", elementTypeCode(buffer.getType())},
            {"y_type", elementTypeCode(target.getType())},
            {"count", cast<ShapedType>(result.getType()).getNumElements()}});
    } else {
      copy(loc, bufferOf(result), target);
    }
  }
}

LogicalResult BodyLowering::lower(Operation *op) {
  bool handled = false;
  if (failed(lowerProductSum(*this, op, handled)))
    return failure();
  if (handled)
    return success();
  if (isComputedInLoops(op)) {
    if (llvm::all_of(op->getResults(), isInlined))
      return success();
    return lowerElementwise(*this, op);
  }
  if (isGeneratedNorm(op))
    return lowerGeneratedNorm(*this, op);
  if (isGeneratedColumnSum(*this, op))
    return lowerGeneratedColumnSum(*this, op);
  for (auto *lowerKind : {&lowerView, &lowerKernel, &lowerCollective}) {
    if (failed(lowerKind(*this, op, handled)))
      return failure();
    if (handled)
      return success();
  }
  return op->emitOpError("has no runtime function on this device");
}

LogicalResult BodyLowering::checkCalls(Operation *op, Operation *last) {
  Block &block = function.getBody().front();
  for (Operation &made : llvm::make_range(last ? std::next(Block::iterator(last)) : block.begin(), block.end()))
    if (auto call = dyn_cast<exec::CallOp>(made)) {
      StringRef name = call.getFunction();
      if (!device.hasFunction(name) || llvm::is_contained(lacking, name))
        return op->emitOpError("needs the runtime's function gvrt_")
               << name << ", which the " << device.name << " device lacks: define it there, or choose another --target";
      // A function would take what it reads for another type.
      if (name != "copy" && name != "shard")
        for (Value buffer : call.getBuffers())
          if (Type type = getElementTypeOrSelf(buffer.getType());
              type.isF64() || type.isF16() || type.isInteger(16) || type.isInteger(32))
            return op->emitOpError("is of ") << type << ", which gvrt_" << name
                                             << " does not compute with; convert it to float32 or int64 in the model";
    }
  return success();
}

FailureOr<exec::FunctionOp> BodyLowering::run() {
  builder.setInsertionPoint(body);
  SmallVector<Type> types;
  for (auto [index, type] : llvm::enumerate(body.getArgumentTypes())) {
    auto tensor = cast<RankedTensorType>(type);
    bool given = index < argumentStrides.size() && !argumentStrides[index].empty();
    types.push_back(memrefType(tensor, given ? argumentStrides[index] : rowMajorStrides(tensor.getShape())));
  }
  for (Type type : body.getResultTypes())
    types.push_back(memrefType(cast<RankedTensorType>(type), rowMajorStrides(cast<RankedTensorType>(type).getShape())));
  types.push_back(MemRefType::get({ShapedType::kDynamic}, builder.getI8Type()));
  function = exec::FunctionOp::create(builder, body.getLoc(), body.getSymName(), builder.getFunctionType(types, {}),
                                      StringAttr(), ArrayAttr(), ArrayAttr());
  Block *block = builder.createBlock(&function.getBody());
  for (Type type : types)
    block->addArgument(type, body.getLoc());
  scratch = block->getArguments().back();
  for (auto [argument, buffer] : llvm::zip(body.getArguments(), block->getArguments())) {
    setBuffer(argument, buffer);
    // A parameter's distribution is for the manifest.
    if (DictionaryAttr attributes = body.getArgAttrDict(argument.getArgNumber()))
      function.setArgAttrs(argument.getArgNumber(), attributes);
  }
  chooseDestinations();
  placeConcatenations();
  builder.setInsertionPointToEnd(block);
  for (Operation &op : body.getBody().front().without_terminator()) {
    Operation *last = block->empty() ? nullptr : &block->back();
    if (failed(lower(&op)) || failed(checkCalls(&op, last)))
      return failure();
  }
  Operation *last = block->empty() ? nullptr : &block->back();
  finishResults();
  if (failed(checkCalls(body.getBody().front().getTerminator(), last)))
    return failure();
  exec::ReturnOp::create(builder, body.getLoc());
  numFused = fuseLoops(function, body.getNumArguments());
  SmallVector<int64_t> adds;
  for (unsigned position = 0; position < numAccumulated; ++position)
    if (!writable.contains(position))
      adds.push_back(position);
  if (!adds.empty())
    function->setAttr(exec::kAdds, builder.getDenseI64ArrayAttr(adds));
  planScratch(function);
  return function;
}

SmallVector<int64_t> galvatron::positionMap(Operation *op, ArrayRef<int64_t> shape, ArrayRef<int64_t> dims) {
  SmallVector<int64_t> map;
  auto placement = op->getAttrOfType<dist::PlacementAttr>("dist.position");
  for (int64_t dim : dims) {
    if (!placement || dim < 0) {
      llvm::append_values(map, int64_t(1), dim < 0 ? int64_t(1) : shape[dim], int64_t(-1));
      continue;
    }
    int64_t first = 0;
    for (int64_t before = 0; before < dim; ++before)
      first += placement.getDigitsPerDim()[before];
    int64_t count = placement.getDigitsPerDim()[dim];
    map.push_back(count);
    for (int64_t digit = first; digit < first + count; ++digit)
      llvm::append_values(map, placement.getExtents()[digit], placement.getOwners()[digit]);
  }
  return map;
}
