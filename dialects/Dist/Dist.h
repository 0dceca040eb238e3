// The dist dialect: one include for its classes.
#ifndef GALVATRON_DIALECTS_DIST_DIST_H
#define GALVATRON_DIALECTS_DIST_DIST_H

#include "dialects/Graph/GraphDialect.h"
#include "dialects/Plan/Plan.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/IR/TensorEncoding.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

namespace galvatron::dist {

/// A part of a dimension: `extent` positions, dealt to mesh axis `meshAxis`, to time or held locally. `mirrored`: where
/// the sub-axis that the mirrored ones follow stands at an odd index, coordinates count from the other end.
struct SubAxis {
  int64_t extent;
  int64_t meshAxis;
  bool mirrored = false;
  friend bool operator==(const SubAxis &a, const SubAxis &b) = default;
};
/// One dimension, major first.
using DimSubAxes = llvm::SmallVector<SubAxis, 4>;

/// How an all-to-all cuts and joins: `split_dim` is [split_outer][group][rest], `concat_dim` of the result
/// [concat_outer][group][rest].
struct AllToAllCut {
  int64_t splitDim, splitOuter, concatDim, concatOuter;
};

/// Where a mirrored sub-axis lies. Of an index i of its dimension, i / stride % extent is the sub-axis's index, and it
/// is mirrored where i / parity is odd.
struct Mirror {
  int64_t dim, stride, parity;
  friend bool operator==(const Mirror &a, const Mirror &b) = default;
};

/// A reduction still due over the devices of a mesh axis, or over micro-batches.
struct Partial {
  int64_t meshAxis;
  graph::ReduceKind kind;
  friend bool operator==(const Partial &a, const Partial &b) = default;
};

/// What a stage does with a micro-batch in one go, named by the letter that orders are written with.
enum class Computation : char {
  Forward = 'F',
  Backward = 'B', ///< all of it, or where weights have a backward of their own what earlier stages wait for
  Weight = 'W',   ///< gradients of weights alone (zero bubble)
};

/// One instruction of a stage's order: `F3` is the forward of micro-batch 3, `F3.1` that of the stage's part 1.
struct Instruction {
  Computation computation = Computation::Forward;
  int64_t chunk = 0; ///< which of the stage's parts (interleaved schedules)
  int64_t microBatch = 0;
  friend auto operator<=>(const Instruction &a, const Instruction &b) = default;
};
/// For attributes, which are found by their content.
llvm::hash_code hash_value(const Instruction &instruction);
llvm::raw_ostream &operator<<(llvm::raw_ostream &out, const Instruction &instruction);

/// On an op of a `dist.body` that reads its position: the `#dist.placement` of the tensor it reads.
inline constexpr llvm::StringLiteral kPositionAttrName = "dist.position";
/// On an attention of a ring, beside it: the placement of its keys, and for each axis of the mesh by how much the
/// coordinate that they come from is less than the device's own.
inline constexpr llvm::StringLiteral kKeyPositionAttrName = "dist.key_position";
inline constexpr llvm::StringLiteral kKeyTurnAttrName = "dist.key_turn";
/// On a `graph.iota` beside its position: by how much less the coordinates of the device are whose position it is.
inline constexpr llvm::StringLiteral kTurnAttrName = "dist.turn";
/// On a `dist.layer`: groups of parameters (their indices) that lie one after another in memory, gradients too;
/// on a `graph.concat` of such parameters: that it moves nothing; on a product: that its rows are such gradients.
inline constexpr llvm::StringLiteral kAdjacentAttrName = "dist.adjacent";
/// On a `dist.stage`, set by `plan-memory`: bytes of the one allocation that each of its ranks makes; how many ranks
/// each group has that a rank's collectives join; to how many stages it sends plus from how many it receives; with how many
/// ranks it exchanges pieces; how many collectives it joins, and transfers; how many entries call a function.
inline constexpr llvm::StringLiteral kArenaBytesAttrName = "dist.arena_bytes";
inline constexpr llvm::StringLiteral kGroupSizesAttrName = "dist.group_sizes";
inline constexpr llvm::StringLiteral kChannelsAttrName = "dist.channels";
inline constexpr llvm::StringLiteral kPeersAttrName = "dist.peers";
inline constexpr llvm::StringLiteral kCallsAttrName = "dist.calls";
inline constexpr llvm::StringLiteral kEntriesAttrName = "dist.entries";
/// Set by `partition-stages`: on the module the paths of all layers in the model's order; on a `graph.call` the index
/// of its layer there, which random bits are keyed by.
inline constexpr llvm::StringLiteral kLayerPathsAttrName = "dist.layer_paths";
inline constexpr llvm::StringLiteral kLayerIndexAttrName = "dist.layer_index";

/// A module in one after phase lower, where it was asked for: bodies and layers as they were before, for whoever
/// evaluates them (`keep-bodies` of convert-dist-to-exec).
inline constexpr llvm::StringLiteral kBodiesModuleName = "dist.bodies";

} // namespace galvatron::dist

#include "dialects/Dist/DistDialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Dist/DistAttributes.h.inc"

#define GET_OP_CLASSES
#include "dialects/Dist/DistOps.h.inc"

namespace galvatron::dist {

/// The placement in a tensor type's encoding, or null.
PlacementAttr getPlacement(mlir::Type type);
/// `type` with this placement as its encoding; null removes it.
mlir::RankedTensorType withPlacement(mlir::Type type, PlacementAttr placement);
/// What one device holds: the local shape without encoding. A type without encoding is local already.
mlir::RankedTensorType getLocalType(mlir::Type type);
/// Bytes one device holds of a value of this type.
int64_t getLocalBytes(mlir::Type type);

} // namespace galvatron::dist

#endif // GALVATRON_DIALECTS_DIST_DIST_H
