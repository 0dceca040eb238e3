// Construction of operators, with the rules that make masks and tables recognisable whatever way a
// model writes them:
//
//   arithmetic on ramps stays a ramp           (i + 1) - 1            →  i
//   comparisons of ramps have one form         i >= j, !(j > i)       →  j <= i      (positive left)
//   what a ramp's range decides is decided     diff(i) != 1           →  false
//   operators move into a choice of numbers    (1 - float(m)) · min   →  select(m, 0, min)
//   a choice has the larger number first       select(j > i, min, 0)  →  select(j <= i, 0, min)
//   what is not positional folds               1 / base^(arange/d)    →  Dense
#include "Expression.h"

#include <cmath>

using namespace galvatron::importer;
using llvm::ArrayRef;
using llvm::SmallVector;

/// Integers up to this magnitude are exact in the type.
static double exactLimit(ElementType type) {
  switch (type) {
  case ElementType::Bool:
    return 1;
  case ElementType::UInt8:
    return 255;
  case ElementType::Int32:
    return 0x1p31 - 1;
  case ElementType::Float16:
    return 0x1p11;
  case ElementType::BFloat16:
    return 0x1p8;
  case ElementType::Float32:
    return 0x1p24;
  case ElementType::Int64:
  case ElementType::Float64:
    return 0x1p53;
  }
  return 0;
}

static bool fits(const Linear &value, ElementType type, ShapeRef shape) {
  auto [low, high] = value.range(shape);
  return std::max(std::abs(low), std::abs(high)) <= exactLimit(type);
}

ExpressionRef ExpressionContext::elementwise(Operator op, ArrayRef<ExpressionRef> given, ElementType type) {
  SmallVector<ShapeRef> shapes;
  for (ExpressionRef operand : given)
    shapes.push_back(operand->shape);
  std::optional<Shape> shape = broadcastShapes(shapes);
  assert(shape && "rules check shapes first");
  SmallVector<ExpressionRef, 3> operands;
  for (ExpressionRef operand : given)
    operands.push_back(expand(operand, *shape));

  if (llvm::all_of(operands, [](ExpressionRef x) { return x->isSplat(); })) {
    SmallVector<double, 3> values;
    bool fromShape = false;
    for (ExpressionRef operand : operands) {
      values.push_back(operand->constant);
      fromShape |= operand->fromShape;
    }
    return splat(type, *shape, evaluateOperator(op, values, type), fromShape);
  }
  if (ExpressionRef simple = simplify(op, operands, type, *shape))
    return simple;

  Expression node;
  node.kind = Expression::Kind::Elementwise;
  node.type = type;
  node.shape = *shape;
  node.op = op;
  node.operands = operands;
  for (ExpressionRef operand : operands) {
    node.depends |= operand->depends;
    node.positional |= operand->positional;
  }
  ExpressionRef result = intern(std::move(node));
  if (result->positional || result->numDifferent() > kFoldLimit)
    return result;
  ExpressionRef narrow = compact(result);
  if (narrow != result)
    return expandFromCompact(narrow, result); // `narrow` has folded
  return fit(type, result->shape, materialize(result), false);
}

/// The inverse of `compact`: `like` has the shape and the dependent dimensions.
ExpressionRef ExpressionContext::expandFromCompact(ExpressionRef narrow, ExpressionRef like) {
  View wide;
  wide.shape = like->shape;
  for (int64_t d : like->dependentDims()) {
    View::Index index;
    index.terms.push_back({unsigned(d), 1});
    wide.indices.push_back(index);
  }
  return view(narrow, wide);
}

ExpressionRef ExpressionContext::convert(ExpressionRef x, ElementType type) {
  return x->type == type ? x : elementwise(Operator::Convert, {x}, type);
}

ExpressionRef ExpressionContext::logicalNot(ExpressionRef x) { return elementwise(Operator::Not, {x}, x->type); }

ExpressionRef ExpressionContext::simplify(Operator op, ArrayRef<ExpressionRef> operands, ElementType type,
                                          ShapeRef shape) {
  if (op == Operator::Convert && operands[0]->type == type)
    return operands[0];
  if (isComparison(op))
    if (ExpressionRef simple = simplifyComparison(op, operands[0], operands[1], shape))
      return simple;
  if (op == Operator::Select)
    return simplifySelect(operands[0], operands[1], operands[2], type);
  if (type == ElementType::Bool && !isComparison(op) && operands[0]->type == ElementType::Bool)
    if (ExpressionRef simple = simplifyLogic(op, operands[0], operands.size() > 1 ? operands[1] : nullptr))
      return simple;
  if (ExpressionRef simple = liftSelect(op, operands, type, shape))
    return simple;
  return isComparison(op) ? nullptr : simplifyArithmetic(op, operands, type, shape);
}

