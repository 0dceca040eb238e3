// What upstream's `arith` and `math` ops mean on tensors: one line an op.
#include "OpTable.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/TypeUtilities.h"

#include <cmath>

using namespace galvatron::reference;
using namespace mlir;

namespace {

using Unary = double (*)(double);
using Binary = double (*)(double, double);

template <typename Op> void unary(OpTable &table, Unary function) {
  table[Op::getOperationName()] = [function](OpCall &call) {
    for (int64_t i = 0; i < call.results[0].size(); ++i)
      call.results[0][i] = function(call.operand(0)[i]);
    return success();
  };
}

template <typename Op> void binary(OpTable &table, Binary function) {
  table[Op::getOperationName()] = [function](OpCall &call) {
    for (int64_t i = 0; i < call.results[0].size(); ++i)
      call.results[0][i] = function(call.operand(0)[i], call.operand(1)[i]);
    return success();
  };
}

/// i1 as 0 or 1, wider integers as signed.
double toDouble(const APInt &value) {
  return value.getBitWidth() == 1 ? double(value.getZExtValue()) : double(value.getSExtValue());
}

/// All elements as doubles.
std::vector<double> toDoubles(DenseElementsAttr elements) {
  std::vector<double> values;
  if (isa<FloatType>(elements.getElementType())) {
    for (APFloat element : elements.getValues<APFloat>()) {
      bool losesInfo;
      element.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven, &losesInfo);
      values.push_back(element.convertToDouble());
    }
    return values;
  }
  for (const APInt &element : elements.getValues<APInt>())
    values.push_back(toDouble(element));
  return values;
}

/// A device's piece of a constant is what its position selects.
LogicalResult constant(OpCall &call) {
  Attribute value = cast<arith::ConstantOp>(call.op).getValue();
  auto elements = dyn_cast<DenseElementsAttr>(value);
  if (!elements)
    return call.op->emitOpError("expects a dense constant, but got ") << value;
  std::vector<double> values = toDoubles(elements);
  Tensor &result = call.results[0];
  forEachIndex(result.shape, [&](ArrayRef<int64_t> index, int64_t i) {
    result[i] = values[call.position.globalElement(index, result.shape)];
  });
  return success();
}

/// Predicates of ordered and unordered comparison; NaN is neither less, equal nor greater.
LogicalResult compareFloats(OpCall &call) {
  using P = arith::CmpFPredicate;
  P predicate = cast<arith::CmpFOp>(call.op).getPredicate();
  for (int64_t i = 0; i < call.results[0].size(); ++i) {
    double x = call.operand(0)[i], y = call.operand(1)[i];
    bool unordered = std::isnan(x) || std::isnan(y), result = false;
    switch (predicate) {
    case P::AlwaysFalse:
      break;
    case P::AlwaysTrue:
      result = true;
      break;
    case P::OEQ:
    case P::UEQ:
      result = x == y;
      break;
    case P::ONE:
    case P::UNE:
      result = x != y;
      break;
    case P::OGT:
    case P::UGT:
      result = x > y;
      break;
    case P::OGE:
    case P::UGE:
      result = x >= y;
      break;
    case P::OLT:
    case P::ULT:
      result = x < y;
      break;
    case P::OLE:
    case P::ULE:
      result = x <= y;
      break;
    case P::ORD:
      result = !unordered;
      break;
    case P::UNO:
      break;
    }
    if (unordered && predicate != P::AlwaysTrue && predicate != P::AlwaysFalse)
      result = predicate >= P::UEQ; // the unordered ones come after ORD
    call.results[0][i] = result;
  }
  return success();
}

LogicalResult compareIntegers(OpCall &call) {
  using P = arith::CmpIPredicate;
  P predicate = cast<arith::CmpIOp>(call.op).getPredicate();
  for (int64_t i = 0; i < call.results[0].size(); ++i) {
    int64_t x = call.operand(0)[i], y = call.operand(1)[i];
    auto compare = [&](auto x, auto y) {
      switch (predicate) {
      case P::eq:
        return x == y;
      case P::ne:
        return x != y;
      case P::slt:
      case P::ult:
        return x < y;
      case P::sle:
      case P::ule:
        return x <= y;
      case P::sgt:
      case P::ugt:
        return x > y;
      case P::sge:
      case P::uge:
        return x >= y;
      }
      llvm_unreachable("a predicate without meaning");
    };
    call.results[0][i] = predicate >= P::ult ? compare(uint64_t(x), uint64_t(y)) : compare(x, y);
  }
  return success();
}

LogicalResult selectValues(OpCall &call) {
  const Tensor &condition = call.operand(0);
  for (int64_t i = 0; i < call.results[0].size(); ++i)
    call.results[0][i] = call.operand(condition[condition.size() == 1 ? 0 : i] ? 1 : 2)[i];
  return success();
}

/// i1 is kept as 0 or 1, but is -1 where it is read as signed.
LogicalResult fromSigned(OpCall &call) {
  bool isBool = getElementTypeOrSelf(call.op->getOperand(0).getType()).isInteger(1);
  for (int64_t i = 0; i < call.results[0].size(); ++i)
    call.results[0][i] = isBool ? -call.operand(0)[i] : call.operand(0)[i];
  return success();
}

