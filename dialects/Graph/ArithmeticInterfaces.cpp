// Gradients and costs of upstream's `arith` and `math` ops on tensors, as external models: a table of
// one line an op. An op that is not in the table has no gradient, and `differentiate` says so.
#include "dialects/Graph/GraphDialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace galvatron::graph;

namespace {

/// Short names for what gradients are made of. `x` and `y` are the operands, `r` the result, `dy` its
/// gradient.
struct Formula {
  OpBuilder &b;
  Operation *op;
  Value dy, x, y, r;

  Value add(Value u, Value v) { return arith::AddFOp::create(b, op->getLoc(), u, v); }
  Value sub(Value u, Value v) { return arith::SubFOp::create(b, op->getLoc(), u, v); }
  Value mul(Value u, Value v) { return arith::MulFOp::create(b, op->getLoc(), u, v); }
  Value div(Value u, Value v) { return arith::DivFOp::create(b, op->getLoc(), u, v); }
  Value neg(Value u) { return arith::NegFOp::create(b, op->getLoc(), u); }
  template <typename Op> Value fn(Value u) { return Op::create(b, op->getLoc(), u); }
  Value pow(Value u, Value v) { return math::PowFOp::create(b, op->getLoc(), u, v); }
  Value splat(double value) { return createSplat(b, op->getLoc(), dy.getType(), value); }
  Value pick(Value condition, Value u, Value v) { return arith::SelectOp::create(b, op->getLoc(), condition, u, v); }
  Value less(Value u, Value v) { return arith::CmpFOp::create(b, op->getLoc(), arith::CmpFPredicate::OLT, u, v); }
  Value equal(Value u, Value v) { return arith::CmpFOp::create(b, op->getLoc(), arith::CmpFPredicate::OEQ, u, v); }
  Value square(Value u) { return mul(u, u); }
  /// As torch: a tie shares the gradient.
  Value whereLess(Value small, Value large) {
    return pick(equal(small, large), mul(dy, splat(0.5)), pick(less(small, large), dy, splat(0)));
  }
};

/// `Rule` is a lambda without captures; its type is its value.
template <typename Op, typename Rule>
struct Gradient : DifferentiableOpInterface::ExternalModel<Gradient<Op, Rule>, Op> {
  LogicalResult buildBackward(Operation *op, OpBuilder &builder, ValueRange resultGradients,
                              MutableArrayRef<Value> operandGradients) const {
    Formula formula{builder,
                    op,
                    resultGradients[0],
                    op->getOperand(0),
                    op->getNumOperands() > 1 ? op->getOperand(1) : Value(),
                    op->getResult(0)};
    Rule()(formula, operandGradients);
    return success();
  }
};

template <typename Op, typename Rule> void attachGradient(MLIRContext &context, Rule) {
  Op::template attachInterface<Gradient<Op, Rule>>(context);
}

/// `flopsPerElement` of the result.
template <typename Op, int64_t flopsPerElement>
struct Cost : CostOpInterface::ExternalModel<Cost<Op, flopsPerElement>, Op> {
  int64_t getFlops(Operation *op) const {
    auto tensor = dyn_cast<RankedTensorType>(op->getResult(0).getType());
    return flopsPerElement * (tensor ? tensor.getNumElements() : 1);
  }
  int64_t getBytesMoved(Operation *op) const { return bytesOfOperandsAndResults(op); }
};

template <int64_t flopsPerElement, typename... Ops> void attachCosts(MLIRContext &context) {
  (Ops::template attachInterface<Cost<Ops, flopsPerElement>>(context), ...);
}

} // namespace

#define RULE(OP, ...) attachGradient<OP>(context, [](Formula &f, MutableArrayRef<Value> d) { __VA_ARGS__; })