ExpressionRef ExpressionContext::simplifyArithmetic(Operator op, ArrayRef<ExpressionRef> operands, ElementType type,
                                                    ShapeRef shape) {
  ExpressionRef a = operands[0], b = operands.size() > 1 ? operands[1] : nullptr;
  switch (op) {
  case Operator::Add:
    if (a->isSplat(0) || b->isSplat(0))
      return a->isSplat(0) ? b : a;
    break;
  case Operator::Subtract:
  case Operator::Divide:
  case Operator::FloorDivide:
  case Operator::Power:
    if (b->isSplat(op == Operator::Subtract ? 0 : 1) && a->type == type &&
        (op != Operator::FloorDivide || !isFloat(type)))
      return a;
    break;
  case Operator::Multiply:
    if (a->isSplat(1) || b->isSplat(1))
      return a->isSplat(1) ? b : a;
    break;
  default:
    break;
  }
  auto x = asLinear(a), y = b ? asLinear(b) : std::nullopt;
  if (!x || (b && !y))
    return nullptr;
  Linear result = *x;
  if (op == Operator::Add || op == Operator::Subtract) {
    int64_t sign = op == Operator::Add ? 1 : -1;
    result.constant += double(sign) * y->constant;
    for (auto [factor, other] : llvm::zip_equal(result.factors, y->factors))
      factor += sign * other;
    result.positional |= y->positional;
  } else if (op == Operator::Negate || (op == Operator::Multiply && (x->isConstant() || y->isConstant()))) {
    if (op == Operator::Multiply && !y->isConstant())
      std::swap(x, y), result = *x;
    double scale = op == Operator::Negate ? -1 : y->constant;
    result.constant *= scale;
    for (int64_t &factor : result.factors)
      factor = int64_t(double(factor) * scale);
  } else if (op != Operator::Convert || type == ElementType::Bool) {
    return nullptr;
  }
  return fits(result, type, shape) ? linear(type, shape, result) : nullptr;
}

/// a `op` b as Σ positive terms `op` -(Σ negative terms + constant), or a decided truth.
ExpressionRef ExpressionContext::simplifyComparison(Operator op, ExpressionRef a, ExpressionRef b, ShapeRef shape) {
  auto x = asLinear(a), y = asLinear(b);
  if (!x || !y)
    return nullptr;
  Linear difference = *x; // a - b, compared with 0
  difference.constant -= y->constant;
  difference.positional |= y->positional;
  for (auto [factor, other] : llvm::zip_equal(difference.factors, y->factors))
    factor -= other;
  bool equality = op == Operator::Equal || op == Operator::NotEqual;
  if (op == Operator::Less)
    difference.constant += 1; // integers: a < b is a + 1 <= b
  auto [low, high] = difference.range(shape);
  auto truth = [&](bool value) { return splat(ElementType::Bool, shape, value); };
  if (equality && (low > 0 || high < 0))
    return truth(op == Operator::NotEqual);
  if (equality && low == 0 && high == 0)
    return truth(op == Operator::Equal);
  if (!equality && high <= 0)
    return truth(true);
  if (!equality && low > 0)
    return truth(false);
  if (equality) // the last dimension on the left
    for (size_t d = difference.factors.size(); d-- > 0;)
      if (difference.factors[d] != 0) {
        if (difference.factors[d] < 0) {
          difference.constant = -difference.constant;
          for (int64_t &factor : difference.factors)
            factor = -factor;
        }
        break;
      }
  Linear left{0, Shape(shape.size(), 0), difference.positional}, right = left;
  right.constant = -difference.constant;
  for (size_t d = 0; d < shape.size(); ++d)
    (difference.factors[d] > 0 ? left : right).factors[d] = std::abs(difference.factors[d]);
  Expression node;
  node.kind = Expression::Kind::Elementwise;
  node.type = ElementType::Bool;
  node.shape.assign(shape.begin(), shape.end());
  node.op = op == Operator::Less ? Operator::LessEqual : op;
  node.operands = {linear(ElementType::Int64, shape, left), linear(ElementType::Int64, shape, right)};
  node.depends = node.operands[0]->depends | node.operands[1]->depends;
  node.positional = difference.positional;
  return intern(std::move(node));
}

