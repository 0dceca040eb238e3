// Writes graph, arith and math ops for tensors that depend on data, and for expressions where they
// meet such tensors.
//
// An expression is emitted over the dimensions along which it differs, then broadcast once. So a
// causal mask on scores [B, N, S, S] reads
//
//     %i  = graph.iota {dim = 0} : tensor<Sxi64>
//     %q  = graph.broadcast %i dims [0] : tensor<Sxi64> -> tensor<SxSxi64>
//     %k  = graph.broadcast %i dims [1] : tensor<Sxi64> -> tensor<SxSxi64>
//     %le = arith.cmpi sle, %k, %q : tensor<SxSxi64>               key at or before query
//     %m  = arith.select %le, %zero, %minimum : tensor<SxSxi1>, tensor<SxSxf32>
//     %b  = graph.broadcast %m dims [2, 3] : tensor<SxSxf32> -> tensor<BxNxSxSxf32>
//
// (a sliding window w adds `cmpi sle, %q, %k + (w-1)` and an `andi`), and a rotary table reads
//
//     %p  = arith.sitofp (graph.iota {dim = 0} : tensor<Sxi64>)
//     %a  = arith.mulf (graph.broadcast %p dims [0]), (graph.broadcast dense<[…]> dims [1]) : tensor<SxDxf32>
//     %c  = math.cos %a;  scaled by arith.mulf with a splat when the model scales
//
// Nothing of size S×S is stored here: these are types, and `raise-attention` and `raise-rope` turn them into
// attributes.
#ifndef GALVATRON_IMPORT_PROGRAM_EMITTER_H
#define GALVATRON_IMPORT_PROGRAM_EMITTER_H

#include "lib/Import/Expression/Expression.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Value.h"

namespace galvatron::importer {

class Emitter {
public:
  Emitter(mlir::OpBuilder &builder, ExpressionContext &expressions) : builder(builder), expressions(expressions) {}

  mlir::OpBuilder &builder;
  /// Of the ops to come.
  mlir::Location location = builder.getUnknownLoc();

  mlir::Type elementType(ElementType type);
  mlir::RankedTensorType type(ElementType type, ShapeRef shape);

  mlir::Value splat(ElementType type, ShapeRef shape, double value);
  mlir::Value reshape(mlir::Value x, ShapeRef shape);
  mlir::Value transpose(mlir::Value x, llvm::ArrayRef<int64_t> permutation);
  /// As NumPy broadcasts: aligned at the last dimension, extents 1 stretch.
  mlir::Value broadcast(mlir::Value x, ShapeRef shape);
  /// Result dimension `dims[i]` is x's dimension i.
  mlir::Value broadcastDims(mlir::Value x, llvm::ArrayRef<int64_t> dims, ShapeRef shape);
  mlir::Value slice(mlir::Value x, llvm::ArrayRef<int64_t> offsets, ShapeRef shape);
  mlir::Value concat(llvm::ArrayRef<mlir::Value> parts, int64_t dim);
  mlir::Value detach(mlir::Value x);
  mlir::Value convert(mlir::Value x, ElementType from, ElementType to);
  mlir::Value reduce(mlir::Value x, bool maximum, llvm::ArrayRef<int64_t> dims);
  mlir::Value einsum(mlir::Value lhs, mlir::Value rhs, llvm::StringRef equation, ShapeRef shape, ElementType type);
  /// Operands of one type (Select's condition is bool); `operandType` is theirs, `type` the result's.
  mlir::Value elementwise(Operator op, llvm::ArrayRef<mlir::Value> operands, ElementType operandType, ElementType type);

  /// The expression as a tensor of its full shape.
  mlir::Value emit(ExpressionRef x);

private:
  mlir::Value emitCompact(ExpressionRef x);
  mlir::Value emitLinear(ExpressionRef x);
  mlir::Value emitDense(ExpressionRef x);
  mlir::Value emitNumbers(ElementType numberType, ShapeRef shape, llvm::ArrayRef<double> numbers);
  mlir::Value floatElementwise(Operator op, llvm::ArrayRef<mlir::Value> v, ElementType type);
  mlir::Value integerElementwise(Operator op, llvm::ArrayRef<mlir::Value> v, ElementType type);
  mlir::Value compare(Operator op, mlir::Value a, mlir::Value b, bool isFloat);

  ExpressionContext &expressions;
  llvm::DenseMap<ExpressionRef, mlir::Value> emitted; // compact expressions
};

Shape shapeOf(mlir::Value x);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_PROGRAM_EMITTER_H
