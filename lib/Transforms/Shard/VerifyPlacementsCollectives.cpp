// Collectives executed on the index, for verify-placements: which elements a device holds before and after.
#include "VerifyPlacements.h"

#include <map>

using namespace mlir;
using namespace galvatron;
using dist::PlacementAttr;
using dist::SubAxis;

namespace {

/// A factor of a dimension's index: `index / stride % extent`; mirrored (parity above 0): counted from the other end
/// where `index / parity` is odd.
struct StridedPart {
  int64_t extent, stride;
  int64_t parity = 0;
  friend bool operator==(const StridedPart &a, const StridedPart &b) = default;
};
/// The sub-axes that a local dimension runs over, major first.
using LocalDim = SmallVector<StridedPart, 4>;

/// What the devices hold of one tensor.
class Holding {
public:
  explicit Holding(PlacementAttr placement);
  friend bool operator==(const Holding &a, const Holding &b) = default;

  /// Every one of `axes` has a reduction of this kind outstanding, and no longer after it.
  bool reduce(ArrayRef<int64_t> axes, graph::ReduceKind kind);
  /// Cuts local dimension `dim` at [outer][extents…][inner] and deals the pieces to `axes`.
  bool cut(ArrayRef<int64_t> axes, ArrayRef<int64_t> extents, int64_t dim, int64_t outer, bool mirrored = false);
  /// Takes what `axes` have of `dim` from them.
  std::optional<LocalDim> take(ArrayRef<int64_t> axes, int64_t dim);
  /// Puts sub-axes that were taken into local dimension `dim`, after `outer` positions.
  bool join(LocalDim taken, int64_t dim, int64_t outer, bool mirrored = false);

  /// Gives the device at each position of a group along `axes` what the one at `sources[position]` has. `after`: what
  /// should come out, for the sizes of axes that have nothing yet.
  bool permute(ArrayRef<int64_t> axes, ArrayRef<int64_t> sources, const Holding &after);

  /// What lies in time: of pieces and of outstanding sums.
  std::pair<std::optional<std::pair<int64_t, StridedPart>>, SmallVector<dist::Partial>> getTime() const;

private:
  /// Index of the sub-axis that begins after `outer` local positions, one cut in two if need be. None where it cannot
  /// be.
  std::optional<size_t> split(LocalDim &dim, int64_t outer);
  /// What mirrored pieces at sub-axis `at` go by: the stride of the one before it. 0: nothing that they could.
  static int64_t parityAt(const LocalDim &dim, size_t at) {
    return at > 0 && dim[at - 1].extent % 2 == 0 ? dim[at - 1].stride : 0;
  }
  /// Neighbours that count through are one.
  void merge(LocalDim &dim);

  SmallVector<LocalDim> local;
  /// Dimension and sub-axis of each mesh axis that has one.
  std::map<int64_t, std::pair<int64_t, StridedPart>> dealt;
  std::map<int64_t, graph::ReduceKind> partial;
};

} // namespace

Holding::Holding(PlacementAttr placement) {
  for (auto [index, subAxes] : llvm::enumerate(placement.getDims())) {
    LocalDim dim;
    int64_t stride = 1;
    for (SubAxis subAxis : llvm::reverse(subAxes)) {
      std::optional<dist::Mirror> mirror = placement.getMirror(subAxis.meshAxis);
      StridedPart piece{subAxis.extent, stride, mirror ? mirror->parity : 0};
      if (subAxis.meshAxis == PlacementAttr::kLocal)
        dim.insert(dim.begin(), piece);
      else
        dealt[subAxis.meshAxis] = {int64_t(index), piece};
      stride *= subAxis.extent;
    }
    merge(dim);
    local.push_back(dim);
  }
  for (dist::Partial sum : placement.getPartials())
    partial[sum.meshAxis] = sum.kind;
}

void Holding::merge(LocalDim &dim) {
  LocalDim merged;
  for (StridedPart piece : dim) {
    if (piece.extent == 1)
      continue;
    if (!merged.empty() && merged.back().stride == piece.stride * piece.extent)
      merged.back() = {merged.back().extent * piece.extent, piece.stride};
    else
      merged.push_back(piece);
  }
  dim = merged;
}

