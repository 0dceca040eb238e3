// What the passes of this folder share: small matchers, the reader of data-independent tensors, and how patterns are
// run. A pass is one file of its name; what several need has a file of its own.
//
// Passes are plain walks or sets of patterns over one function. None of them erases an op that another value may still
// read: dead code goes once, at the end of each, so values can serve as cache keys. All of them replace by
// `replaceIfLegal`, so a pattern need not know every limit of the op it raises to.
#ifndef GALVATRON_TRANSFORMS_RAISE_RAISE_H
#define GALVATRON_TRANSFORMS_RAISE_RAISE_H

#include "dialects/Graph/GraphDialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Rewrite/FrozenRewritePatternSet.h"

#include <optional>
#include <string>

namespace galvatron::graph {
class SliceOp;
enum class ActivationKind : uint32_t;
} // namespace galvatron::graph

namespace galvatron::raise {

using mlir::ArrayRef;
using mlir::Operation;
using mlir::SmallVector;
using mlir::SmallVectorImpl;
using mlir::Value;

//===----------------------------------------------------------------------===//
// Types and small matchers (RaiseMatchers.cpp)
//===----------------------------------------------------------------------===//

inline mlir::RankedTensorType typeOf(Value value) { return mlir::cast<mlir::RankedTensorType>(value.getType()); }
inline ArrayRef<int64_t> shapeOf(Value value) { return typeOf(value).getShape(); }

/// `like`'s element type with another shape.
inline mlir::RankedTensorType reshaped(Value like, ArrayRef<int64_t> shape) {
  return mlir::RankedTensorType::get(shape, typeOf(like).getElementType());
}

/// The number that every element of `value` is: a splat constant, or one that was broadcast,
/// reshaped or converted.
std::optional<double> splatOf(Value value);

/// One result, no region, all operands and results tensors of one shape, and element i of the
/// result depends on elements i of the operands only.
bool isElementwise(Operation *op);

/// A `graph.parameter`, or pieces, reshapes and transposes of one.
bool isParameter(Value value);

/// The vector [H] that `value` [..., H] repeats along every dimension but the last, or null.
Value rowVectorOf(Value value);

/// The smaller tensor that `value` repeats along its last dimension, without that dimension; null
/// if the last dimension is no repetition. Reads through broadcasts and added unit dimensions.
Value columnOf(Value value);

/// Extents of neighbouring dimensions before and after a reshape, of equal product.
struct DimensionGroup {
  SmallVector<int64_t, 4> from, to;
};

/// As many groups as possible; false if the number of elements differs. Unit dimensions join the
/// group before them.
bool groupDimensions(ArrayRef<int64_t> from, ArrayRef<int64_t> to, SmallVectorImpl<DimensionGroup> &groups);

/// The only dimension along which `slice` is shorter than its operand; none if there are several.
std::optional<int64_t> cutDim(graph::SliceOp slice);

/// The subscripts of an einsum.
struct Equation {
  std::string lhs, rhs, result;

  static Equation parse(llvm::StringRef text);
  std::string str() const { return lhs + "," + rhs + "->" + result; }
  /// `count` subscripts that occur nowhere in it.
  std::string fresh(unsigned count) const;
};

/// Makes what is to stand for an op's first result; null where it cannot.
using BuildFunction = llvm::function_ref<Value(mlir::OpBuilder &)>;

/// Puts what `build` makes in place of the first result of `op`, whose other results nobody reads. Every family
/// replaces by these two alone: an op that its own verifier refuses never comes into being; then nothing has changed,
/// and the arithmetic stays what it was.
mlir::LogicalResult replaceIfLegal(mlir::PatternRewriter &rewriter, Operation *op, BuildFunction build);
/// The same in a walk: `op` stays, dead, and the answer is whether it was replaced.
bool replaceIfLegal(Operation *op, BuildFunction build);

Value reshapeTo(mlir::OpBuilder &builder, mlir::Location loc, Value x, ArrayRef<int64_t> shape);
Value transposeBy(mlir::OpBuilder &builder, mlir::Location loc, Value x, ArrayRef<int64_t> permutation);
Value sliceOf(mlir::OpBuilder &builder, mlir::Location loc, Value x, int64_t dim, int64_t offset, int64_t size);
/// A splat constant of `type`.
Value splat(mlir::OpBuilder &builder, mlir::Location loc, mlir::RankedTensorType type, double value);

/// A nonlinearity of one number.
double activate(graph::ActivationKind kind, double x);

/// What a scalar elementwise op computes, in double; integers are exact below 2^53, i1 is 0 or 1.
/// None for ops that are not known.
std::optional<double> evaluateElement(Operation *op, ArrayRef<double> operands);

//===----------------------------------------------------------------------===//
// Data-independent tensors (RaiseTables.cpp)
//===----------------------------------------------------------------------===//

/// Reads single elements of tensors that depend on nothing but constants and positions (masks,
/// position tables) without building them: a causal mask of 32768² costs what is asked of it.
class TableReader {
public:
  /// Whether `value` is such a tensor and every op under it is known.
  bool isTable(Value value);
  /// The element at `index`; `value` is a table.
  double read(Value value, ArrayRef<int64_t> index);

private:
  double compute(Operation *op, ArrayRef<int64_t> index);

