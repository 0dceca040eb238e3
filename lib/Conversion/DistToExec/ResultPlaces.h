// Where the values of one body are computed to, decided before anything is lowered: a kernel writes its result where
// the caller of the body, or a concatenation, wants it, so that little is copied. Internal to
// lib/Conversion/DistToExec.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC_RESULTPLACES_H
#define GALVATRON_CONVERSION_DISTTOEXEC_RESULTPLACES_H

#include "Layouts.h"

#include "dialects/Dist/Dist.h"
#include "dialects/Exec/Exec.h"
#include "dialects/Graph/GraphShapes.h"

#include "llvm/ADT/DenseSet.h"

namespace galvatron {

class ResultPlaces {
public:
  /// The buffer of one of the function's results, into which a value is computed.
  struct Destination {
    mlir::Value buffer; ///< All elements in one dimension.
    bool hasFreeOrder;  ///< Dimensions may lie in any order: the result is a saved value, whose reader is told.
  };

  /// The results of `body`, in order: outputs or gradients of inputs; `numSaved` values for a later body;
  /// `numAccumulated` gradients of parameters (not in a forward body), each added to what its buffer holds or written.
  /// Creates the views that it needs at the end of `function`.
  ResultPlaces(dist::BodyOp body, exec::FunctionOp function, BufferBuilder buffers, unsigned numAccumulated,
               unsigned numSaved);

  /// Of a value that is computed into a result; null for all others.
  const Destination *findDestination(mlir::Value value) const;
  /// The view of a concatenation into which a value is computed, or null.
  mlir::Value getPiece(mlir::Value value) const { return pieces.lookup(value); }
  /// Positions of the parameters to whose gradients the value is added; several lie one after another.
  llvm::ArrayRef<unsigned> getParameters(mlir::Value value) const;
  /// Whether result number `index` is computed where it belongs; else it is still to be copied or added there.
  bool isInPlace(unsigned index) const { return inPlace[index]; }
  /// The buffer of a concatenation of which pieces may be computed in place, or null; and whether piece `input` is.
  mlir::Value getConcatenation(graph::ConcatOp op) const { return concatenations.lookup(op); }
  bool isInPlace(graph::ConcatOp op, unsigned input) const { return piecesInPlace.contains({op, input}); }

  /// The buffer of result number `index`.
  mlir::Value getResultBuffer(unsigned index);
  /// The parameter whose gradient result number `index` is, or none.
  std::optional<unsigned> getParameter(unsigned index) const;

private:
  void placeAdjacentGradients();
  void placeResults();
  void placeConcatenations();
  void placePiece(graph::ConcatOp op, unsigned input, mlir::Value piece);
  /// All elements of a result's buffer in one dimension, as many as `value` has.
  mlir::Value flatResult(mlir::Value value, unsigned index);

  dist::BodyOp body;
  exec::FunctionOp function;
  BufferBuilder buffers;
  mlir::OperandRange results;
  unsigned numAccumulated, numSaved;
  llvm::DenseMap<mlir::Value, Destination> destinations;
  llvm::DenseMap<mlir::Value, llvm::SmallVector<unsigned, 4>> parameters;
  llvm::SmallVector<bool> inPlace;
  llvm::DenseMap<mlir::Value, mlir::Value> pieces;
  llvm::DenseMap<mlir::Operation *, mlir::Value> concatenations;
  llvm::DenseSet<std::pair<mlir::Operation *, unsigned>> piecesInPlace;
};

} // namespace galvatron

#endif // GALVATRON_CONVERSION_DISTTOEXEC_RESULTPLACES_H