std::optional<size_t> Holding::split(LocalDim &dim, int64_t outer) {
  for (size_t i = 0; i <= dim.size(); ++i) {
    if (outer == 1)
      return i;
    if (i == dim.size())
      break;
    if (outer % dim[i].extent == 0) {
      outer /= dim[i].extent;
      continue;
    }
    if (dim[i].extent % outer != 0)
      break;
    StridedPart whole = dim[i];
    dim[i] = {whole.extent / outer, whole.stride};
    dim.insert(dim.begin() + i, StridedPart{outer, whole.stride * dim[i].extent});
    return i + 1;
  }
  return std::nullopt;
}

bool Holding::reduce(ArrayRef<int64_t> axes, graph::ReduceKind kind) {
  for (int64_t axis : axes) {
    auto found = partial.find(axis);
    if (found == partial.end() || found->second != kind)
      return false;
    partial.erase(found);
  }
  return true;
}

bool Holding::cut(ArrayRef<int64_t> axes, ArrayRef<int64_t> extents, int64_t dim, int64_t outer, bool mirrored) {
  LocalDim &pieces = local[dim];
  std::optional<size_t> at = split(pieces, outer);
  if (!at)
    return false;
  int64_t parity = mirrored ? parityAt(pieces, *at) : 0;
  if (mirrored && !parity)
    return false;
  for (auto [axis, extent] : llvm::zip(axes, extents)) {
    if (dealt.count(axis) || partial.count(axis) || *at == pieces.size() || pieces[*at].extent % extent != 0)
      return false;
    StridedPart &whole = pieces[*at];
    whole.extent /= extent;
    dealt[axis] = {dim, {extent, whole.stride * whole.extent, parity}};
    if (whole.extent == 1)
      pieces.erase(pieces.begin() + *at);
  }
  merge(pieces);
  return true;
}

std::optional<LocalDim> Holding::take(ArrayRef<int64_t> axes, int64_t dim) {
  LocalDim taken;
  for (int64_t axis : axes) {
    auto found = dealt.find(axis);
    if (found == dealt.end() || found->second.first != dim)
      return std::nullopt;
    taken.push_back(found->second.second);
    dealt.erase(found);
  }
  return taken;
}

bool Holding::join(LocalDim taken, int64_t dim, int64_t outer, bool mirrored) {
  std::optional<size_t> at = split(local[dim], outer);
  if (!at)
    return false;
  int64_t parity = mirrored ? parityAt(local[dim], *at) : 0;
  if (mirrored && !parity)
    return false;
  for (StridedPart &part : taken)
    if (std::exchange(part.parity, 0) != parity)
      return false;
  local[dim].insert(local[dim].begin() + *at, taken.begin(), taken.end());
  merge(local[dim]);
  return true;
}

bool Holding::permute(ArrayRef<int64_t> axes, ArrayRef<int64_t> sources, const Holding &after) {
  // An axis without a part, here and there, has as many devices as the group's size leaves.
  SmallVector<int64_t> sizes;
  int64_t known = 1;
  std::optional<size_t> unknown;
  for (auto [index, axis] : llvm::enumerate(axes)) {
    if (partial.count(axis))
      return false;
    const Holding &holder = dealt.count(axis) ? *this : after;
    auto found = holder.dealt.find(axis);
    sizes.push_back(found == holder.dealt.end() ? 0 : found->second.second.extent);
    if (sizes.back())
      known *= sizes.back();
    else if (std::exchange(unknown, index))
      return false;
  }
  if (unknown)
    sizes[*unknown] = int64_t(sources.size()) / known;
  else if (known != int64_t(sources.size()))
    return false;
  auto coordinateOf = [&](int64_t position, size_t index) {
    for (size_t minor = axes.size() - 1; minor > index; --minor)
      position /= sizes[minor];
    return position % sizes[index];
  };
  // The part of an axis is then another axis': the one whose coordinate the source's is, for every device.
  std::map<int64_t, std::pair<int64_t, StridedPart>> moved;
  for (auto [index, axis] : llvm::enumerate(axes)) {
    auto part = dealt.find(axis);
    if (part == dealt.end())
      continue;
    size_t owner = 0;
    while (owner < axes.size() && !llvm::all_of(
                                      llvm::seq<int64_t>(sources.size()),
                                      [&](int64_t position) {
                                        return coordinateOf(sources[position], index) == coordinateOf(position, owner);
                                      }))
      ++owner;
    if (owner == axes.size())
      return false;
    moved[axes[owner]] = part->second;
    dealt.erase(part);
  }
  for (auto &[axis, part] : moved)
    dealt[axis] = part;
  return true;
}