void GraphDialect::attachArithmeticInterfaces() {
  MLIRContext &context = *getContext();
  constexpr double kTwoOverSqrtPi = 1.1283791670955126;

  RULE(arith::AddFOp, d[0] = f.dy, d[1] = f.dy);
  RULE(arith::SubFOp, d[0] = f.dy, d[1] = f.neg(f.dy));
  RULE(arith::MulFOp, d[0] = f.mul(f.dy, f.y), d[1] = f.mul(f.dy, f.x));
  RULE(arith::DivFOp, d[0] = f.div(f.dy, f.y), d[1] = f.neg(f.div(f.mul(f.dy, f.r), f.y)));
  RULE(arith::NegFOp, d[0] = f.neg(f.dy));
  RULE(arith::MaximumFOp, d[0] = f.whereLess(f.y, f.x), d[1] = f.whereLess(f.x, f.y));
  RULE(arith::MaxNumFOp, d[0] = f.whereLess(f.y, f.x), d[1] = f.whereLess(f.x, f.y));
  RULE(arith::MinimumFOp, d[0] = f.whereLess(f.x, f.y), d[1] = f.whereLess(f.y, f.x));
  RULE(arith::MinNumFOp, d[0] = f.whereLess(f.x, f.y), d[1] = f.whereLess(f.y, f.x));
  RULE(arith::SelectOp, d[1] = f.pick(f.x, f.dy, f.splat(0)), d[2] = f.pick(f.x, f.splat(0), f.dy));
  RULE(arith::ExtFOp, d[0] = arith::TruncFOp::create(f.b, f.op->getLoc(), f.x.getType(), f.dy));
  RULE(arith::TruncFOp, d[0] = arith::ExtFOp::create(f.b, f.op->getLoc(), f.x.getType(), f.dy));

  RULE(math::ExpOp, d[0] = f.mul(f.dy, f.r));
  RULE(math::Exp2Op, d[0] = f.mul(f.dy, f.mul(f.r, f.splat(0.6931471805599453))));
  RULE(math::ExpM1Op, d[0] = f.mul(f.dy, f.add(f.r, f.splat(1))));
  RULE(math::LogOp, d[0] = f.div(f.dy, f.x));
  RULE(math::Log1pOp, d[0] = f.div(f.dy, f.add(f.x, f.splat(1))));
  RULE(math::SqrtOp, d[0] = f.div(f.mul(f.dy, f.splat(0.5)), f.r));
  // d x^(-1/2) = -1/2 r³
  RULE(math::RsqrtOp, d[0] = f.mul(f.mul(f.dy, f.splat(-0.5)), f.mul(f.r, f.square(f.r))));
  RULE(math::TanhOp, d[0] = f.mul(f.dy, f.sub(f.splat(1), f.square(f.r))));
  RULE(math::SinOp, d[0] = f.mul(f.dy, f.fn<math::CosOp>(f.x)));
  RULE(math::CosOp, d[0] = f.neg(f.mul(f.dy, f.fn<math::SinOp>(f.x))));
  RULE(math::ErfOp, d[0] = f.mul(f.mul(f.dy, f.splat(kTwoOverSqrtPi)), f.fn<math::ExpOp>(f.neg(f.square(f.x)))));
  RULE(math::AbsFOp,
       d[0] = f.pick(f.less(f.x, f.splat(0)), f.neg(f.dy), f.pick(f.equal(f.x, f.splat(0)), f.splat(0), f.dy)));
  // As torch: 0 where 0 · ∞ would stand. The exponent's gradient is meant for a base that is not negative.
  RULE(math::PowFOp,
       d[0] = f.mul(f.dy, f.pick(f.equal(f.y, f.splat(0)), f.splat(0), f.mul(f.y, f.pow(f.x, f.sub(f.y, f.splat(1)))))),
       d[1] = f.mul(f.dy, f.pick(f.equal(f.x, f.splat(0)), f.splat(0), f.mul(f.r, f.fn<math::LogOp>(f.x)))));
  RULE(math::AtanOp, d[0] = f.div(f.dy, f.add(f.splat(1), f.square(f.x))));
  // d atan2(x, y) = (y dx - x dy) / (x² + y²), 0 at the origin.
  RULE(math::Atan2Op, {
    Value squares = f.add(f.square(f.x), f.square(f.y));
    Value share = f.div(f.dy, f.pick(f.equal(squares, f.splat(0)), f.splat(1), squares));
    d[0] = f.mul(share, f.y), d[1] = f.neg(f.mul(share, f.x));
  });
  // Steps: the gradient is zero almost everywhere.
  RULE(math::FloorOp, d[0] = f.splat(0));
  RULE(math::CeilOp, d[0] = f.splat(0));
  RULE(math::RoundOp, d[0] = f.splat(0));
  RULE(math::RoundEvenOp, d[0] = f.splat(0));
  RULE(math::TruncOp, d[0] = f.splat(0));

  attachCosts<0, arith::ConstantOp>(context);
  attachCosts<1, arith::AddFOp, arith::SubFOp, arith::MulFOp, arith::DivFOp, arith::NegFOp, arith::MaximumFOp,
              arith::MaxNumFOp, arith::MinimumFOp, arith::MinNumFOp, arith::SelectOp, arith::ExtFOp, arith::TruncFOp,
              arith::CmpFOp, arith::CmpIOp, arith::SIToFPOp, arith::FPToSIOp, arith::AddIOp, arith::SubIOp,
              arith::MulIOp, arith::FloorDivSIOp, arith::DivSIOp, arith::MaxSIOp, arith::MinSIOp, arith::AndIOp,
              arith::OrIOp, arith::XOrIOp, arith::ExtSIOp, arith::ExtUIOp, arith::TruncIOp, arith::UIToFPOp,
              math::AbsFOp, math::FloorOp, math::CeilOp, math::RoundOp, math::RoundEvenOp, math::TruncOp, math::AbsIOp>(
      context);
  attachCosts<8, math::ExpOp, math::Exp2Op, math::ExpM1Op, math::LogOp, math::Log1pOp, math::SqrtOp, math::RsqrtOp,
              math::TanhOp, math::SinOp, math::CosOp, math::ErfOp, math::PowFOp, math::AtanOp, math::Atan2Op>(context);
}

#undef RULE
