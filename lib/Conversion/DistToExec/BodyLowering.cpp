// The bookkeeping of BodyLowering.h: buffers of values, calls, the order of ops.
#include "BodyLowering.h"

#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/Precision.h"

#include "runtime/api/ElementType.h"
#include "runtime/api/MeshAxisWord.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

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

BodyLowering::BodyLowering(dist::BodyOp body, unsigned numAccumulated, unsigned numSaved,
                           ArrayRef<Strides> argumentStrides, GroupTable &groups, const DeviceTraits &device,
                           ArrayRef<std::string> lacking)
    : body(body), numAccumulated(numAccumulated), numSaved(numSaved), argumentStrides(argumentStrides), groups(groups),
      device(device), lacking(lacking), builder(body.getContext()), buffers{builder, {}} {}

Value BodyLowering::bufferOf(Value value) {
  auto found = bufferOfValue.find(value);
  if (found != bufferOfValue.end())
    return found->second;
  // An inlined elementwise value that a kernel wants after all (a constant, say).
  Operation *op = value.getDefiningOp();
  assert(op && isComputedInLoops(op) && "every value is lowered before its readers");
  if (failed(lowerElementwise(*this, op)))
    return {};
  return bufferOfValue.lookup(value);
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

SmallVector<int64_t> BodyLowering::preferredOrder(Value value) {
  for (Operation *user : value.getUsers())
    if (auto transpose = dyn_cast<graph::TransposeOp>(user))
      return llvm::to_vector(transpose.getPermutation());
  return {};
}

Strides BodyLowering::resultStridesOf(Value value) {
  Value piece = places->getPiece(value);
  return piece ? stridesOf(piece) : rowMajorStrides(shapeOf(value));
}

Value BodyLowering::createResult(Value value, ArrayRef<int64_t> order) {
  if (Value piece = places->getPiece(value)) {
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
  if (const ResultPlaces::Destination *destination = places->findDestination(value)) {
    if (!destination->hasFreeOrder)
      strides = rowMajorStrides(type.getShape());
    buffer = view(value.getLoc(), destination->buffer, 0, type.getShape(), strides);
  } else {
    int64_t count = type.getNumElements();
    Value flat = createScratch(MemRefType::get({count}, type.getElementType()), value.getLoc());
    buffer = view(value.getLoc(), flat, 0, type.getShape(), strides);
  }
  setBuffer(value, buffer);
  return buffer;
}

int64_t BodyLowering::kernelType(Value value) const {
  int64_t type = elementTypeCode(value.getType());
  return isHalf(type) && !device.takesHalf ? int64_t(GVRT_F32) : type;
}

DictionaryAttr BodyLowering::accumulateByEntry(Value value) {
  ArrayRef<unsigned> parameters = places->getParameters(value);
  if (parameters.empty())
    return {};
  written.insert_range(parameters);
  return builder.getDictionaryAttr(builder.getNamedAttr("accumulate", builder.getI64IntegerAttr(parameters.front())));
}

void BodyLowering::call(Location loc, StringRef name, ValueRange operands, ArrayRef<exec::CallConstant> constants,
                        ArrayRef<int64_t> present, DictionaryAttr entry) {
  SmallVector<Value> buffers(operands);
  if (device.hasConstantsInKernels)
    for (Value &buffer : buffers)
      if (exec::getConstantSource(buffer))
        buffer = copyByKernel(loc, buffer);
  exec::CallOp::create(builder, loc, name, buffers, constants,
                       present.empty() ? DenseI64ArrayAttr() : builder.getDenseI64ArrayAttr(present), entry);
}

/// In scratch, with the same strides; every element once.
Value BodyLowering::copyByKernel(Location loc, Value buffer) {
  SmallVector<int64_t> shape(shapeOf(buffer));
  Strides strides = stridesOf(buffer);
  for (auto [size, stride] : llvm::zip_equal(shape, strides))
    size = stride ? size : 1;
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  Value flat = createScratch(MemRefType::get({spanOf(shapeOf(buffer), strides)}, element), loc);
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
  if (device.takesHalf)
    return call(loc, name, operands, constants, present, entry);
  SmallVector<Value> widened(operands);
  SmallVector<std::pair<Value, Value>> results; // wide, narrow
  for (auto [index, buffer] : llvm::enumerate(widened)) {
    auto type = cast<MemRefType>(buffer.getType());
    if (!graph::isHalf(type.getElementType()))
      continue;
    int64_t span = spanOf(type.getShape(), stridesOf(buffer));
    Value wide = createScratch(MemRefType::get({span}, builder.getF32Type()), loc);
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

void BodyLowering::finishResults() {
  for (exec::CallOp call : lastCalls)
    call->moveBefore(builder.getInsertionBlock(), builder.getInsertionPoint());
  Operation *terminator = body.getBody().front().getTerminator();
  for (auto [i, result] : llvm::enumerate(terminator->getOperands())) {
    Value target = places->getResultBuffer(i);
    Location loc = result.getLoc();
    if (places->isInPlace(i)) {
      resultStrides.push_back(stridesOf(bufferOf(result)));
      continue;
    }
    resultStrides.push_back(rowMajorStrides(shapeOf(result)));
    if (places->getParameter(i)) {
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
              type.isF64() || type.isInteger(16) || type.isInteger(32))
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
  buffers.scratch = block->getArguments().back();
  for (auto [argument, buffer] : llvm::zip(body.getArguments(), block->getArguments())) {
    setBuffer(argument, buffer);
    // A parameter's distribution is for the manifest.
    if (DictionaryAttr attributes = body.getArgAttrDict(argument.getArgNumber()))
      function.setArgAttrs(argument.getArgNumber(), attributes);
  }
  if (device.hasFunction("document_attention") && device.hasFunction("document_attention_backward") &&
      !llvm::is_contained(lacking, "document_attention"))
    documentMasks = takeDocumentMasks(body);
  places.emplace(body, function, buffers, numAccumulated, numSaved);
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
  for (unsigned index = 0; index < numAccumulated; ++index)
    if (!written.contains(index))
      adds.push_back(index);
  if (!adds.empty())
    function->setAttr(exec::kAdds, builder.getDenseI64ArrayAttr(adds));
  planScratch(function);
  return function;
}

SmallVector<int64_t> galvatron::positionMap(Operation *op, ArrayRef<int64_t> shape, ArrayRef<int64_t> dims) {
  auto turn = op->getAttrOfType<DenseI64ArrayAttr>(dist::kTurnAttrName);
  return positionMap(op->getAttrOfType<dist::PlacementAttr>(dist::kPositionAttrName),
                     turn ? turn.asArrayRef() : ArrayRef<int64_t>(), shape, dims);
}

SmallVector<int64_t> galvatron::positionMap(dist::PlacementAttr placement, ArrayRef<int64_t> turn,
                                            ArrayRef<int64_t> shape, ArrayRef<int64_t> dims) {
  SmallVector<int64_t> map;
  for (int64_t dim : dims) {
    if (!placement || dim < 0) {
      llvm::append_values(map, int64_t(1), dim < 0 ? int64_t(1) : shape[dim], int64_t(-1));
      continue;
    }
    int64_t first = 0;
    for (int64_t before = 0; before < dim; ++before)
      first += placement.getSubAxesPerDim()[before];
    int64_t count = placement.getSubAxesPerDim()[dim];
    map.push_back(count);
    for (int64_t subAxis = first; subAxis < first + count; ++subAxis) {
      int64_t axis = placement.getMeshAxes()[subAxis];
      bool mirrored = llvm::is_contained(placement.getMirroredAxes(), axis);
      int64_t turned = axis >= 0 && !turn.empty() ? turn[axis] : 0;
      llvm::append_values(map, placement.getExtents()[subAxis], meshAxisWord(axis, mirrored, turned));
    }
  }
  return map;
}
