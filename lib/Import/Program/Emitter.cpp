// The ops that the importer writes, each with one builder here.
#include "Emitter.h"

#include "lib/Import/Expression/Value.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace galvatron::importer;
using namespace mlir;
using llvm::ArrayRef;
using llvm::SmallVector;

Shape galvatron::importer::shapeOf(mlir::Value x) {
  return Shape(llvm::cast<RankedTensorType>(x.getType()).getShape());
}

Type Emitter::elementType(ElementType type) {
  switch (type) {
  case ElementType::Bool:
    return builder.getI1Type();
  case ElementType::UInt8:
    return builder.getI8Type();
  case ElementType::Int32:
    return builder.getI32Type();
  case ElementType::Int64:
    return builder.getI64Type();
  case ElementType::Float16:
    return builder.getF16Type();
  case ElementType::BFloat16:
    return builder.getBF16Type();
  case ElementType::Float32:
    return builder.getF32Type();
  case ElementType::Float64:
    return builder.getF64Type();
  }
  llvm_unreachable("all element types are listed");
}

RankedTensorType Emitter::type(ElementType type, ShapeRef shape) {
  return RankedTensorType::get(shape, elementType(type));
}

static TypedAttr numberAttribute(Type type, double value) {
  if (auto floatType = llvm::dyn_cast<FloatType>(type))
    return FloatAttr::get(floatType, value);
  return IntegerAttr::get(type, llvm::APInt(type.getIntOrFloatBitWidth(), uint64_t(int64_t(value)), true, true));
}

