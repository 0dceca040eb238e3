// Small matchers and builders of the raising passes: constants, repetitions, einsum subscripts, and the
// meaning of one scalar operation.
#include "Raise.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Verifier.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;

//===----------------------------------------------------------------------===//
// Constants
//===----------------------------------------------------------------------===//

static std::optional<double> splatOfAttribute(Attribute attribute) {
  auto elements = dyn_cast_or_null<DenseElementsAttr>(attribute);
  if (!elements || !elements.isSplat())
    return std::nullopt;
  if (isa<FloatType>(elements.getElementType()))
    return elements.getSplatValue<APFloat>().convertToDouble();
  APInt value = elements.getSplatValue<APInt>();
  return value.getBitWidth() == 1 ? double(value.getZExtValue()) : double(value.getSExtValue());
}

std::optional<double> raise::splatOf(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    Attribute attribute;
    if (matchPattern(op, m_Constant(&attribute)))
      return splatOfAttribute(attribute);
    if (!isa<BroadcastOp, ReshapeOp, TransposeOp, SliceOp, arith::ExtFOp, arith::TruncFOp, arith::SIToFPOp,
             arith::ExtSIOp>(op))
      return std::nullopt;
    value = op->getOperand(0);
  }
  return std::nullopt;
}

Value raise::splat(OpBuilder &builder, Location loc, RankedTensorType type, double value) {
  Type element = type.getElementType();
  TypedAttr scalar = isa<FloatType>(element) ? TypedAttr(builder.getFloatAttr(element, value))
                                             : TypedAttr(builder.getIntegerAttr(element, int64_t(value)));
  return arith::ConstantOp::create(builder, loc, DenseElementsAttr::get(type, ArrayRef<Attribute>(scalar)));
}

//===----------------------------------------------------------------------===//
// Structure
//===----------------------------------------------------------------------===//

bool raise::isElementwise(Operation *op) {
  if (op->getNumResults() != 1 || op->getNumRegions() || op->getNumOperands() == 0)
    return false;
  Dialect *dialect = op->getDialect();
  bool known = isa<arith::ArithDialect>(dialect) || isa<math::MathDialect>(dialect) ||
               isa<ActivationOp, GatedActivationOp, DropoutOp>(op);
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  return known && type && llvm::all_of(op->getOperandTypes(), [&](Type operand) {
           auto tensor = dyn_cast<RankedTensorType>(operand);
           return tensor && tensor.getShape() == type.getShape();
         });
}

bool raise::isParameter(Value value) {
  while (Operation *op = value.getDefiningOp()) {
    if (isa<ParameterOp>(op))
      return true;
    if (!isa<SliceOp, ReshapeOp, TransposeOp>(op))
      return false;
    value = op->getOperand(0);
  }
  return false;
}

Value raise::rowVectorOf(Value value) {
  auto broadcast = value.getDefiningOp<BroadcastOp>();
  int64_t rank = typeOf(value).getRank();
  if (!broadcast || broadcast.getDims() != ArrayRef<int64_t>{rank - 1})
    return nullptr;
  return broadcast.getX();
}

Value raise::columnOf(Value value) {
  int64_t last = typeOf(value).getRank() - 1;
  if (auto broadcast = value.getDefiningOp<BroadcastOp>()) {
    if (!llvm::is_contained(broadcast.getDims(), last))
      return broadcast.getX();
    Value x = broadcast.getX();
    return broadcast.getDims().back() == last && typeOf(x).getShape().back() == 1 ? columnOf(x) : nullptr;
  }
  // x [.., S] given a last dimension of one.
  if (auto reshape = value.getDefiningOp<ReshapeOp>())
    if (last >= 0 && shapeOf(value).back() == 1 && shapeOf(value).drop_back() == shapeOf(reshape.getX()))
      return reshape.getX();
  return nullptr;
}

std::optional<int64_t> raise::cutDim(SliceOp slice) {
  std::optional<int64_t> found;
  for (auto [dim, before, after] : llvm::enumerate(shapeOf(slice.getX()), shapeOf(slice.getResult())))
    if (before != after) {
      if (found)
        return std::nullopt;
      found = dim;
    }
  return found;
}