std::pair<std::optional<std::pair<int64_t, StridedPart>>, SmallVector<dist::Partial>> Holding::getTime() const {
  std::optional<std::pair<int64_t, StridedPart>> piece;
  SmallVector<dist::Partial> sums;
  if (auto found = dealt.find(PlacementAttr::kTime); found != dealt.end())
    piece = found->second;
  if (auto found = partial.find(PlacementAttr::kTime); found != partial.end())
    sums.push_back({found->first, found->second});
  return {piece, sums};
}

//===----------------------------------------------------------------------===//
// Collectives
//===----------------------------------------------------------------------===//

/// Extents of the sub-axes that the axes have in a placement; none for an axis that has none.
static SmallVector<int64_t> getExtents(PlacementAttr placement, ArrayRef<int64_t> axes) {
  SmallVector<int64_t> extents;
  for (int64_t axis : axes)
    for (auto [meshAxis, extent] : llvm::zip(placement.getMeshAxes(), placement.getExtents()))
      if (meshAxis == axis)
        extents.push_back(extent);
  return extents;
}

bool galvatron::leadsTo(Operation *collective, PlacementAttr from, PlacementAttr to, unsigned index) {
  ArrayRef<int64_t> axes = collective->getAttrOfType<DenseI64ArrayAttr>("axes").asArrayRef();
  SmallVector<int64_t> extents = getExtents(to, axes);
  Holding held(from);
  auto cut = [&](int64_t dim, int64_t outer, bool mirrored = false) {
    return extents.size() == axes.size() && held.cut(axes, extents, dim, outer, mirrored);
  };
  auto exchanged = [&](const dist::AllToAllCut &by) {
    std::optional<LocalDim> taken = held.take(axes, by.concatDim);
    return taken && cut(by.splitDim, by.splitOuter) && held.join(*taken, by.concatDim, by.concatOuter);
  };
  bool runs = false;
  if (auto reduce = dyn_cast<dist::AllReduceOp>(collective)) {
    runs = held.reduce(axes, reduce.getKind());
  } else if (auto scatter = dyn_cast<dist::ReduceScatterOp>(collective)) {
    runs = held.reduce(axes, scatter.getKind()) && cut(scatter.getDim(), scatter.getOuter(), scatter.getMirrored());
  } else if (auto shard = dyn_cast<dist::ShardOp>(collective)) {
    runs = cut(shard.getDim(), shard.getOuter(), shard.getMirrored());
  } else if (auto gather = dyn_cast<dist::AllGatherOp>(collective)) {
    std::optional<LocalDim> taken = held.take(axes, gather.getDim());
    runs = taken && held.join(*taken, gather.getDim(), gather.getOuter(), gather.getMirrored());
  } else if (auto exchange = dyn_cast<dist::AllToAllOp>(collective)) {
    runs = exchanged(exchange.getCut());
  } else if (auto several = dyn_cast<dist::CoalescedAllToAllOp>(collective)) {
    runs = exchanged(several.getCut(index));
  } else if (auto permute = dyn_cast<dist::PermuteOp>(collective)) {
    runs = held.permute(axes, permute.getSources(), Holding(to));
  }
  return runs && held == Holding(to);
}

bool galvatron::isReachable(PlacementAttr from, PlacementAttr to, ArrayRef<int64_t> mesh) {
  auto isOnMesh = [&](PlacementAttr placement) {
    for (auto [meshAxis, extent] : llvm::zip(placement.getMeshAxes(), placement.getExtents()))
      if (meshAxis >= 0 && (size_t(meshAxis) >= mesh.size() || extent != mesh[meshAxis]))
        return false;
    return llvm::all_of(placement.getPartialAxes(), [&](int64_t axis) { return axis < int64_t(mesh.size()); });
  };
  bool onlyReduces = llvm::all_of(
      to.getPartials(), [&](dist::Partial partial) { return llvm::is_contained(from.getPartials(), partial); });
  return onlyReduces && isOnMesh(from) && isOnMesh(to) && from.getGlobalShape() == to.getGlobalShape() &&
         Holding(from).getTime() == Holding(to).getTime();
}
