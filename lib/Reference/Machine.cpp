// Pieces and collectives. Groups reduce in the order of their positions on every device, so that
// replicas are bitwise equal here and any difference between them is an error of the program.
#include "Machine.h"

#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace galvatron;
using namespace galvatron::reference;
using namespace mlir;

//===----------------------------------------------------------------------===//
// Positions
//===----------------------------------------------------------------------===//

int64_t Position::globalIndex(unsigned dim, int64_t local) const {
  if (dim >= dims.size() || dims[dim].empty())
    return local;
  // Minor to major: local sub-axes take their part of `local`.
  SmallVector<int64_t> indices(dims[dim].size());
  for (auto [subAxis, index] : llvm::reverse(llvm::zip(dims[dim], indices))) {
    index = subAxis.index ? *subAxis.index : local % subAxis.extent;
    if (!subAxis.index)
      local /= subAxis.extent;
  }
  int64_t global = 0, before = 0;
  for (auto [subAxis, index] : llvm::zip(dims[dim], indices)) {
    if (!subAxis.mirrored)
      before = index;
    else if (before % 2 != 0)
      index = subAxis.extent - 1 - index;
    global = global * subAxis.extent + index;
  }
  return global;
}

int64_t Position::globalExtent(unsigned dim, int64_t localExtent) const {
  if (dim >= dims.size() || dims[dim].empty())
    return localExtent;
  int64_t extent = 1;
  for (const SubAxis &subAxis : dims[dim])
    extent *= subAxis.extent;
  return extent;
}

uint64_t Position::globalElement(ArrayRef<int64_t> index, ArrayRef<int64_t> localShape) const {
  uint64_t element = 0;
  for (auto [dim, at] : llvm::enumerate(index))
    element = element * globalExtent(dim, localShape[dim]) + globalIndex(dim, at);
  return element;
}

SmallVector<int64_t> Machine::coordinates(int64_t device) const {
  SmallVector<int64_t> coordinates(mesh.size());
  for (int64_t axis = int64_t(mesh.size()) - 1; axis >= 0; --axis) {
    coordinates[axis] = device % mesh[axis];
    device /= mesh[axis];
  }
  return coordinates;
}

int64_t Machine::device(ArrayRef<int64_t> coordinates) const {
  int64_t device = 0;
  for (auto [axis, coordinate] : llvm::enumerate(coordinates))
    device = device * mesh[axis] + coordinate;
  return device;
}

SmallVector<int64_t> Machine::group(int64_t member, ArrayRef<int64_t> axes) const {
  SmallVector<int64_t> at = coordinates(member), sizes, members;
  for (int64_t axis : axes)
    sizes.push_back(mesh[axis]);
  forEachIndex(sizes, [&](ArrayRef<int64_t> index, int64_t) {
    for (auto [axis, coordinate] : llvm::zip(axes, index))
      at[axis] = coordinate;
    members.push_back(device(at));
  });
  return members;
}

int64_t Machine::turned(int64_t from, ArrayRef<int64_t> turn) const {
  SmallVector<int64_t> at = coordinates(from);
  for (auto [axis, less] : llvm::enumerate(turn))
    at[axis] = (at[axis] + mesh[axis] - less) % mesh[axis];
  return device(at);
}

Position Machine::position(dist::PlacementAttr placement, int64_t device, int64_t microBatch) const {
  Position position;
  if (!placement)
    return position;
  SmallVector<int64_t> at = coordinates(device);
  for (const dist::DimSubAxes &subAxes : placement.getDims()) {
    auto &dim = position.dims.emplace_back();
    for (const dist::SubAxis &subAxis : subAxes) {
      std::optional<int64_t> index;
      if (subAxis.meshAxis == dist::PlacementAttr::kTime)
        index = microBatch;
      else if (subAxis.meshAxis != dist::PlacementAttr::kLocal)
        index = at[subAxis.meshAxis];
      dim.push_back({subAxis.extent, index, subAxis.mirrored});
    }
  }
  return position;
}

//===----------------------------------------------------------------------===//
// Global tensors and their pieces
//===----------------------------------------------------------------------===//

