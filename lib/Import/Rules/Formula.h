// What operators without an op of their own are written with: short names for elementwise arithmetic.
//
// Where torch's derivative jumps (clamp at its bounds, a hinge at zero) a choice by comparison takes the side
// that torch takes: `choose` gives the whole gradient to the value chosen, `Maximum` would share a tie. A value that
// is not chosen must stay finite, or its gradient is 0 · ∞: `at(x, where)` puts a harmless number there.
#ifndef GALVATRON_IMPORT_RULES_FORMULA_H
#define GALVATRON_IMPORT_RULES_FORMULA_H

#include "lib/Import/Program/Importer.h"

namespace galvatron::importer {

inline ElementType floatOf(ElementType type) { return isFloat(type) ? type : ElementType::Float32; }

/// The dimensions that a reduction's `dim` names, ascending; all of them where it names none.
llvm::SmallVector<int64_t> reducedDims(Call &call, const Tensor &x);

/// Computes in `type`; operands are broadcast and converted to it.
struct Formula {
  Call &call;
  ElementType type;

  Tensor operator()(Operator op, llvm::ArrayRef<Tensor> operands) const {
    return call.importer.elementwise(op, operands, type, isComparison(op) ? ElementType::Bool : type);
  }
  Tensor number(double value) const { return Tensor::of(call.expressions.splat(type, {}, value)); }

  Tensor add(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Add, {a, b}); }
  Tensor subtract(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Subtract, {a, b}); }
  Tensor multiply(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Multiply, {a, b}); }
  Tensor multiply(const Tensor &a, double b) const { return multiply(a, number(b)); }
  Tensor divide(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Divide, {a, b}); }
  Tensor negate(const Tensor &a) const { return (*this)(Operator::Negate, {a}); }
  Tensor absolute(const Tensor &a) const { return (*this)(Operator::Absolute, {a}); }
  Tensor exponential(const Tensor &a) const { return (*this)(Operator::Exponential, {a}); }
  Tensor logarithm(const Tensor &a) const { return (*this)(Operator::Logarithm, {a}); }
  Tensor squareRoot(const Tensor &a) const { return (*this)(Operator::SquareRoot, {a}); }

  Tensor less(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Less, {a, b}); }
  Tensor lessEqual(const Tensor &a, const Tensor &b) const { return (*this)(Operator::LessEqual, {a, b}); }
  Tensor equal(const Tensor &a, const Tensor &b) const { return (*this)(Operator::Equal, {a, b}); }
  Tensor either(const Tensor &a, const Tensor &b) const {
    return call.importer.elementwise(Operator::Or, {a, b}, ElementType::Bool, ElementType::Bool);
  }
  Tensor both(const Tensor &a, const Tensor &b) const {
    return call.importer.elementwise(Operator::And, {a, b}, ElementType::Bool, ElementType::Bool);
  }
  Tensor choose(const Tensor &condition, const Tensor &a, const Tensor &b) const {
    return (*this)(Operator::Select, {condition, a, b});
  }

  /// Over dimensions that stay, with extent 1.
  Tensor sum(const Tensor &x, llvm::ArrayRef<int64_t> dims) const { return reduce(x, false, dims); }
  Tensor maximum(const Tensor &x, llvm::ArrayRef<int64_t> dims) const { return reduce(x, true, dims); }
  Tensor reduce(const Tensor &x, bool maximum, llvm::ArrayRef<int64_t> dims) const {
    Shape shape = x.shape;
    for (int64_t dim : dims)
      shape[dim] = 1;
    Tensor given = call.importer.convert(x, type);
    return call.importer.reshape(Tensor::of(call.emitter.reduce(call.importer.force(given), maximum, dims), type),
                                 shape);
  }

  /// √x with derivative 0 where x is 0, as torch's norms and deviations have it.
  Tensor rootOfSquares(const Tensor &x) const {
    Tensor none = equal(x, number(0));
    return choose(none, number(0), squareRoot(choose(none, number(1), x)));
  }
  /// log(1 + exp(x)), which is x beyond `threshold`.
  Tensor softplus(const Tensor &x, double threshold) const {
    Tensor large = less(number(threshold), x);
    return choose(large, x, logarithm(add(number(1), exponential(choose(large, number(0), x)))));
  }
};

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_RULES_FORMULA_H
