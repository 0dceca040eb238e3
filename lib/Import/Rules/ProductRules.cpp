// Matrix products, all as `graph.einsum`.
#include "lib/Import/Program/Importer.h"

#include "llvm/ADT/StringExtras.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

char subscript(int64_t i) { return char(i < 26 ? 'a' + i : 'A' + i - 26); }

Tensor scaled(Call &call, const Tensor &x, double factor) {
  if (factor == 1)
    return x;
  return call.importer.elementwise(Operator::Multiply, {x, Tensor::of(call.expressions.splat(x.type, {}, factor))},
                                   x.type, x.type);
}

Tensor added(Call &call, const Tensor &x, const Tensor &bias) {
  return call.importer.elementwise(Operator::Add, {x, bias}, x.type, x.type);
}

/// Outer products and sums over very few terms stay expressions: positions × inverse frequencies.
std::optional<Tensor> productOfExpressions(Call &call, const Tensor &a, const Tensor &b) {
  Importer &importer = call.importer;
  int64_t terms = a.shape.back();
  if (!a.lazy || !b.lazy || a.rank() < 2 || b.rank() < 2 || terms > 8)
    return std::nullopt;
  std::optional<Tensor> sum;
  for (int64_t k = 0; k < terms; ++k) {
    Shape left = a.shape, right = b.shape, leftAt(a.rank(), 0), rightAt(b.rank(), 0);
    left.back() = 1, leftAt.back() = k;
    right[b.rank() - 2] = 1, rightAt[b.rank() - 2] = k;
    Tensor term = importer.elementwise(
        Operator::Multiply, {importer.slice(a, leftAt, left), importer.slice(b, rightAt, right)}, a.type, a.type);
    sum = sum ? added(call, *sum, term) : term;
  }
  return sum;
}

/// a [..., m, k] · b [..., k, n] (or [..., n, k] when `rightTransposed`), batch dimensions broadcast. A
/// batch dimension of extent 1 that meets a longer one is left out of its operand.
Tensor product(Call &call, Tensor a, Tensor b, bool rightTransposed = false) {
  Importer &importer = call.importer;
  assert(a.rank() >= 2 && b.rank() >= 2 && "expects matrices or batches of them");
  int64_t inner = b.shape[b.rank() - (rightTransposed ? 1 : 2)];
  if (a.shape.back() != inner)
    throw ImportError("expects equal inner dimensions, but got " + describe(a.shape) + " and " + describe(b.shape));
  if (!rightTransposed)
    if (auto lazy = productOfExpressions(call, a, b))
      return *lazy;
  auto batch = broadcastShapes({ShapeRef(a.shape).drop_back(2), ShapeRef(b.shape).drop_back(2)});
  if (!batch)
    throw ImportError("batch dimensions do not broadcast: " + describe(a.shape) + " with " + describe(b.shape));
  int64_t rank = batch->size();
  char row = subscript(rank), column = subscript(rank + 1), sum = subscript(rank + 2);
  auto operand = [&](const Tensor &x, std::string tail) {
    std::string text;
    Shape kept;
    int64_t lead = rank - (x.rank() - 2);
    for (int64_t d = 0; d < x.rank() - 2; ++d)
      if (x.shape[d] == (*batch)[lead + d]) {
        text += subscript(lead + d);
        kept.push_back(x.shape[d]);
      }
    kept.append(x.shape.end() - 2, x.shape.end());
    return std::pair(importer.force(importer.reshape(x, kept)), text + tail);
  };
  auto [left, leftText] = operand(a, {row, sum});
  auto [right, rightText] = operand(b, rightTransposed ? std::string{column, sum} : std::string{sum, column});
  Shape shape = *batch;
  std::string result;
  for (int64_t d = 0; d < rank; ++d)
    result += subscript(d);
  shape.push_back(a.shape[a.rank() - 2]);
  shape.push_back(b.shape[b.rank() - (rightTransposed ? 2 : 1)]);
  return Tensor::of(
      call.emitter.einsum(left, right, leftText + "," + rightText + "->" + result + row + column, shape, a.type),
      a.type);
}

