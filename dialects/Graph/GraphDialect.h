// The graph dialect without its ops: attributes, interfaces, and the names of the attributes that it defines on other
// ops. The ops' classes are in a header for each family, GraphStructure.h to GraphShapes.h.
#ifndef GALVATRON_DIALECTS_GRAPH_GRAPHDIALECT_H
#define GALVATRON_DIALECTS_GRAPH_GRAPHDIALECT_H

#include "dialects/Graph/OpAxes.h"

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/CallInterfaces.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialects/Graph/GraphDialect.h.inc"
#include "dialects/Graph/GraphEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/Graph/GraphAttributes.h.inc"

#include "dialects/Graph/GraphInterfaces.h.inc"

namespace galvatron::graph {

class BackwardOp;

/// Layer argument attributes: a parameter's name below the layer's path, and its initial distribution.
inline constexpr llvm::StringLiteral kParameterAttr = "graph.parameter";
inline constexpr llvm::StringLiteral kInitAttr = "graph.init";
/// On arguments and results of layers: no gradient is computed for them.
inline constexpr llvm::StringLiteral kFrozenAttr = "graph.frozen";
/// On calls of half a layer: the path of the layer, whose other half is the call before or after.
inline constexpr llvm::StringLiteral kBlockAttr = "graph.block";
/// On a layer's parameter that is padded: which of its elements files hold.
inline constexpr llvm::StringLiteral kPaddingAttr = "graph.padding";
/// Module attributes (docs/IR.md).
inline constexpr llvm::StringLiteral kBatchAttr = "graph.batch";
inline constexpr llvm::StringLiteral kBatchHeldByAttr = "graph.batch_held_by";
inline constexpr llvm::StringLiteral kSeqAttr = "graph.seq";
inline constexpr llvm::StringLiteral kWeightsAttr = "graph.weights";
/// On a module in fp32 that casts to bf16 itself: each such result is rounded, not only what is stored.
inline constexpr llvm::StringLiteral kRoundsAttr = "graph.rounds";
inline constexpr llvm::StringLiteral kVocabularyAttr = "graph.vocabulary";
inline constexpr llvm::StringLiteral kTiedAttr = "graph.tied";
inline constexpr llvm::StringLiteral kCarriedAttr = "graph.carried";
inline constexpr llvm::StringLiteral kBuffersAttr = "graph.buffers";

/// Shape and element type of tensors: equal whatever their encodings.
bool isSameTensor(mlir::Type a, mlir::Type b);

/// Whether a tensor has float elements, that is, whether it has a gradient.
bool isFloatTensor(mlir::Type type);

/// The same tensor with other elements.
mlir::Type withElementType(mlir::Type type, mlir::Type element);

/// The type in which a tensor's values add up: f32 where its elements are narrower, else its own.
mlir::Type getWidened(mlir::Type type);

/// Pairs of query and key that an attention op's mask lets through, over batch and heads; 0 of other ops.
int64_t getAttentionPairs(mlir::Operation *op);

/// A splat constant of the type, float or integer.
mlir::Value createSplat(mlir::OpBuilder &builder, mlir::Location loc, mlir::Type type, double value);

} // namespace galvatron::graph

#endif // GALVATRON_DIALECTS_GRAPH_GRAPHDIALECT_H
