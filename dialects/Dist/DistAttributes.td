//===- DistAttributes.td - placements -------------------------------------===//
#ifndef GALVATRON_DIALECTS_DIST_ATTRIBUTES
#define GALVATRON_DIALECTS_DIST_ATTRIBUTES

include "DistDialect.td"
include "mlir/IR/AttrTypeBase.td"

def Dist_PlacementAttr : AttrDef<Dist_Dialect, "Placement"> {
  let mnemonic = "placement";
  let summary = "which part of a tensor each device of a stage's grid holds";
  let description = [{
    For each dimension a list of digits, major first; a digit is an extent and an owner: `@k`, grid
    axis k (the extent is the axis' size, or the axis is replicated elsewhere); `@t`, time (the
    micro-batch); none, held locally. The product of a dimension's digits is its global extent, of its
    local digits its local extent. After a bar: grid axes on which the value is a partial reduction.
    Axes not named hold replicas. Each axis occurs at most once.

    Example: `#dist.placement<[4@t * 2@0 * 1, 16, 64] partial [sum@1]>`: global 8x16x64, local 1x16x64.

    As a tensor's encoding (`tensor<8x16x64xf32, #dist.placement<…>>`, global shape) between
    `assign-placements` and `split-tensors`; afterwards types are local and carry no encoding.
  }];
  let parameters = (ins
    ArrayRefParameter<"int64_t", "extents of all digits, dimension after dimension">:$extents,
    ArrayRefParameter<"int64_t", "owner of each digit: grid axis, or kLocal, kTime">:$owners,
    ArrayRefParameter<"int64_t", "number of digits of each dimension">:$digitsPerDim,
    ArrayRefParameter<"int64_t", "grid axes on which the value is partial, ascending">:$partialAxes,
    ArrayRefParameter<"int64_t", "graph::ReduceKind of each partial axis">:$partialKinds);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    static constexpr int64_t kLocal = -1, kTime = -2;
    int64_t getRank() const { return getDigitsPerDim().size(); }
    /// The shape held by one device at one time.
    ::llvm::SmallVector<int64_t> getLocalShape() const;
    ::llvm::SmallVector<int64_t> getGlobalShape() const;
  }];
}

#endif
