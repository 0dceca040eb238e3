// Matrix products, all as `graph.einsum`.
#include "Importer.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

char letter(int64_t i) { return char(i < 26 ? 'a' + i : 'A' + i - 26); }

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
  char row = letter(rank), column = letter(rank + 1), sum = letter(rank + 2);
  auto operand = [&](const Tensor &x, std::string tail) {
    std::string text;
    Shape kept;
    int64_t lead = rank - (x.rank() - 2);
    for (int64_t d = 0; d < x.rank() - 2; ++d)
      if (x.shape[d] == (*batch)[lead + d]) {
        text += letter(lead + d);
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
    result += letter(d);
  shape.push_back(a.shape[a.rank() - 2]);
  shape.push_back(b.shape[b.rank() - (rightTransposed ? 2 : 1)]);
  return Tensor::of(
      call.emitter.einsum(left, right, leftText + "," + rightText + "->" + result + row + column, shape, a.type),
      a.type);
}

void checkFloats(const Tensor &a, const Tensor &b) {
  if (!isFloat(a.type) || a.type != b.type)
    throw ImportError(std::string("expects floating-point operands of one type, but got ") + describe(a.type) +
                      " and " + describe(b.type));
}

/// A vector counts as one row on the left, one column on the right.
Results matmul(Call &call) {
  Tensor a = call.tensor("self"), b = call.tensor(call.has("other") ? "other" : call.has("mat2") ? "mat2" : "vec");
  checkFloats(a, b);
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
    lead += letter(d);
  char in = letter(x.rank() - 1), out = letter(x.rank());
  Shape shape = x.shape;
  shape.back() = w.shape[0];
  Importer &importer = call.importer;
  Tensor result = Tensor::of(call.emitter.einsum(importer.force(x), importer.force(w),
                                                 lead + in + "," + out + in + "->" + lead + out, shape, x.type),
                             x.type);
  return {Value(call.has("bias") ? added(call, result, call.tensor("bias")) : result)};
}

/// beta · self + alpha · (a · b)
Results addProduct(Call &call) {
  bool batched = call.op == "aten::baddbmm";
  Tensor a = call.tensor(batched ? "batch1" : "mat1"), b = call.tensor(batched ? "batch2" : "mat2");
  checkFloats(a, b);
  double alpha = call.number("alpha", 1), beta = call.number("beta", 1);
  Tensor result = scaled(call, product(call, a, b), alpha);
  return {Value(beta == 0 ? result : added(call, result, scaled(call, call.tensor("self"), beta)))};
}

Results outer(Call &call) {
  Tensor a = call.tensor("self"), b = call.tensor(call.has("vec2") ? "vec2" : "other");
  return {Value(
      call.importer.elementwise(Operator::Multiply, {call.importer.reshape(a, {a.shape[0], 1}), b}, a.type, a.type))};
}

/// torch.einsum of one or two operands without repeated letters in one operand.
Results einsum(Call &call) {
  Importer &importer = call.importer;
  std::string equation = call.value("equation").string();
  llvm::erase(equation, ' ');
  std::vector<Tensor> operands = call.tensors("tensors");
  auto [inputs, output] = llvm::StringRef(equation).split("->");
  auto [left, right] = inputs.split(',');
  if (equation.find('.') != std::string::npos || equation.find("->") == std::string::npos || operands.size() != 2 ||
      right.contains(','))
    throw ImportError("expects an equation of two operands with an explicit result and no ellipsis, but got " +
                      equation);
  llvm::DenseMap<char, int64_t> extents;
  for (auto [letters, operand] : {std::pair(left, operands[0]), std::pair(right, operands[1])}) {
    if (int64_t(letters.size()) != operand.rank())
      throw ImportError("equation " + equation + " does not fit an operand " + describe(operand.shape));
    for (auto [name, extent] : llvm::zip_equal(letters, operand.shape))
      extents[name] = extent;
  }
  Shape shape;
  for (char name : output)
    shape.push_back(extents[name]);
  bool contracts = llvm::any_of(left, [&](char name) { return !output.contains(name); }) ||
                   llvm::any_of(right, [&](char name) { return !output.contains(name); });
  if (operands[0].lazy && operands[1].lazy && !contracts) {
    SmallVector<Tensor, 2> aligned;
    for (auto [letters, operand] : {std::pair(left, operands[0]), std::pair(right, operands[1])}) {
      View view;
      view.shape = shape;
      for (char name : letters) {
        View::Index index;
        index.terms.push_back({unsigned(output.find(name)), 1});
        view.indices.push_back(index);
      }
      aligned.push_back(Tensor::of(call.expressions.view(operand.lazy, view)));
    }
    return {Value(importer.elementwise(Operator::Multiply, aligned, operands[0].type, operands[0].type))};
  }
  checkFloats(operands[0], operands[1]);
  return {Value(Tensor::of(
      call.emitter.einsum(importer.force(operands[0]), importer.force(operands[1]), equation, shape, operands[0].type),
      operands[0].type))};
}

} // namespace

void galvatron::importer::addProductRules(RuleTable &table) {
  for (const char *name : {"aten::matmul", "aten::mm", "aten::bmm", "aten::mv", "aten::dot"})
    table.add(name, matmul);
  table.add("aten::linear", linear);
  table.add("aten::addmm", addProduct);
  table.add("aten::baddbmm", addProduct);
  table.add("aten::outer", outer);
  table.add("aten::ger", outer);
  table.add("aten::einsum", einsum);
}