ExpressionRef ExpressionContext::simplifyLogic(Operator op, ExpressionRef a, ExpressionRef b) {
  using enum Operator;
  ElementType type = ElementType::Bool;
  switch (op) {
  case And:
  case Multiply:
    if (a->isSplat() || b->isSplat())
      return a->isSplat(1) ? b : b->isSplat(1) ? a : splat(type, a->shape, 0);
    return a == b ? a : op == Multiply ? elementwise(And, {a, b}, type) : nullptr;
  case Or:
    if (a->isSplat() || b->isSplat())
      return a->isSplat(0) ? b : b->isSplat(0) ? a : splat(type, a->shape, 1);
    return a == b ? a : nullptr;
  case Xor:
    if (a->isSplat() || b->isSplat()) {
      ExpressionRef other = a->isSplat() ? b : a;
      return (a->isSplat() ? a : b)->isSplat(0) ? other : logicalNot(other);
    }
    return nullptr;
  case Not:
    if (a->kind != Expression::Kind::Elementwise)
      return nullptr;
    switch (a->op) {
    case Not:
      return a->operands[0];
    case Equal:
      return elementwise(NotEqual, a->operands, type);
    case NotEqual:
      return elementwise(Equal, a->operands, type);
    case And:
      return elementwise(Or, {logicalNot(a->operands[0]), logicalNot(a->operands[1])}, type);
    case Or:
      return elementwise(And, {logicalNot(a->operands[0]), logicalNot(a->operands[1])}, type);
    case LessEqual: // for NaN-free integers only
      return isFloat(a->operands[0]->type) ? nullptr : elementwise(Less, {a->operands[1], a->operands[0]}, type);
    case Less:
      return isFloat(a->operands[0]->type) ? nullptr : elementwise(LessEqual, {a->operands[1], a->operands[0]}, type);
    default:
      return nullptr;
    }
  default:
    return nullptr;
  }
}

ExpressionRef ExpressionContext::simplifySelect(ExpressionRef condition, ExpressionRef a, ExpressionRef b,
                                                ElementType type) {
  if (condition->isSplat())
    return condition->constant != 0 ? a : b;
  if (a == b)
    return a;
  if (!a->isSplat() || !b->isSplat())
    return nullptr;
  if (type == ElementType::Bool)
    return a->constant != 0 ? condition : logicalNot(condition);
  if (a->constant < b->constant && !condition->isElementwise(Operator::Not))
    return elementwise(Operator::Select, {logicalNot(condition), b, a}, type);
  return nullptr;
}

namespace {
/// select(condition, whenTrue, whenFalse) with numbers; a bool to be converted is select(b, 1, 0).
struct Choice {
  ExpressionRef condition;
  double whenTrue, whenFalse;
};
} // namespace

static std::optional<Choice> asChoice(ExpressionRef x, bool converting) {
  if (x->isElementwise(Operator::Select) && x->operands[1]->isSplat() && x->operands[2]->isSplat())
    return Choice{x->operands[0], x->operands[1]->constant, x->operands[2]->constant};
  if (converting && x->type == ElementType::Bool && !x->isSplat())
    return Choice{x, 1, 0};
  return std::nullopt;
}

/// op(select(c, p, q), number) = select(c, op(p, number), op(q, number)), for any operands over one c.
ExpressionRef ExpressionContext::liftSelect(Operator op, ArrayRef<ExpressionRef> operands, ElementType type,
                                            ShapeRef shape) {
  ExpressionRef condition = nullptr;
  SmallVector<double, 3> whenTrue, whenFalse;
  for (ExpressionRef operand : operands) {
    if (operand->isSplat()) {
      whenTrue.push_back(operand->constant), whenFalse.push_back(operand->constant);
      continue;
    }
    auto choice = asChoice(operand, op == Operator::Convert);
    if (!choice || (condition && condition != choice->condition))
      return nullptr;
    condition = choice->condition;
    whenTrue.push_back(choice->whenTrue), whenFalse.push_back(choice->whenFalse);
  }
  ExpressionRef p = splat(type, shape, evaluateOperator(op, whenTrue, type));
  ExpressionRef q = splat(type, shape, evaluateOperator(op, whenFalse, type));
  return elementwise(Operator::Select, {condition, p, q}, type);
}