bool raise::groupDimensions(ArrayRef<int64_t> from, ArrayRef<int64_t> to, SmallVectorImpl<DimensionGroup> &groups) {
  size_t i = 0, j = 0;
  while (i < from.size() || j < to.size()) {
    DimensionGroup group;
    int64_t fromProduct = 1, toProduct = 1;
    auto takeFrom = [&] { fromProduct *= from[i], group.from.push_back(from[i++]); };
    auto takeTo = [&] { toProduct *= to[j], group.to.push_back(to[j++]); };
    if (i < from.size())
      takeFrom();
    if (j < to.size())
      takeTo();
    while (fromProduct != toProduct) {
      if (fromProduct < toProduct ? i >= from.size() : j >= to.size())
        return false;
      fromProduct < toProduct ? takeFrom() : takeTo();
    }
    // Unit dimensions follow unless they line up one to one.
    auto unitFrom = [&] { return i < from.size() && from[i] == 1; };
    auto unitTo = [&] { return j < to.size() && to[j] == 1; };
    while (unitFrom() != unitTo())
      unitFrom() ? takeFrom() : takeTo();
    groups.push_back(std::move(group));
  }
  return true;
}

raise::Equation raise::Equation::parse(StringRef text) {
  auto [operands, result] = text.split("->");
  auto [lhs, rhs] = operands.split(",");
  return {lhs.trim().str(), rhs.trim().str(), result.trim().str()};
}

