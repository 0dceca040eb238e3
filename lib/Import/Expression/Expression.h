// Tensors that depend on neither inputs nor parameters: attention masks, position ids, rotary tables.
//
// Such a value is never computed at full size. It is an expression: a tree of elementwise operators
// over three kinds of leaf, every node with the full shape of the tensor it stands for:
//
//     Splat    one number
//     Affine   c + Σ k_d · index_d      (arange, position ids, rows and columns of a mask)
//     Dense    stored numbers with a stride per dimension (inverse frequencies, buffers)
//
// Views (slice, transpose, expand, indexing by an affine index, …) move to the leaves, where they are
// exact and cost nothing, so a mask over 128 K × 128 K positions is a handful of nodes. Nodes are
// interned: equal expressions are one pointer, and a table used by eighty layers is emitted once.
//
// *Positional* expressions contain an arange whose extent comes from an input's shape; they stay
// symbolic at any size. All others fold to numbers when at most `kFoldLimit` of them differ.
#ifndef GALVATRON_IMPORT_EXPRESSION_EXPRESSION_H
#define GALVATRON_IMPORT_EXPRESSION_EXPRESSION_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace galvatron::importer {

using Shape = llvm::SmallVector<int64_t, 4>;
using ShapeRef = llvm::ArrayRef<int64_t>;

/// In the order of PyTorch's promotion within a kind.
enum class ElementType : uint8_t { Bool, UInt8, Int32, Int64, Float16, BFloat16, Float32, Float64 };

inline bool isFloat(ElementType type) { return type >= ElementType::Float16; }
int64_t numElements(ShapeRef shape);
/// Most numbers that an expression is computed as, 512 MiB.
constexpr int64_t kMostNumbers = 1 << 26;
/// Throws ImportError where an extent is negative, there are more than 24, or their product is no 64-bit number.
void checkShape(ShapeRef shape);
/// Of a row-major tensor, in elements.
Shape contiguousStrides(ShapeRef shape);
/// The value as an element of `type` would hold it.
double roundTo(ElementType type, double value);
/// Throws ImportError where a double does not hold the integer.
double exactDouble(int64_t value);

enum class Operator : uint8_t {
#define GALVATRON_OPERATOR(name, operands) name,
#include "Operators.def"
};

/// Elements that a non-positional expression may have and still be folded to numbers.
constexpr int64_t kFoldLimit = 1 << 16;

/// Numbers of Dense leaves: computed ones, or a module's buffer read where it lies.
struct DenseData {
  std::vector<double> values;
  ElementType rawType = ElementType::Float32;
  const void *raw = nullptr;
  std::shared_ptr<const void> owner;
  /// Rows of the first dimension after which all repeat, where a repeated dimension was merged into it; else 0.
  int64_t period = 0;

  double at(int64_t index) const;
};

struct Expression {
  enum class Kind : uint8_t { Splat, Affine, Dense, Elementwise };
  Kind kind = Kind::Splat;
  ElementType type = ElementType::Float32;
  Shape shape;
  /// Bit d: the value differs along dimension d.
  uint64_t depends = 0;
  bool positional = false;
  /// Splat: the number was computed from an input's shape, so an arange up to it is positional.
  bool fromShape = false;
  /// Splat: the value; Affine: the constant term.
  double constant = 0;
  /// Affine: factor per dimension; Dense: stride per dimension.
  Shape factors;
  const DenseData *data = nullptr;
  int64_t offset = 0;
  Operator op = Operator::Add;
  llvm::SmallVector<const Expression *, 3> operands;

  bool isSplat() const { return kind == Kind::Splat; }
  bool isSplat(double value) const { return isSplat() && constant == value; }
  bool isElementwise(Operator which) const { return kind == Kind::Elementwise && op == which; }
  bool dependsOn(int64_t dim) const { return depends >> dim & 1; }
  /// Dimensions along which the value differs, ascending, and the number of different values.
  llvm::SmallVector<int64_t, 4> dependentDims() const;
  int64_t numDifferent() const;
};

using ExpressionRef = const Expression *;

/// c + Σ k_d · index_d with integral numbers: what Splat and Affine have in common.
struct Linear {
  double constant = 0;
  Shape factors;
  bool positional = false;

  /// Smallest and largest value over a box of that shape.
  std::pair<double, double> range(ShapeRef shape) const;
  bool isConstant() const;
};
std::optional<Linear> asLinear(ExpressionRef expression);

/// A view: for each dimension of the source, its index as base + Σ step · (index of the result).
struct View {
  struct Index {
    int64_t base = 0;
    llvm::SmallVector<std::pair<unsigned, int64_t>, 2> terms;
  };
  Shape shape;
  llvm::SmallVector<Index, 4> indices;
};