void checkFloats(const Tensor &a, const Tensor &b) {
  if (!isFloat(a.type) || a.type != b.type)
    throw ImportError(std::string("expects floating-point operands of one type, but got ") + describe(a.type) +
                      " and " + describe(b.type) + "; convert with .to()");
}

/// A vector counts as one row on the left, one column on the right.
Results matmul(Call &call) {
  Tensor a = call.tensor("self"), b = call.tensor(call.arguments[1].name);
  checkFloats(a, b);
  if (a.rank() < 1 || b.rank() < 1)
    throw ImportError("expects vectors or matrices, but got " + describe(a.shape) + " and " + describe(b.shape));
  bool rowVector = a.rank() == 1, columnVector = b.rank() == 1;
  if (rowVector)
    a = call.importer.reshape(a, {1, a.shape[0]});
  if (columnVector)
    b = call.importer.reshape(b, {b.shape[0], 1});
  Tensor result = product(call, a, b);
  Shape shape = result.shape;
  if (columnVector)
    shape.pop_back();
  if (rowVector)
    shape.erase(shape.end() - (columnVector ? 1 : 2));
  return {Value(call.importer.reshape(result, shape))};
}

/// x [..., i] · w [o, i] + bias [o]
Results linear(Call &call) {
  Tensor x = call.tensor("input"), w = call.tensor("weight");
  checkFloats(x, w);
  if (w.rank() != 2 || x.rank() < 1 || x.shape.back() != w.shape[1])
    throw ImportError("expects weight [out, in] to fit the input, but got " + describe(w.shape) + " for " +
                      describe(x.shape));
  std::string lead;
  for (int64_t d = 0; d < x.rank() - 1; ++d)
    lead += subscript(d);
  char in = subscript(x.rank() - 1), out = subscript(x.rank());
  Shape shape = x.shape;
  shape.back() = w.shape[0];
  Importer &importer = call.importer;
  Tensor result = Tensor::of(call.emitter.einsum(importer.force(x), importer.force(w),
                                                 lead + in + "," + out + in + "->" + lead + out, shape, x.type),
                             x.type);
  return {Value(call.has("bias") ? added(call, result, call.tensor("bias")) : result)};
}

/// beta · self + alpha · (a · b), with matrices, batches of them (addbmm adds those up), a matrix and a vector, or two
/// vectors.
Results addProduct(Call &call) {
  Importer &importer = call.importer;
  Tensor a = call.tensor(call.arguments[1].name), b = call.tensor(call.arguments[2].name);
  checkFloats(a, b);
  bool isVector = call.op == "aten::addmv";
  bool areVectors = call.op == "aten::addr";
  int64_t rank = areVectors ? 1 : call.op == "aten::addbmm" || call.op == "aten::baddbmm" ? 3 : 2;
  if (a.rank() != rank || b.rank() != (isVector ? 1 : rank))
    throw ImportError("expects operands of rank " + std::to_string(rank) + (isVector ? " and 1" : "") + ", but got " +
                      describe(a.shape) + " and " + describe(b.shape));
  if (isVector)
    b = importer.reshape(b, {b.shape[0], 1});
  if (areVectors) {
    a = importer.reshape(a, {a.shape[0], 1});
    b = importer.reshape(b, {1, b.shape[0]});
  }
  Tensor result = product(call, a, b);
  if (call.op == "aten::addbmm")
    result = Tensor::of(call.emitter.reduce(importer.force(result), false, {0}), result.type);
  if (isVector)
    result = importer.reshape(result, {result.shape[0]});
  result = scaled(call, result, call.number("alpha", 1));
  double beta = call.number("beta", 1);
  return {Value(beta == 0 ? result : added(call, result, scaled(call, call.tensor("self"), beta)))};
}