mlir::Value Emitter::splat(ElementType element, ShapeRef shape, double value) {
  auto tensor = type(element, shape);
  auto attribute = DenseElementsAttr::get(tensor, ArrayRef<Attribute>{numberAttribute(elementType(element), value)});
  return arith::ConstantOp::create(builder, location, tensor, attribute);
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

mlir::Value Emitter::reshape(mlir::Value x, ShapeRef shape) {
  if (auto inner = x.getDefiningOp<graph::ReshapeOp>())
    x = inner.getX();
  auto from = llvm::cast<RankedTensorType>(x.getType());
  if (from.getShape() == shape)
    return x;
  return graph::ReshapeOp::create(builder, location, RankedTensorType::get(shape, from.getElementType()), x);
}

mlir::Value Emitter::transpose(mlir::Value x, ArrayRef<int64_t> permutation) {
  if (llvm::equal(permutation, llvm::seq<int64_t>(0, permutation.size())))
    return x;
  auto from = llvm::cast<RankedTensorType>(x.getType());
  Shape shape;
  for (int64_t d : permutation)
    shape.push_back(from.getDimSize(d));
  return graph::TransposeOp::create(builder, location, RankedTensorType::get(shape, from.getElementType()), x,
                                    builder.getDenseI64ArrayAttr(permutation));
}

mlir::Value Emitter::broadcastDims(mlir::Value x, ArrayRef<int64_t> dims, ShapeRef shape) {
  auto from = llvm::cast<RankedTensorType>(x.getType());
  if (from.getShape() == shape)
    return x;
  return graph::BroadcastOp::create(builder, location, RankedTensorType::get(shape, from.getElementType()), x,
                                    builder.getDenseI64ArrayAttr(dims));
}

mlir::Value Emitter::broadcast(mlir::Value x, ShapeRef shape) {
  Shape from = shapeOf(x), kept;
  if (ShapeRef(from) == shape)
    return x;
  SmallVector<int64_t> dims;
  size_t lead = shape.size() - from.size();
  for (size_t d = 0; d < from.size(); ++d)
    if (from[d] == shape[lead + d]) { // extents that stretch are reshaped away
      dims.push_back(lead + d);
      kept.push_back(from[d]);
    }
  return broadcastDims(reshape(x, kept), dims, shape);
}

mlir::Value Emitter::slice(mlir::Value x, ArrayRef<int64_t> offsets, ShapeRef shape) {
  auto from = llvm::cast<RankedTensorType>(x.getType());
  if (from.getShape() == shape)
    return x;
  return graph::SliceOp::create(builder, location, RankedTensorType::get(shape, from.getElementType()), x,
                                builder.getDenseI64ArrayAttr(offsets));
}

mlir::Value Emitter::concat(ArrayRef<mlir::Value> parts, int64_t dim) {
  if (parts.size() == 1)
    return parts[0];
  Shape shape = shapeOf(parts[0]);
  shape[dim] = 0;
  for (mlir::Value part : parts)
    shape[dim] += shapeOf(part)[dim];
  auto result = RankedTensorType::get(shape, llvm::cast<RankedTensorType>(parts[0].getType()).getElementType());
  return graph::ConcatOp::create(builder, location, result, ValueRange(parts), builder.getI64IntegerAttr(dim));
}

mlir::Value Emitter::reduce(mlir::Value x, bool maximum, ArrayRef<int64_t> dims) {
  auto from = llvm::cast<RankedTensorType>(x.getType());
  Shape shape;
  for (int64_t d = 0; d < from.getRank(); ++d)
    if (!llvm::is_contained(dims, d))
      shape.push_back(from.getDimSize(d));
  auto kind = maximum ? graph::ReduceKind::Max : graph::ReduceKind::Sum;
  return graph::ReduceOp::create(builder, location, RankedTensorType::get(shape, from.getElementType()), x, kind,
                                 builder.getDenseI64ArrayAttr(dims));
}

mlir::Value Emitter::detach(mlir::Value x) { return graph::DetachOp::create(builder, location, x); }

mlir::Value Emitter::einsum(mlir::Value lhs, mlir::Value rhs, llvm::StringRef equation, ShapeRef shape,
                            ElementType element) {
  return graph::EinsumOp::create(builder, location, type(element, shape), lhs, rhs, builder.getStringAttr(equation));
}

//===----------------------------------------------------------------------===//
// Elementwise
//===----------------------------------------------------------------------===//

mlir::Value Emitter::convert(mlir::Value x, ElementType from, ElementType to) {
  if (from == to)
    return x;
  Type result = type(to, shapeOf(x));
  if (to == ElementType::Bool)
    return compare(Operator::NotEqual, x, splat(from, shapeOf(x), 0), isFloat(from));
  unsigned fromWidth = elementType(from).getIntOrFloatBitWidth(), toWidth = elementType(to).getIntOrFloatBitWidth();
  bool isUnsigned = from == ElementType::Bool || from == ElementType::UInt8;
  if (isFloat(from) && isFloat(to)) {
    if (toWidth > fromWidth)
      return arith::ExtFOp::create(builder, location, result, x);
    if (toWidth < fromWidth)
      return arith::TruncFOp::create(builder, location, result, x);
    return convert(convert(x, from, ElementType::Float32), ElementType::Float32, to);
  }
  if (isFloat(from))
    return arith::FPToSIOp::create(builder, location, result, x);
  if (isFloat(to) && isUnsigned)
    return arith::UIToFPOp::create(builder, location, result, x);
  if (isFloat(to))
    return arith::SIToFPOp::create(builder, location, result, x);
  if (toWidth < fromWidth)
    return arith::TruncIOp::create(builder, location, result, x);
  if (isUnsigned)
    return arith::ExtUIOp::create(builder, location, result, x);
  return arith::ExtSIOp::create(builder, location, result, x);
}

mlir::Value Emitter::compare(Operator op, mlir::Value a, mlir::Value b, bool isFloat) {
  if (isFloat) {
    auto predicate = op == Operator::Equal      ? arith::CmpFPredicate::OEQ
                     : op == Operator::NotEqual ? arith::CmpFPredicate::UNE
                     : op == Operator::Less     ? arith::CmpFPredicate::OLT
                                                : arith::CmpFPredicate::OLE;
    return arith::CmpFOp::create(builder, location, predicate, a, b);
  }
  auto predicate = op == Operator::Equal      ? arith::CmpIPredicate::eq
                   : op == Operator::NotEqual ? arith::CmpIPredicate::ne
                   : op == Operator::Less     ? arith::CmpIPredicate::slt
                                              : arith::CmpIPredicate::sle;
  return arith::CmpIOp::create(builder, location, predicate, a, b);
}

mlir::Value Emitter::elementwise(Operator op, ArrayRef<mlir::Value> v, ElementType operandType, ElementType result) {
  if (isComparison(op))
    return compare(op, v[0], v[1], isFloat(operandType));
  if (op == Operator::Select)
    return arith::SelectOp::create(builder, location, v[0], v[1], v[2]);
  if (op == Operator::Convert)
    return convert(v[0], operandType, result);
  return isFloat(result) ? floatElementwise(op, v, result) : integerElementwise(op, v, result);
}

mlir::Value Emitter::floatElementwise(Operator op, ArrayRef<mlir::Value> v, ElementType element) {
  auto unary = [&]<typename Op>(Op *) -> mlir::Value { return Op::create(builder, location, v[0]); };
  auto binary = [&]<typename Op>(Op *) -> mlir::Value { return Op::create(builder, location, v[0], v[1]); };
  auto activation = [&](graph::ActivationKind kind) -> mlir::Value {
    return graph::ActivationOp::create(builder, location, v[0].getType(), v[0], kind);
  };
#define UNARY(name) unary(static_cast<name *>(nullptr))
#define BINARY(name) binary(static_cast<name *>(nullptr))
  switch (op) {
  case Operator::Add:
    return BINARY(arith::AddFOp);
  case Operator::Subtract:
    return BINARY(arith::SubFOp);
  case Operator::Multiply:
    return BINARY(arith::MulFOp);
  case Operator::Divide:
    return BINARY(arith::DivFOp);
  case Operator::FloorDivide:
    return math::FloorOp::create(builder, location, BINARY(arith::DivFOp));
  case Operator::TruncateDivide:
    return math::TruncOp::create(builder, location, BINARY(arith::DivFOp));
  case Operator::Remainder: { // a - floor(a / b) · b, which has b's sign
    mlir::Value quotient = math::FloorOp::create(builder, location, BINARY(arith::DivFOp));
    return arith::SubFOp::create(builder, location, v[0], arith::MulFOp::create(builder, location, quotient, v[1]));
  }
  case Operator::Power:
    return BINARY(math::PowFOp);
  case Operator::Arctangent2:
    return BINARY(math::Atan2Op);
  case Operator::Maximum:
    return BINARY(arith::MaximumFOp);
  case Operator::Minimum:
    return BINARY(arith::MinimumFOp);
  case Operator::Negate:
    return UNARY(arith::NegFOp);
  case Operator::Absolute:
    return UNARY(math::AbsFOp);
  case Operator::Exponential:
    return UNARY(math::ExpOp);
  case Operator::Logarithm:
    return UNARY(math::LogOp);
  case Operator::SquareRoot:
    return UNARY(math::SqrtOp);
  case Operator::ReciprocalSquareRoot:
    return UNARY(math::RsqrtOp);
  case Operator::Cosine:
    return UNARY(math::CosOp);
  case Operator::Sine:
    return UNARY(math::SinOp);
  case Operator::Arctangent:
    return UNARY(math::AtanOp);
  case Operator::Truncate:
    return UNARY(math::TruncOp);
  case Operator::Round:
    return UNARY(math::RoundEvenOp);
  case Operator::Floor:
    return UNARY(math::FloorOp);
  case Operator::Ceiling:
    return UNARY(math::CeilOp);
  case Operator::Erf:
    return UNARY(math::ErfOp);
  case Operator::Relu:
    return activation(graph::ActivationKind::Relu);
  case Operator::Gelu:
    return activation(graph::ActivationKind::Gelu);
  case Operator::GeluTanh:
    return activation(graph::ActivationKind::GeluTanh);
  case Operator::Silu:
    return activation(graph::ActivationKind::Silu);
  case Operator::Sigmoid:
    return activation(graph::ActivationKind::Sigmoid);
  case Operator::Tanh:
    return activation(graph::ActivationKind::Tanh);
  default:
    throw ImportError("expects integers, but got floating point; convert with .long()");
  }
#undef UNARY
#undef BINARY
}

mlir::Value Emitter::integerElementwise(Operator op, ArrayRef<mlir::Value> v, ElementType element) {
  auto constant = [&](double value) { return splat(element, shapeOf(v[0]), value); };
  switch (op) {
  case Operator::Add:
    return arith::AddIOp::create(builder, location, v[0], v[1]);
  case Operator::Subtract:
    return arith::SubIOp::create(builder, location, v[0], v[1]);
  case Operator::Multiply:
    return arith::MulIOp::create(builder, location, v[0], v[1]);
  case Operator::FloorDivide:
    return arith::FloorDivSIOp::create(builder, location, v[0], v[1]);
  case Operator::TruncateDivide:
    return arith::DivSIOp::create(builder, location, v[0], v[1]);
  case Operator::Remainder: {
    mlir::Value quotient = arith::FloorDivSIOp::create(builder, location, v[0], v[1]);
    return arith::SubIOp::create(builder, location, v[0], arith::MulIOp::create(builder, location, quotient, v[1]));
  }
  case Operator::Power:
    return math::IPowIOp::create(builder, location, v[0], v[1]);
  case Operator::Maximum:
    return arith::MaxSIOp::create(builder, location, v[0], v[1]);
  case Operator::Minimum:
    return arith::MinSIOp::create(builder, location, v[0], v[1]);
  case Operator::And:
    return arith::AndIOp::create(builder, location, v[0], v[1]);
  case Operator::Or:
    return arith::OrIOp::create(builder, location, v[0], v[1]);
  case Operator::Xor:
    return arith::XOrIOp::create(builder, location, v[0], v[1]);
  case Operator::Not:
    return arith::XOrIOp::create(builder, location, v[0], constant(element == ElementType::Bool ? 1 : -1));
  case Operator::Negate:
    return arith::SubIOp::create(builder, location, constant(0), v[0]);
  case Operator::Absolute:
    return math::AbsIOp::create(builder, location, v[0]);
  case Operator::Relu:
    return arith::MaxSIOp::create(builder, location, v[0], constant(0));
  default:
    throw ImportError("expects floating point, but got integers; convert with .float()");
  }
}

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

mlir::Value Emitter::emit(ExpressionRef x) {
  if (x->isSplat())
    return splat(x->type, x->shape, x->constant);
  return broadcastDims(emitCompact(expressions.compact(x)), x->dependentDims(), x->shape);
}

mlir::Value Emitter::emitCompact(ExpressionRef x) {
  if (auto it = emitted.find(x); it != emitted.end())
    return it->second;
  mlir::Value result;
  if (x->kind == Expression::Kind::Affine) {
    result = emitLinear(x);
  } else if (x->kind == Expression::Kind::Dense) {
    result = emitDense(x);
  } else {
    SmallVector<mlir::Value, 3> operands;
    for (ExpressionRef operand : x->operands)
      operands.push_back(emit(operand));
    ElementType operandType = x->operands[x->op == Operator::Select ? 1 : 0]->type;
    result = elementwise(x->op, operands, operandType, x->type);
  }
  return emitted[x] = result;
}

/// One `graph.iota` per dimension, each over its own dimension until they are added.
mlir::Value Emitter::emitLinear(ExpressionRef x) {
  constexpr auto kInteger = ElementType::Int64;
  bool single = x->dependentDims().size() == 1;
  mlir::Value sum;
  for (int64_t d : x->dependentDims()) {
    Shape extent{x->shape[d]};
    mlir::Value term = graph::IotaOp::create(builder, location, type(kInteger, extent), builder.getI64IntegerAttr(0));
    if (x->factors[d] != 1)
      term = arith::MulIOp::create(builder, location, term, splat(kInteger, extent, double(x->factors[d])));
    if (single && x->constant != 0)
      term = arith::AddIOp::create(builder, location, term, splat(kInteger, extent, x->constant));
    term = broadcastDims(term, {d}, x->shape);
    sum = sum ? arith::AddIOp::create(builder, location, sum, term).getResult() : term;
  }
  if (!single && x->constant != 0)
    sum = arith::AddIOp::create(builder, location, sum, splat(kInteger, x->shape, x->constant));
  return convert(sum, kInteger, x->type);
}

/// A first dimension [B·H] along which H numbers repeat is said to be that, so that samples stay out of the data.
mlir::Value Emitter::emitDense(ExpressionRef x) {
  std::vector<double> values = expressions.materialize(x);
  int64_t period = x->data->period;
  bool isWhole = x->offset == 0 && values.size() == x->data->values.size() && x->factors == contiguousStrides(x->shape);
  if (period == 0 || !isWhole || x->shape.front() % period != 0)
    return emitNumbers(x->type, x->shape, values);
  Shape shape = x->shape;
  int64_t repeats = shape.front() / period;
  shape.front() = period;
  values.resize(numElements(shape));
  auto dims = llvm::to_vector(llvm::seq<int64_t>(1, shape.size() + 1));
  mlir::Value numbers = emitNumbers(x->type, shape, values);
  shape.insert(shape.begin(), repeats);
  return reshape(broadcastDims(numbers, dims, shape), x->shape);
}

mlir::Value Emitter::emitNumbers(ElementType numberType, ShapeRef shape, ArrayRef<double> numbers) {
  constexpr int64_t kConstantBytes = 64 << 10;
  int64_t bytes = numElements(shape) * std::max(1u, elementType(numberType).getIntOrFloatBitWidth() / 8);
  if (bytes > kConstantBytes)
    throw ImportError("needs a constant tensor of shape " + describe(shape) + " (" + std::to_string(bytes >> 10) +
                      " KiB) as data; constants above 64 KiB are supported only where they are recognised as an "
                      "attention mask: make it a parameter, or compute it from positions");
  Type element = elementType(numberType);
  SmallVector<Attribute> values;
  for (double value : numbers)
    values.push_back(numberAttribute(element, value));
  auto tensor = type(numberType, shape);
  return arith::ConstantOp::create(builder, location, tensor, DenseElementsAttr::get(tensor, values));
}
