// Where the values of a step have the positions of its rows: what a pass that changes what positions mean has to know.
//
// Followed forward from the inputs [batch, seq] through the loops of each op (`getOpAxes`). An op keeps the positions
// of a row apart if one loop of its own runs over them in all that it reads and all that it makes; one that does not
// mixes them. What depends on neither tokens nor labels (parameters, constants, position arithmetic) is a table here.
#ifndef GALVATRON_TRANSFORMS_RAISE_ROWPOSITIONS_H
#define GALVATRON_TRANSFORMS_RAISE_ROWPOSITIONS_H

#include "dialects/Graph/OpAxes.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <optional>

namespace galvatron::raise {

/// An index that is part of a dimension's: dimension index / `inner` modulo the index' extent. In [batch · seq, size]
/// the position is {0, 1}, the row {0, seq}.
struct IndexPlace {
  int64_t dim, inner;
  bool operator==(const IndexPlace &) const = default;
};

/// A value that tokens or labels decide.
struct RowValue {
  /// None for sums over all rows and positions, and where a batch of one row has no loop.
  std::optional<IndexPlace> position, row;
  bool readsTokens = false;
};

/// The one loop of an op that runs over the positions of what it reads.
struct RowLoops {
  graph::OpAxes axes;
  unsigned position = 0;
  std::optional<unsigned> row; // none in a batch of one
};

class RowPositions {
public:
  RowPositions(int64_t batch, int64_t seq) : batch(batch), seq(seq) {}

  void setInput(mlir::Value input, bool readsTokens);
  /// Of a table, null.
  const RowValue *find(mlir::Value value) const;
  bool hasPositions(mlir::Value value) const;
  /// Whether the dimension of that number is the positions and nothing else.
  bool isPosition(mlir::Value value, int64_t dim) const;
  /// Likewise of rows; true for any dimension of extent one where there is one row.
  bool isRow(mlir::Value value, int64_t dim) const;

  /// The loops of an op that reads positions; none where they are not one loop that may be cut.
  std::optional<RowLoops> findLoops(mlir::Operation *op) const;
  /// Writes down what the results are, `loops` being those of the op; false where one has lost its positions.
  bool setResults(mlir::Operation *op, const RowLoops &loops);
  /// The same for ops whose results are known otherwise.
  void setResults(mlir::Operation *op, RowValue like);

  /// Whether a table's elements differ along a dimension; yes where it is not known.
  bool varies(mlir::Value table, int64_t dim);

private:
  const llvm::SmallVector<bool> &variesAlong(mlir::Value table);

  int64_t batch, seq;
  llvm::DenseMap<mlir::Value, RowValue> values;
  llvm::DenseMap<mlir::Value, llvm::SmallVector<bool>> variations;
};

} // namespace galvatron::raise

#endif // GALVATRON_TRANSFORMS_RAISE_ROWPOSITIONS_H
