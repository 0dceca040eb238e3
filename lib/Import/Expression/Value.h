// What flows between the ops of a traced program: numbers, strings, lists and tensors. Nothing here
// knows TorchScript, so that another exported form can feed the same rules.
#ifndef GALVATRON_IMPORT_EXPRESSION_VALUE_H
#define GALVATRON_IMPORT_EXPRESSION_VALUE_H

#include "Expression.h"

#include "mlir/IR/Value.h"

#include <functional>
#include <stdexcept>
#include <variant>

namespace galvatron::importer {

/// A failure that the user can act on.
struct ImportError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Either an expression or a value of the IR.
struct Tensor {
  Shape shape;
  ElementType type = ElementType::Float32;
  ExpressionRef lazy = nullptr;
  mlir::Value data;

  static Tensor of(ExpressionRef x) { return {x->shape, x->type, x, {}}; }
  static Tensor of(mlir::Value x, ElementType type);
  int64_t rank() const { return int64_t(shape.size()); }
};

/// A tensor as PyTorch programs see it: a name for memory that in-place ops change. Views share `storage`. Where it
/// is known what a view looks at, a write to it goes on to what it is a view of, and one that was outdated by a write
/// is looked at again; else reading it is refused (see `Importer::read` and `write`).
struct Cell {
  Tensor tensor;
  std::shared_ptr<int> storage = std::make_shared<int>(0); // number of in-place writes
  int seen = 0;                                            // *storage when `tensor` was current
  bool isParameter = false;
  /// Of a view: what it looks at, the view of that in its present state, and what becomes of the base when the view
  /// has new content. Null where there is no such function.
  std::shared_ptr<Cell> base;
  std::function<Tensor(const Tensor &base)> look;
  std::function<Tensor(const Tensor &base, const Tensor &view)> putBack;
};

/// An integer; `fromShape` when it was computed from the shape of a tensor.
struct Integer {
  int64_t value = 0;
  bool fromShape = false;
};

struct Value;
using List = std::vector<Value>; // tuples too

struct Value {
  std::variant<std::monostate, Integer, double, bool, std::string, std::shared_ptr<Cell>, std::shared_ptr<List>>
      content;

  Value() = default;
  Value(Integer x) : content(x) {}
  Value(double x) : content(x) {}
  Value(bool x) : content(x) {}
  Value(std::string x) : content(std::move(x)) {}
  Value(Tensor x);
  Value(std::shared_ptr<Cell> x) : content(std::move(x)) {}
  Value(List x) : content(std::make_shared<List>(std::move(x))) {}

  bool isNone() const { return std::holds_alternative<std::monostate>(content); }
  bool isTensor() const { return std::holds_alternative<std::shared_ptr<Cell>>(content); }
  bool isList() const { return std::holds_alternative<std::shared_ptr<List>>(content); }
  bool isNumber() const { return isInteger() || isDouble() || isBool(); }
  bool isInteger() const { return std::holds_alternative<Integer>(content); }
  bool isDouble() const { return std::holds_alternative<double>(content); }
  bool isBool() const { return std::holds_alternative<bool>(content); }
  bool isString() const { return std::holds_alternative<std::string>(content); }

  const Integer &integer() const { return std::get<Integer>(content); }
  const std::string &string() const { return std::get<std::string>(content); }
  const std::shared_ptr<Cell> &cell() const { return std::get<std::shared_ptr<Cell>>(content); }
  List &list() const { return *std::get<std::shared_ptr<List>>(content); }
  /// Integer, double or bool as a double.
  double number() const;
};

std::string describe(ShapeRef shape);
const char *describe(ElementType type);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_EXPRESSION_VALUE_H