/// Keeps the low bits.
LogicalResult truncateInteger(OpCall &call) {
  unsigned bits = getElementTypeOrSelf(call.op->getResult(0).getType()).getIntOrFloatBitWidth();
  for (int64_t i = 0; i < call.results[0].size(); ++i) {
    APInt value = APInt(64, int64_t(call.operand(0)[i]), true).trunc(bits);
    call.results[0][i] = toDouble(value);
  }
  return success();
}

double same(double x) { return x; }
int64_t asInteger(double x) { return static_cast<int64_t>(x); }

void addFloatOps(OpTable &table) {
  binary<arith::AddFOp>(table, [](double x, double y) { return x + y; });
  binary<arith::SubFOp>(table, [](double x, double y) { return x - y; });
  binary<arith::MulFOp>(table, [](double x, double y) { return x * y; });
  binary<arith::DivFOp>(table, [](double x, double y) { return x / y; });
  binary<arith::RemFOp>(table, [](double x, double y) { return std::fmod(x, y); });
  binary<arith::MaximumFOp>(table, [](double x, double y) { return x > y || std::isnan(x) ? x : y; });
  binary<arith::MinimumFOp>(table, [](double x, double y) { return x < y || std::isnan(x) ? x : y; });
  binary<arith::MaxNumFOp>(table, [](double x, double y) { return std::fmax(x, y); });
  binary<arith::MinNumFOp>(table, [](double x, double y) { return std::fmin(x, y); });
  unary<arith::NegFOp>(table, [](double x) { return -x; });
  unary<arith::ExtFOp>(table, same);
  unary<arith::TruncFOp>(table, same);
  unary<arith::FPToSIOp>(table, [](double x) { return std::trunc(x); });
  unary<arith::FPToUIOp>(table, [](double x) { return std::trunc(x); });
  unary<arith::UIToFPOp>(table, same);
  table[arith::SIToFPOp::getOperationName()] = fromSigned;
  table[arith::CmpFOp::getOperationName()] = compareFloats;
}

void addIntegerOps(OpTable &table) {
  binary<arith::AddIOp>(table, [](double x, double y) { return x + y; });
  binary<arith::SubIOp>(table, [](double x, double y) { return x - y; });
  binary<arith::MulIOp>(table, [](double x, double y) { return x * y; });
  binary<arith::DivSIOp>(table, [](double x, double y) { return std::trunc(x / y); });
  binary<arith::FloorDivSIOp>(table, [](double x, double y) { return std::floor(x / y); });
  binary<arith::RemSIOp>(table, [](double x, double y) { return std::fmod(x, y); });
  binary<arith::MaxSIOp>(table, [](double x, double y) { return std::max(x, y); });
  binary<arith::MinSIOp>(table, [](double x, double y) { return std::min(x, y); });
  binary<arith::AndIOp>(table, [](double x, double y) { return double(asInteger(x) & asInteger(y)); });
  binary<arith::OrIOp>(table, [](double x, double y) { return double(asInteger(x) | asInteger(y)); });
  binary<arith::XOrIOp>(table, [](double x, double y) { return double(asInteger(x) ^ asInteger(y)); });
  unary<math::AbsIOp>(table, [](double x) { return std::fabs(x); });
  unary<arith::ExtUIOp>(table, same);
  table[arith::ExtSIOp::getOperationName()] = fromSigned;
  table[arith::TruncIOp::getOperationName()] = truncateInteger;
  table[arith::CmpIOp::getOperationName()] = compareIntegers;
}

void addFunctions(OpTable &table) {
  unary<math::AbsFOp>(table, [](double x) { return std::fabs(x); });
  unary<math::AtanOp>(table, [](double x) { return std::atan(x); });
  binary<math::Atan2Op>(table, [](double x, double y) { return std::atan2(x, y); });
  unary<math::CeilOp>(table, [](double x) { return std::ceil(x); });
  unary<math::CosOp>(table, [](double x) { return std::cos(x); });
  unary<math::ErfOp>(table, [](double x) { return std::erf(x); });
  unary<math::ExpOp>(table, [](double x) { return std::exp(x); });
  unary<math::Exp2Op>(table, [](double x) { return std::exp2(x); });
  unary<math::ExpM1Op>(table, [](double x) { return std::expm1(x); });
  unary<math::FloorOp>(table, [](double x) { return std::floor(x); });
  unary<math::LogOp>(table, [](double x) { return std::log(x); });
  unary<math::Log1pOp>(table, [](double x) { return std::log1p(x); });
  unary<math::RoundOp>(table, [](double x) { return std::round(x); });
  unary<math::RoundEvenOp>(table, [](double x) { return std::nearbyint(x); });
  unary<math::RsqrtOp>(table, [](double x) { return 1 / std::sqrt(x); });
  unary<math::SinOp>(table, [](double x) { return std::sin(x); });
  unary<math::SqrtOp>(table, [](double x) { return std::sqrt(x); });
  unary<math::TanhOp>(table, [](double x) { return std::tanh(x); });
  unary<math::TruncOp>(table, [](double x) { return std::trunc(x); });
  binary<math::PowFOp>(table, [](double x, double y) { return std::pow(x, y); });
}

} // namespace

void galvatron::reference::addArithmeticOps(OpTable &table) {
  table[arith::ConstantOp::getOperationName()] = constant;
  table[arith::SelectOp::getOperationName()] = selectValues;
  addFloatOps(table);
  addIntegerOps(table);
  addFunctions(table);
}