/// Calls `body` with the positions of each element of a piece there and in the global tensor.
static void forEachOfPiece(ArrayRef<int64_t> localShape, const Position &position,
                           function_ref<void(int64_t local, int64_t global)> body) {
  forEachIndex(localShape,
               [&](ArrayRef<int64_t> index, int64_t local) { body(local, position.globalElement(index, localShape)); });
}

/// The same device with coordinate 0 on the axes that a placement has no word for: the first of its
/// replicas.
static int64_t firstReplica(const Machine &machine, dist::PlacementAttr placement, int64_t device) {
  SmallVector<int64_t> at = machine.coordinates(device);
  for (auto [axis, coordinate] : llvm::enumerate(at))
    if (!placement || (!llvm::is_contained(placement.getMeshAxes(), int64_t(axis)) &&
                       !llvm::is_contained(placement.getPartialAxes(), int64_t(axis))))
      coordinate = 0;
  return machine.device(at);
}

DeviceTensors Machine::scatter(const Tensor &global, dist::PlacementAttr placement, int64_t microBatch) const {
  if (!placement)
    return DeviceTensors(numDevices(), global);
  DeviceTensors pieces;
  for (int64_t device = 0; device < numDevices(); ++device) {
    Tensor piece(placement.getLocalShape());
    SmallVector<int64_t> at = coordinates(device);
    bool isFirst = llvm::all_of(placement.getPartialAxes(),
                                [&](int64_t axis) { return axis == dist::PlacementAttr::kTime || at[axis] == 0; });
    if (isFirst)
      forEachOfPiece(piece.shape, position(placement, device, microBatch),
                     [&](int64_t local, int64_t element) { piece[local] = global[element]; });
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

LogicalResult Machine::gather(Location loc, const DeviceTensors &pieces, dist::PlacementAttr placement,
                              int64_t microBatch, Tensor &global, StringRef what) const {
  bool isMax = placement && llvm::is_contained(placement.getPartialKinds(), int64_t(graph::ReduceKind::Max));
  for (int64_t device = 0; device < numDevices(); ++device) {
    const Tensor &piece = pieces[device];
    if (int64_t first = firstReplica(*this, placement, device); first != device) {
      if (piece.data != pieces[first].data)
        return emitError(loc) << "expects equal replicas" << what << ", but devices " << first << " and " << device
                              << " differ in micro-batch " << microBatch;
      continue;
    }
    forEachOfPiece(piece.shape, position(placement, device, microBatch), [&](int64_t local, int64_t element) {
      global[element] = isMax ? std::max(global[element], piece[local]) : global[element] + piece[local];
    });
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

/// Which of a group's pieces stands at a place among them.
static int64_t pieceAt(int64_t place, int64_t outerIndex, int64_t parts, bool mirrored) {
  return mirrored && outerIndex % 2 != 0 ? parts - 1 - place : place;
}

/// A dimension cut at [outer][parts][inner]: piece `part`, [outer][inner].
static Tensor cut(const Tensor &x, int64_t dim, int64_t outer, int64_t parts, int64_t part, bool mirrored = false) {
  Shape shape = x.shape;
  shape[dim] /= parts;
  int64_t inner = shape[dim] / outer;
  Tensor piece(shape);
  Shape strides = stridesOf(x.shape);
  forEachIndex(shape, [&](ArrayRef<int64_t> index, int64_t i) {
    Shape from(index);
    int64_t place = pieceAt(part, index[dim] / inner, parts, mirrored);
    from[dim] = (index[dim] / inner * parts + place) * inner + index[dim] % inner;
    int64_t offset = 0;
    for (auto [at, stride] : llvm::zip(from, strides))
      offset += at * stride;
    piece[i] = x[offset];
  });
  return piece;
}

/// The inverse of `cut`.
static Tensor join(ArrayRef<Tensor> pieces, int64_t dim, int64_t outer, bool mirrored) {
  Shape shape = pieces[0].shape;
  int64_t parts = pieces.size(), inner = shape[dim] / outer;
  shape[dim] *= parts;
  Tensor x(shape);
  Shape strides = stridesOf(pieces[0].shape);
  forEachIndex(shape, [&](ArrayRef<int64_t> index, int64_t i) {
    Shape from(index);
    int64_t part = pieceAt(index[dim] / inner % parts, index[dim] / inner / parts, parts, mirrored);
    from[dim] = index[dim] / (inner * parts) * inner + index[dim] % inner;
    int64_t offset = 0;
    for (auto [at, stride] : llvm::zip(from, strides))
      offset += at * stride;
    x[i] = pieces[part][offset];
  });
  return x;
}

static Tensor reduce(const DeviceTensors &x, ArrayRef<int64_t> members, graph::ReduceKind kind) {
  Tensor result = x[members[0]];
  for (int64_t member : members.drop_front())
    for (auto [a, b] : llvm::zip_equal(result.data, x[member].data))
      a = kind == graph::ReduceKind::Max ? std::max(a, b) : a + b;
  return result;
}

static LogicalResult refuseSources(Operation *op, int64_t size, ArrayRef<int64_t> sources) {
  return op->emitOpError("expects a source for each of ") << size << " devices, but got " << sources.size();
}

FailureOr<DeviceTensors> Machine::runCollective(Operation *op, const DeviceTensors &x, unsigned index) const {
  auto axes = op->getAttrOfType<DenseI64ArrayAttr>("axes").asArrayRef();
  for (int64_t axis : axes)
    if (axis < 0 || axis >= int64_t(mesh.size()))
      return op->emitOpError("expects axes of a mesh of ") << mesh.size() << ", but got axis " << axis;
  DeviceTensors results;
  for (int64_t device = 0; device < numDevices(); ++device) {
    SmallVector<int64_t> members = group(device, axes);
    int64_t own = llvm::find(members, device) - members.begin(), size = members.size();
    auto joined = [&](int64_t dim, int64_t outer, bool mirrored, function_ref<Tensor(const Tensor &)> piece) {
      SmallVector<Tensor> pieces;
      for (int64_t member : members)
        pieces.push_back(piece(x[member]));
      return join(pieces, dim, outer, mirrored);
    };
    auto exchanged = [&](const dist::AllToAllCut &by) {
      return joined(by.concatDim, by.concatOuter, /*mirrored=*/false,
                    [&](const Tensor &t) { return cut(t, by.splitDim, by.splitOuter, size, own); });
    };
    auto result =
        llvm::TypeSwitch<Operation *, FailureOr<Tensor>>(op)
            .Case([&](dist::AllReduceOp op) { return reduce(x, members, op.getKind()); })
            .Case([&](dist::AllGatherOp op) {
              return joined(op.getDim(), op.getOuter(), op.getMirrored(), [](const Tensor &t) { return t; });
            })
            .Case([&](dist::ReduceScatterOp op) {
              return cut(reduce(x, members, op.getKind()), op.getDim(), op.getOuter(), size, own, op.getMirrored());
            })
            .Case([&](dist::AllToAllOp op) { return exchanged(op.getCut()); })
            .Case([&](dist::CoalescedAllToAllOp op) { return exchanged(op.getCut(index)); })
            .Case([&](dist::PermuteOp op) -> FailureOr<Tensor> {
              if (int64_t(op.getSources().size()) != size)
                return refuseSources(op, size, op.getSources());
              return x[members[op.getSources()[own]]];
            })
            .Case([&](dist::ShardOp op) -> FailureOr<Tensor> {
              if (op.getSources() && int64_t(op.getSources()->size()) != size)
                return refuseSources(op, size, *op.getSources());
              int64_t of = op.getSources() ? (*op.getSources())[own] : own;
              return cut(x[device], op.getDim(), op.getOuter(), size, of, op.getMirrored());
            })
            .Default([](Operation *op) -> FailureOr<Tensor> {
              return op->emitOpError("expects a collective that the reference evaluator knows");
            });
    if (failed(result))
      return failure();
    results.push_back(std::move(*result));
  }
  return results;
}