/// Over the last dimension of both: a product with the second one's transpose.
Results inner(Call &call) {
  Importer &importer = call.importer;
  Tensor a = call.tensor("self"), b = call.tensor("other");
  checkFloats(a, b);
  if (a.rank() < 1 || b.rank() < 1)
    throw ImportError("expects vectors or matrices, but got " + describe(a.shape) + " and " + describe(b.shape));
  Shape shape(a.shape.begin(), a.shape.end() - 1);
  shape.append(b.shape.begin(), b.shape.end() - 1);
  auto matrix = [&](const Tensor &x) {
    return importer.reshape(x, {numElements(ShapeRef(x.shape).drop_back()), x.shape.back()});
  };
  return {Value(importer.reshape(product(call, matrix(a), matrix(b), true), shape))};
}

Results outer(Call &call) {
  Tensor a = call.tensor("self"), b = call.tensor(call.has("vec2") ? "vec2" : "other");
  if (a.rank() != 1 || b.rank() != 1)
    throw ImportError("expects two vectors, but got " + describe(a.shape) + " and " + describe(b.shape));
  return {Value(
      call.importer.elementwise(Operator::Multiply, {call.importer.reshape(a, {a.shape[0], 1}), b}, a.type, a.type))};
}

/// An operand of an einsum and its subscripts.
struct Factor {
  Tensor x;
  std::string subscripts;
};

/// Subscripts that `result` does not want are summed over; the others are put in its order.
Tensor reducedTo(Call &call, const Factor &factor, llvm::StringRef result) {
  Importer &importer = call.importer;
  SmallVector<int64_t> dims, order;
  std::string kept;
  for (auto [dim, name] : llvm::enumerate(factor.subscripts))
    if (result.contains(name))
      kept += name;
    else
      dims.push_back(dim);
  Tensor x = factor.x;
  if (!dims.empty())
    x = Tensor::of(call.emitter.reduce(importer.force(x), false, dims), x.type);
  for (char name : result)
    order.push_back(kept.find(name));
  return importer.transpose(x, order);
}

/// The product of two factors, over the subscripts of `result`.
Tensor contracted(Call &call, const Factor &a, const Factor &b, llvm::StringRef result) {
  Importer &importer = call.importer;
  Shape shape;
  for (char name : result) {
    size_t dim = a.subscripts.find(name);
    shape.push_back(dim != std::string::npos ? a.x.shape[dim] : b.x.shape[b.subscripts.find(name)]);
  }
  bool contracts = llvm::any_of(a.subscripts + b.subscripts, [&](char name) { return !result.contains(name); });
  if (a.x.lazy && b.x.lazy && !contracts) {
    SmallVector<Tensor, 2> aligned;
    for (const Factor *factor : {&a, &b}) {
      View view;
      view.shape = shape;
      for (char name : factor->subscripts) {
        View::Index index;
        index.terms.push_back({unsigned(result.find(name)), 1});
        view.indices.push_back(index);
      }
      aligned.push_back(Tensor::of(call.expressions.view(factor->x.lazy, view)));
    }
    return importer.elementwise(Operator::Multiply, aligned, a.x.type, a.x.type);
  }
  checkFloats(a.x, b.x);
  return Tensor::of(call.emitter.einsum(importer.force(a.x), importer.force(b.x),
                                        a.subscripts + "," + b.subscripts + "->" + result.str(), shape, a.x.type),
                    a.x.type);
}