std::string raise::Equation::fresh(unsigned count) const {
  std::string all = lhs + rhs + result, subscripts;
  for (char c : StringRef("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    if (subscripts.size() < count && all.find(c) == std::string::npos)
      subscripts += c;
  assert(subscripts.size() == count && "tensors of more than 26 dimensions");
  return subscripts;
}

//===----------------------------------------------------------------------===//
// Replacing
//===----------------------------------------------------------------------===//

namespace {
/// Notes what a builder makes.
struct Recorder : OpBuilder::Listener {
  void notifyOperationInserted(Operation *op, OpBuilder::InsertPoint) override { made.push_back(op); }

  SmallVector<Operation *> made;
};
} // namespace

static bool areLegal(Operation *replaced, ArrayRef<Operation *> made) {
  // What a verifier has to say is about our attempt, not about the user's program.
  ScopedDiagnosticHandler silence(replaced->getContext(), [](Diagnostic &) {});
  return llvm::all_of(made, [](Operation *op) { return succeeded(verify(op, /*verifyRecursively=*/false)); });
}

/// What `build` makes before `op`, noted in `recorder`; null if it is not legal, and then gone.
static Value buildIfLegal(Operation *op, raise::BuildFunction build, Recorder &recorder) {
  OpBuilder builder(op, &recorder);
  Value result = build(builder);
  bool fits = result && result.getType() == op->getResult(0).getType() &&
              llvm::all_of(op->getResults().drop_front(), [](Value other) { return other.use_empty(); });
  if (fits && areLegal(op, recorder.made))
    return result;
  for (Operation *attempt : llvm::reverse(recorder.made))
    attempt->erase();
  return nullptr;
}

LogicalResult raise::replaceIfLegal(PatternRewriter &rewriter, Operation *op, BuildFunction build) {
  Recorder recorder;
  Value result = buildIfLegal(op, build, recorder);
  if (!result)
    return rewriter.notifyMatchFailure(op, "what would replace it is not legal");
  if (OpBuilder::Listener *listener = rewriter.getListener())
    for (Operation *made : recorder.made)
      listener->notifyOperationInserted(made, /*previous=*/{});
  rewriter.replaceAllUsesWith(op->getResult(0), result);
  rewriter.eraseOp(op);
  return success();
}

bool raise::replaceIfLegal(Operation *op, BuildFunction build) {
  Recorder recorder;
  Value result = buildIfLegal(op, build, recorder);
  if (result)
    op->getResult(0).replaceAllUsesWith(result);
  return result != nullptr;
}

//===----------------------------------------------------------------------===//
// Builders
//===----------------------------------------------------------------------===//

Value raise::reshapeTo(OpBuilder &builder, Location loc, Value x, ArrayRef<int64_t> shape) {
  if (shapeOf(x) == shape)
    return x;
  return ReshapeOp::create(builder, loc, reshaped(x, shape), x);
}

Value raise::transposeBy(OpBuilder &builder, Location loc, Value x, ArrayRef<int64_t> permutation) {
  if (llvm::is_sorted(permutation))
    return x;
  SmallVector<int64_t> shape;
  for (int64_t dim : permutation)
    shape.push_back(shapeOf(x)[dim]);
  return TransposeOp::create(builder, loc, reshaped(x, shape), x, permutation);
}

Value raise::sliceOf(OpBuilder &builder, Location loc, Value x, int64_t dim, int64_t offset, int64_t size) {
  SmallVector<int64_t> shape(shapeOf(x)), offsets(shape.size(), 0);
  if (shape[dim] == size)
    return x;
  shape[dim] = size;
  offsets[dim] = offset;
  return SliceOp::create(builder, loc, reshaped(x, shape), x, offsets);
}

//===----------------------------------------------------------------------===//
// The meaning of one scalar operation
//===----------------------------------------------------------------------===//

double raise::activate(ActivationKind kind, double x) {
  auto sigmoid = [](double t) { return 1 / (1 + std::exp(-t)); };
  switch (kind) {
  case ActivationKind::Relu:
    return std::max(x, 0.0);
  case ActivationKind::Gelu:
    return 0.5 * x * (1 + std::erf(x * M_SQRT1_2));
  case ActivationKind::GeluTanh:
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  case ActivationKind::Silu:
    return x * sigmoid(x);
  case ActivationKind::Relu2:
    return x > 0 ? x * x : 0;
  case ActivationKind::Sigmoid:
    return sigmoid(x);
  case ActivationKind::Tanh:
    return std::tanh(x);
  }
  llvm_unreachable("every kind is listed");
}

static std::optional<double> compare(arith::CmpIPredicate predicate, double a, double b) {
  switch (predicate) {
  case arith::CmpIPredicate::eq:
    return a == b;
  case arith::CmpIPredicate::ne:
    return a != b;
  case arith::CmpIPredicate::slt:
    return a < b;
  case arith::CmpIPredicate::sle:
    return a <= b;
  case arith::CmpIPredicate::sgt:
    return a > b;
  case arith::CmpIPredicate::sge:
    return a >= b;
  default: // Unsigned comparisons of what may be negative.
    if (a < 0 || b < 0)
      return std::nullopt;
    break;
  }
  switch (predicate) {
  case arith::CmpIPredicate::ult:
    return a < b;
  case arith::CmpIPredicate::ule:
    return a <= b;
  case arith::CmpIPredicate::ugt:
    return a > b;
  default:
    return a >= b;
  }
}

static std::optional<double> compare(arith::CmpFPredicate predicate, double a, double b) {
  bool ordered = !std::isnan(a) && !std::isnan(b);
  switch (predicate) {
  case arith::CmpFPredicate::OEQ:
    return ordered && a == b;
  case arith::CmpFPredicate::UEQ:
    return !ordered || a == b;
  case arith::CmpFPredicate::ONE:
    return ordered && a != b;
  case arith::CmpFPredicate::UNE:
    return !ordered || a != b;
  case arith::CmpFPredicate::OLT:
    return ordered && a < b;
  case arith::CmpFPredicate::ULT:
    return !ordered || a < b;
  case arith::CmpFPredicate::OLE:
    return ordered && a <= b;
  case arith::CmpFPredicate::ULE:
    return !ordered || a <= b;
  case arith::CmpFPredicate::OGT:
    return ordered && a > b;
  case arith::CmpFPredicate::UGT:
    return !ordered || a > b;
  case arith::CmpFPredicate::OGE:
    return ordered && a >= b;
  case arith::CmpFPredicate::UGE:
    return !ordered || a >= b;
  default:
    return std::nullopt;
  }
}

/// Both operands as i64, as long as they are exact.
template <typename Function> static double onIntegers(double a, double b, Function function) {
  return double(function(int64_t(a), int64_t(b)));
}

std::optional<double> raise::evaluateElement(Operation *op, ArrayRef<double> x) {
  using R = std::optional<double>;
  return TypeSwitch<Operation *, R>(op)
      .Case<arith::AddFOp, arith::AddIOp>([&](auto) -> R { return x[0] + x[1]; })
      .Case<arith::SubFOp, arith::SubIOp>([&](auto) -> R { return x[0] - x[1]; })
      .Case<arith::MulFOp, arith::MulIOp>([&](auto) -> R { return x[0] * x[1]; })
      .Case<arith::DivFOp>([&](auto) -> R { return x[0] / x[1]; })
      .Case<arith::DivSIOp, arith::FloorDivSIOp>([&](auto) -> R {
        if (x[1] == 0)
          return std::nullopt;
        double quotient = x[0] / x[1];
        return isa<arith::DivSIOp>(op) ? std::trunc(quotient) : std::floor(quotient);
      })
      .Case<arith::RemSIOp, arith::RemFOp>([&](auto) -> R { return x[1] == 0 ? R() : R(std::fmod(x[0], x[1])); })
      .Case<arith::MaximumFOp, arith::MaxNumFOp, arith::MaxSIOp>([&](auto) -> R { return std::max(x[0], x[1]); })
      .Case<arith::MinimumFOp, arith::MinNumFOp, arith::MinSIOp>([&](auto) -> R { return std::min(x[0], x[1]); })
      .Case<arith::AndIOp>([&](auto) -> R { return onIntegers(x[0], x[1], std::bit_and<>()); })
      .Case<arith::OrIOp>([&](auto) -> R { return onIntegers(x[0], x[1], std::bit_or<>()); })
      .Case<arith::XOrIOp>([&](auto) -> R { return onIntegers(x[0], x[1], std::bit_xor<>()); })
      .Case<arith::CmpIOp>([&](arith::CmpIOp cmp) { return compare(cmp.getPredicate(), x[0], x[1]); })
      .Case<arith::CmpFOp>([&](arith::CmpFOp cmp) { return compare(cmp.getPredicate(), x[0], x[1]); })
      .Case<arith::SelectOp>([&](auto) -> R { return x[0] != 0 ? x[1] : x[2]; })
      .Case<arith::NegFOp>([&](auto) -> R { return -x[0]; })
      .Case<arith::ExtFOp, arith::TruncFOp, arith::SIToFPOp, arith::UIToFPOp, arith::ExtSIOp, arith::ExtUIOp,
            arith::TruncIOp, arith::IndexCastOp>([&](Operation *cast) -> R {
        // i1 is 0 or 1 here, but -1 for a signed conversion.
        bool isBit = getElementTypeOrSelf(cast->getOperand(0).getType()).isInteger(1);
        if (isBit && isa<arith::SIToFPOp, arith::ExtSIOp>(cast))
          return -x[0];
        if (getElementTypeOrSelf(cast->getResult(0).getType()).isInteger(1))
          return int64_t(x[0]) & 1;
        return x[0];
      })
      .Case<arith::FPToSIOp, math::TruncOp>([&](auto) -> R { return std::trunc(x[0]); })
      .Case<math::CosOp>([&](auto) -> R { return std::cos(x[0]); })
      .Case<math::SinOp>([&](auto) -> R { return std::sin(x[0]); })
      .Case<math::TanhOp>([&](auto) -> R { return std::tanh(x[0]); })
      .Case<math::ErfOp>([&](auto) -> R { return std::erf(x[0]); })
      .Case<math::ExpOp>([&](auto) -> R { return std::exp(x[0]); })
      .Case<math::Exp2Op>([&](auto) -> R { return std::exp2(x[0]); })
      .Case<math::LogOp>([&](auto) -> R { return std::log(x[0]); })
      .Case<math::Log2Op>([&](auto) -> R { return std::log2(x[0]); })
      .Case<math::Log1pOp>([&](auto) -> R { return std::log1p(x[0]); })
      .Case<math::SqrtOp>([&](auto) -> R { return std::sqrt(x[0]); })
      .Case<math::RsqrtOp>([&](auto) -> R { return 1 / std::sqrt(x[0]); })
      .Case<math::PowFOp, math::FPowIOp, math::IPowIOp>([&](auto) -> R { return std::pow(x[0], x[1]); })
      .Case<math::AbsFOp, math::AbsIOp>([&](auto) -> R { return std::abs(x[0]); })
      .Case<math::FloorOp>([&](auto) -> R { return std::floor(x[0]); })
      .Case<math::CeilOp>([&](auto) -> R { return std::ceil(x[0]); })
      .Case<math::RoundEvenOp>([&](auto) -> R { return std::nearbyint(x[0]); })
      .Case<ActivationOp>([&](ActivationOp f) -> R { return activate(f.getKind(), x[0]); })
      .Case<GatedActivationOp>([&](GatedActivationOp f) -> R { return activate(f.getKind(), x[0]) * x[1]; })
      .Default([](Operation *) -> R { return std::nullopt; });
}