/// Makes and owns expressions; every construction simplifies.
class ExpressionContext {
public:
  ExpressionRef splat(ElementType type, ShapeRef shape, double value, bool fromShape = false);
  ExpressionRef linear(ElementType type, ShapeRef shape, const Linear &value);
  /// `values` row-major over `shape`.
  ExpressionRef dense(ElementType type, ShapeRef shape, std::vector<double> values);
  /// Memory of the caller with strides in elements; `owner` keeps it alive.
  ExpressionRef buffer(ElementType type, ShapeRef shape, ShapeRef strides, const void *memory,
                       std::shared_ptr<const void> owner);
  /// start + step · index; positional when the extent came from an input's shape.
  ExpressionRef arange(ElementType type, double start, double step, int64_t count, bool positional);

  /// Operands are broadcast; all have one element type, except Select's condition. `type` is the result's.
  ExpressionRef elementwise(Operator op, llvm::ArrayRef<ExpressionRef> operands, ElementType type);
  ExpressionRef convert(ExpressionRef x, ElementType type);
  ExpressionRef logicalNot(ExpressionRef x);

  ExpressionRef view(ExpressionRef x, const View &view);
  ExpressionRef expand(ExpressionRef x, ShapeRef shape);
  /// The expression over `dependentDims()` only.
  ExpressionRef compact(ExpressionRef x);
  /// Null where the result has no such form (a merged dimension that a leaf addresses unevenly).
  ExpressionRef reshape(ExpressionRef x, ShapeRef shape);
  ExpressionRef concat(llvm::ArrayRef<ExpressionRef> parts, int64_t dim);

  /// The value at one index.
  double evaluate(ExpressionRef x, ShapeRef index) const;
  /// All values, row-major over x's full shape; only for small ones.
  std::vector<double> materialize(ExpressionRef x) const;
  /// As Affine where the numbers are (keeps `positional`), else as Dense.
  ExpressionRef fit(ElementType type, ShapeRef shape, std::vector<double> values, bool positional);

private:
  /// A Dense leaf of two numbers, one in a band around the diagonal of its last two dimensions, as a
  /// choice by comparison of positions; null if it is nothing of the kind.
  ExpressionRef bandOfNumbers(ExpressionRef dense);
  /// A float table [positions, columns] whose columns are sin(p·f) or cos(p·f), as that formula; null if
  /// it is nothing of the kind.
  ExpressionRef sinusoidsOfNumbers(ExpressionRef dense);
  ExpressionRef intern(Expression node);
  ExpressionRef leafView(ExpressionRef leaf, const View &view);
  ExpressionRef expandFromCompact(ExpressionRef narrow, ExpressionRef like);
  ExpressionRef dropRepeats(ExpressionRef leaf);
  ExpressionRef leafReshape(ExpressionRef leaf, ShapeRef shape);
  ExpressionRef concatNumbers(llvm::ArrayRef<ExpressionRef> parts, int64_t dim);
  ExpressionRef simplify(Operator op, llvm::ArrayRef<ExpressionRef> operands, ElementType type, ShapeRef shape);
  ExpressionRef simplifyArithmetic(Operator op, llvm::ArrayRef<ExpressionRef> operands, ElementType type,
                                   ShapeRef shape);
  ExpressionRef simplifyComparison(Operator op, ExpressionRef a, ExpressionRef b, ShapeRef shape);
  ExpressionRef simplifyLogic(Operator op, ExpressionRef a, ExpressionRef b);
  ExpressionRef simplifySelect(ExpressionRef condition, ExpressionRef a, ExpressionRef b, ElementType type);
  ExpressionRef liftSelect(Operator op, llvm::ArrayRef<ExpressionRef> operands, ElementType type, ShapeRef shape);

  std::unordered_map<std::string, std::unique_ptr<Expression>> nodes;
  std::vector<std::unique_ptr<DenseData>> storage;
  /// Buffers of equal bytes (each layer brings its own copy of the mask) are one.
  std::unordered_map<uint64_t, ExpressionRef> buffersByContent;
};

/// The shape that operands broadcast to; nothing if they do not.
std::optional<Shape> broadcastShapes(llvm::ArrayRef<ShapeRef> shapes);
/// One operator on numbers; `type` is the operands' for comparisons, else the result's.
double evaluateOperator(Operator op, llvm::ArrayRef<double> operands, ElementType type);
bool isComparison(Operator op);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_EXPRESSION_EXPRESSION_H
