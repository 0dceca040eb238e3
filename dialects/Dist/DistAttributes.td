//===- DistAttributes.td - placements -------------------------------------===//
#ifndef GALVATRON_DIALECTS_DIST_ATTRIBUTES
#define GALVATRON_DIALECTS_DIST_ATTRIBUTES

include "DistDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/TensorEncoding.td"

def Dist_PlacementAttr : AttrDef<Dist_Dialect, "Placement",
    [DeclareAttrInterfaceMethods<VerifiableTensorEncoding>]> {
  let mnemonic = "placement";
  let summary = "which part of a tensor each device of a stage's mesh holds";
  let description = [{
    For each dimension a list of sub-axes, major first; a sub-axis is an extent and who has it: `@gK`, mesh axis
    K (the extent is the axis' size); `@t`, time (the micro-batch); none, held locally. The
    product of a dimension's sub-axes is its global extent, of its local sub-axes its local extent. After
    a bar: the mesh axes, or time, over which the value is a partial reduction (over time: still to be
    accumulated over micro-batches). Axes not named hold replicas. Each mesh axis occurs at most once.

    A sub-axis `@mgK` is mirrored: with C devices along the axis, device c has index c where the nearest sub-axis before
    it that is not mirrored (local, of even extent) stands at an even index, C-1-c where at an odd one. With `[2 * 2@mg0 * 3]`
    of 12 positions device 0 has 0-2 and 9-11, device 1 has 3-8: each as much of a triangle as the other.

    One placement has one form: no two neighbouring local sub-axes, and none of extent 1 beside others
    (`getCanonical`; the parser does this).

    Example: `#dist.placement<[4@t * 2@g0, 16, 64] partial [sum@g1]>`: global 8x16x64, local 1x16x64.

    As a tensor's encoding (`tensor<8x16x64xf32, #dist.placement<…>>`, global shape) between
    `assign-placements` and `split-tensors`; afterwards types are local and carry no encoding.
  }];
  let parameters = (ins
    ArrayRefParameter<"int64_t", "extents of all sub-axes, dimension after dimension">:$extents,
    ArrayRefParameter<"int64_t", "mesh axis of each sub-axis, or kLocal, kTime">:$meshAxes,
    ArrayRefParameter<"int64_t", "number of sub-axes of each dimension">:$subAxesPerDim,
    ArrayRefParameter<"int64_t", "mesh axes whose sub-axes are mirrored, ascending">:$mirroredAxes,
    ArrayRefParameter<"int64_t", "mesh axes over which the value is partial, ascending">:$partialAxes,
    ArrayRefParameter<"int64_t", "graph::ReduceKind of each partial axis">:$partialKinds);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    static constexpr int64_t kLocal = -1, kTime = -2;
    /// Merges neighbouring local sub-axes and drops superfluous ones of extent 1.
    static PlacementAttr getCanonical(::mlir::MLIRContext *context, ::llvm::ArrayRef<DimSubAxes> dims,
                                      ::llvm::ArrayRef<Partial> partials = {});
    /// Everything local: the placement of a value that each device holds whole.
    static PlacementAttr getReplicated(::mlir::RankedTensorType type);
    int64_t getRank() const { return getSubAxesPerDim().size(); }
    /// The sub-axes of each dimension, major first.
    ::llvm::SmallVector<DimSubAxes> getDims() const;
    ::llvm::SmallVector<Partial> getPartials() const;
    bool isPartial() const { return !getPartialAxes().empty(); }
    bool isMirrored() const { return !getMirroredAxes().empty(); }
    /// The mirrored sub-axis of a mesh axis, or nothing.
    std::optional<Mirror> getMirror(int64_t meshAxis) const;
    /// The same placement with no sub-axis mirrored.
    PlacementAttr withoutMirrors() const;
    /// The same placement with other partial reductions.
    PlacementAttr withPartials(::llvm::ArrayRef<Partial> partials) const;
    /// The same placement without time among its partial mesh axes.
    PlacementAttr withoutPartialTime() const;
    /// The shape held by one device at one time.
    ::llvm::SmallVector<int64_t> getLocalShape() const;
    ::llvm::SmallVector<int64_t> getGlobalShape() const;
  }];
}

def Dist_OrderAttr : AttrDef<Dist_Dialect, "Order"> {
  let mnemonic = "order";
  let summary = "what a pipeline stage does with its micro-batches, one instruction after another";
  let description = [{
    An instruction is a letter and a micro-batch: `F` forward, `B` backward, `W` gradients of weights where they have a
    backward of their own; after a dot the stage's part, where it is not the first.

    Example: `#dist.order<F0, F1, B0, B1>`; interleaved: `#dist.order<F0, F0.1, B0.1, B0>`
  }];
  let parameters = (ins ArrayRefParameter<"::galvatron::dist::Instruction">:$instructions);
  let hasCustomAssemblyFormat = 1;
}

#endif
