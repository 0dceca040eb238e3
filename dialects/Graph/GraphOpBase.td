//===- GraphOpBase.td - what every op of the graph dialect is declared with ===//
//
// Shapes in comments: B batch, S positions (Sq queries, Sk keys), H hidden, N heads, K key/value
// heads, D head size, V vocabulary. Float tensors are f32 unless `assign-precision` said otherwise:
// then activations and what products read are bf16, statistics, losses and gradients of parameters f32. Whatever the
// types, an op computes in f32 or better and rounds its results once.
//
//===----------------------------------------------------------------------===//
#ifndef GALVATRON_DIALECTS_GRAPH_OP_BASE
#define GALVATRON_DIALECTS_GRAPH_OP_BASE

include "GraphDialect.td"
include "GraphAttributes.td"
include "GraphInterfaces.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/IR/RegionKindInterface.td"
include "mlir/Interfaces/FunctionInterfaces.td"
include "mlir/Interfaces/CallInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"

class Graph_Op<string mnemonic, list<Trait> traits = []> : Op<Graph_Dialect, mnemonic, traits>;

/// Loops alone, or loops and in which operands the op is linear.
def HasAxes : DeclareOpInterfaceMethods<AxisOpInterface>;
def Linear : DeclareOpInterfaceMethods<AxisOpInterface, ["isLinear"]>;
/// Linear in all operands together, in none alone: partial values stay partial if all of them are.
def JointlyLinear : DeclareOpInterfaceMethods<AxisOpInterface, ["isJointlyLinear"]>;

/// Those that read their global index: `dist.position` tells it after sharding.
def Positioned : DeclareOpInterfaceMethods<AxisOpInterface, ["getPositionTensor"]>;
def LinearPositioned : DeclareOpInterfaceMethods<AxisOpInterface, ["isLinear", "getPositionTensor"]>;

/// An op of pure mathematics: sharded by its loops, costed by its shapes.
class Graph_MathOp<string mnemonic, list<Trait> traits = [], Trait axes = HasAxes>
    : Graph_Op<mnemonic, !listconcat([Pure, axes, DeclareOpInterfaceMethods<CostOpInterface>], traits)>;

/// One whose gradient is built op by op; the others are born in `differentiate`.
class Graph_ForwardOp<string mnemonic, list<Trait> traits = [], Trait axes = HasAxes>
    : Graph_MathOp<mnemonic, !listconcat([DeclareOpInterfaceMethods<DifferentiableOpInterface>], traits), axes>;

def AnyGraphTensor : AnyTypeOf<[StaticShapeTensorOf<[AnyFloat, AnySignlessInteger]>]>;
def FloatTensor : StaticShapeTensorOf<[AnyFloat]>;
def IntTensor : StaticShapeTensorOf<[AnySignlessInteger]>;

#endif