/// The equation with subscripts for ellipses (dimensions that all have, aligned at the last) and with its result
/// written out (subscripts that occur once, in alphabetical order).
std::pair<SmallVector<std::string>, std::string> readEquation(std::string equation, llvm::ArrayRef<Tensor> operands) {
  llvm::erase(equation, ' ');
  auto [inputs, output] = llvm::StringRef(equation).split("->");
  bool isExplicit = equation.find("->") != std::string::npos;
  SmallVector<llvm::StringRef> terms;
  inputs.split(terms, ',');
  if (terms.size() != operands.size())
    throw ImportError("equation " + equation + " has " + std::to_string(terms.size()) + " terms for " +
                      std::to_string(operands.size()) + " operands");
  std::string unused;
  for (char name : llvm::StringRef("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
    if (equation.find(name) == std::string::npos)
      unused += name;
  std::string longest; // what the ellipsis stands for
  SmallVector<std::string> subscripts;
  for (auto [term, operand] : llvm::zip_equal(terms, operands)) {
    size_t dots = term.find("...");
    int64_t missing = operand.rank() - int64_t(term.size()) + (dots == llvm::StringRef::npos ? 0 : 3);
    if (missing < 0 || (dots == llvm::StringRef::npos && missing != 0))
      throw ImportError("equation " + equation + " does not fit an operand " + describe(operand.shape));
    if (missing > int64_t(unused.size()))
      throw ImportError("equation " + equation + " leaves no letters for an operand " + describe(operand.shape));
    std::string own = unused.substr(unused.size() - missing);
    if (dots != llvm::StringRef::npos && own.size() >= longest.size())
      longest = own;
    subscripts.push_back(
        dots == llvm::StringRef::npos ? term.str() : (term.take_front(dots) + own + term.drop_front(dots + 3)).str());
  }
  std::string result;
  if (isExplicit) {
    size_t dots = output.find("...");
    result = dots == llvm::StringRef::npos ? output.str()
                                           : (output.take_front(dots) + longest + output.drop_front(dots + 3)).str();
  } else {
    std::string all, once;
    for (llvm::StringRef term : terms)
      for (char name : term)
        if (name != '.')
          all += name;
    for (char name : all)
      if (llvm::count(all, name) == 1)
        once += name;
    llvm::sort(once);
    result = longest + once;
  }
  for (llvm::StringRef own : subscripts)
    if (!llvm::all_of(own, [](char name) { return llvm::isAlpha(name); }))
      throw ImportError("equation " + equation + " has a subscript that is no letter");
  for (char name : result)
    if (llvm::count(result, name) > 1)
      throw ImportError("equation " + equation + " has subscript " + name + " twice in its result");
  for (char name : result)
    if (llvm::none_of(subscripts, [&](const std::string &own) { return llvm::is_contained(own, name); }))
      throw ImportError("equation " + equation + " has a subscript " + name + " in its result that no operand has");
  return {subscripts, result};
}

/// Two operands at a time, first to last; a subscript goes with the last operand that has it.
Results einsum(Call &call) {
  std::string equation = call.value("equation").string();
  std::vector<Tensor> operands = call.tensors("tensors");
  auto [subscripts, result] = readEquation(equation, operands);
  SmallVector<Factor> factors;
  llvm::DenseMap<char, int64_t> extents;
  for (auto [term, operand] : llvm::zip_equal(subscripts, operands)) {
    for (auto [dim, name] : llvm::enumerate(term)) {
      auto [it, isNew] = extents.try_emplace(name, operand.shape[dim]);
      if (llvm::count(term, name) > 1 || it->second != operand.shape[dim])
        throw ImportError("expects each subscript once in an operand, and of one extent, but got " + equation +
                          " for " + describe(operand.shape));
    }
    factors.push_back({operand, term});
  }
  Factor product = factors[0];
  for (size_t i = 1; i < factors.size(); ++i) {
    std::string wanted = result, kept;
    for (size_t later = i + 1; later < factors.size(); ++later)
      wanted += factors[later].subscripts;
    for (char name : product.subscripts + factors[i].subscripts)
      if (wanted.find(name) != std::string::npos && kept.find(name) == std::string::npos)
        kept += name;
    product = {contracted(call, product, factors[i], i + 1 == factors.size() ? result : kept),
               i + 1 == factors.size() ? result : kept};
  }
  return {Value(factors.size() == 1 ? reducedTo(call, product, result) : product.x)};
}

} // namespace

void galvatron::importer::addProductRules(RuleTable &table) {
  for (const char *name : {"aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot", "aten::vdot"})
    table.add(name, matmul);
  table.add("aten::linear", linear);
  for (const char *name : {"aten::addmm", "aten::baddbmm", "aten::addbmm", "aten::addmv", "aten::addr"})
    table.add(name, addProduct);
  table.add("aten::inner", inner);
  table.add("aten::outer", outer);
  table.add("aten::ger", outer);
  table.add("aten::einsum", einsum);
}