  llvm::DenseMap<Value, bool> tables;
  llvm::DenseMap<std::pair<Value, int64_t>, double> elements;
};

/// What a mask [..., Sq, Sk] lets through; query i stands at position i + Sk - Sq.
struct Mask {
  bool causal = false;
  /// Keys fewer than this many positions back; 0: no limit.
  int64_t window = 0;

  bool operator==(const Mask &) const = default;
};

/// Recognizes `value` [..., Sq, Sk] as a mask: i1 (true lets through), or a float tensor to be
/// added, 0 where it lets through and ≤ -1e4 elsewhere. Proved from position arithmetic where that
/// is affine, else read whole up to 2^20 elements, else sampled by rows. None: not a mask.
std::optional<Mask> recognizeMask(Value value, TableReader &reader);

/// Zero where `condition` is `pass`, `blocked` elsewhere.
Value additiveMask(Value condition, bool pass, Value blocked);

/// Whether a gradient flows to a parameter through `value`.
bool dependsOnParameter(Value value);

/// What is added to attention's scores [.., Sq, Sk]: a mask that attention can say, and other terms.
class Bias {
public:
  /// Adds factor · value, which is taken apart into masks and the rest.
  void add(Value value, double factor, TableReader &reader);
  /// The sum of all but masks, [B or 1, N or 1, Sq or 1, Sk or 1]; null if there is nothing else.
  Value build(mlir::OpBuilder &builder, mlir::Location loc) const;

  /// A choice between nothing and what blocks, by conditions that hold together: those on positions are masks.
  bool addCondition(mlir::arith::SelectOp select, TableReader &reader);

  Mask mask;
  bool hasMask = false;
  /// Tensors of the scores' shape and their factors.
  SmallVector<std::pair<Value, double>, 2> terms;
};

/// Scale, repeated heads and masks become attention's own terms (RaiseAttentionOperands.cpp). Needs dead code gone.
void absorbIntoAttention(mlir::func::FuncOp function, TableReader &reader);

//===----------------------------------------------------------------------===//
// Running patterns (RaiseDriver.cpp)
//===----------------------------------------------------------------------===//

/// Shape ops in normal form: what `raise-shapes` does. Other passes take it into their sets where their own patterns
/// and these uncover each other.
void populateShapePatterns(mlir::RewritePatternSet &patterns);
/// Of these, shape ops among themselves and arithmetic that does nothing (RaiseShapesFolds.cpp).
void populateShapeFolds(mlir::RewritePatternSet &patterns);

/// Applies `patterns` until none applies, then erases what nothing reads. Returns how often one did; fails with an
/// error that names `pass` where some still do after `maxSweeps` sweeps over the function.
mlir::FailureOr<unsigned> settle(mlir::func::FuncOp function, const mlir::FrozenRewritePatternSet &patterns,
                                 llvm::StringRef pass, int64_t maxSweeps);

/// Erases what nothing reads.
void eraseDead(mlir::func::FuncOp function);

/// The module's functions that have bodies.
SmallVector<mlir::func::FuncOp> getBodies(mlir::ModuleOp module);

} // namespace galvatron::raise

#endif // GALVATRON_TRANSFORMS_RAISE_RAISE_H
