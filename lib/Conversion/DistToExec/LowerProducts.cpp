// Products: subscripts of an equation to the loops of a matrix product, one row, column and sum loop each and batch
// loops; a bias and another tensor that are added to a product go along with it.
#include "BodyLowering.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphProducts.h"
#include "dialects/Graph/GraphShapes.h"

#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace galvatron;

namespace {

/// A loop of a product: its extent and its stride in each tensor (0 where it is absent).
struct ProductLoop {
  int64_t extent;
  std::array<int64_t, 3> strides; // a, b, c
};

/// Merges neighbours that lie one after another in every tensor that has them: (b, s) becomes one
/// loop of rows.
void mergeLoops(SmallVectorImpl<ProductLoop> &loops) {
  for (size_t i = 0; i + 1 < loops.size();) {
    ProductLoop &major = loops[i], &minor = loops[i + 1];
    bool mergeable = true;
    for (int tensor = 0; tensor < 3; ++tensor)
      mergeable &= major.strides[tensor] == minor.strides[tensor] * minor.extent;
    if (!mergeable) {
      ++i;
      continue;
    }
    minor.extent *= major.extent;
    loops.erase(loops.begin() + i);
  }
}

/// What both functions of products are told.
Constants productConstants(int64_t type, int64_t resultType, const ProductLoop &row, const ProductLoop &column,
                           const ProductLoop &sum) {
  return {{"type", type},          {"c_type", resultType},  {"M", row.extent},
          {"N", column.extent},    {"K", sum.extent},       {"a_m", row.strides[0]},
          {"a_k", sum.strides[0]}, {"b_k", sum.strides[1]}, {"b_n", column.strides[1]},
          {"c_m", row.strides[2]}};
}

int64_t indexIn(StringRef subscripts, char subscript) {
  size_t found = subscripts.find(subscript);
  return found == StringRef::npos ? -1 : static_cast<int64_t>(found);
}

class ProductLowering {
public:
  ProductLowering(BodyLowering &lowering, graph::EinsumOp op)
      : lowering(lowering), op(op), subscripts(op.getSubscripts()) {}
  LogicalResult run();
  /// With a bias and another tensor, either null, added to it, into the result of `sum`; false where no function does
  /// it.
  bool runWithSum(graph::SumOp sum, Value bias, Value addend);

private:
  /// Loops over subscripts that are in exactly the tensors of `present`, in the order of `by`.
  SmallVector<ProductLoop> loopsOf(std::array<bool, 3> present, StringRef by) const;
  void setTensor(int tensor, ArrayRef<int64_t> shape, Strides layout) {
    shapes[tensor] = llvm::to_vector(shape);
    strides[tensor] = std::move(layout);
  }
  LogicalResult emit(Value a, Value b, Value c);
  /// A copy of an operand in which the summed subscripts are minor, in the order of the first operand.
  Value gathered(Value buffer, StringRef own);

  BodyLowering &lowering;
  graph::EinsumOp op;
  std::array<StringRef, 3> subscripts;
  std::array<SmallVector<int64_t>, 3> shapes;
  std::array<Strides, 3> strides;
};

} // namespace

SmallVector<ProductLoop> ProductLowering::loopsOf(std::array<bool, 3> present, StringRef by) const {
  SmallVector<ProductLoop> loops;
  for (char subscript : by) {
    ProductLoop loop = {1, {0, 0, 0}};
    bool matches = true;
    for (int tensor = 0; tensor < 3; ++tensor) {
      int64_t dim = indexIn(subscripts[tensor], subscript);
      matches &= (dim >= 0) == present[tensor];
      if (dim < 0)
        continue;
      loop.extent = shapes[tensor][dim];
      loop.strides[tensor] = strides[tensor][dim];
    }
    if (matches && loop.extent != 1)
      loops.push_back(loop);
  }
  mergeLoops(loops);
  return loops;
}

LogicalResult ProductLowering::run() {
  for (StringRef operand : ArrayRef(subscripts).take_front(2))
    for (char subscript : operand)
      if (llvm::count_if(subscripts, [&](StringRef l) { return l.contains(subscript); }) < 2)
        return op.emitOpError("expects subscript ") << Twine(subscript) << " in two tensors; sum it away first";
  Value a = lowering.bufferOf(op.getLhs()), b = lowering.bufferOf(op.getRhs());
  Value c = lowering.createResult(op.getResult(), lowering.preferredOrder(op.getResult()));
  if (succeeded(emit(a, b, c)))
    return success();
  // Several subscripts are summed over and do not lie one after another: bring them together, in the
  // same order in both operands.
  LogicalResult emitted = emit(gathered(a, subscripts[0]), gathered(b, subscripts[1]), c);
  assert(succeeded(emitted) && "subscripts in one order merge");
  return emitted;
}

Value ProductLowering::gathered(Value buffer, StringRef own) {
  std::string order;
  for (char subscript : own)
    if (!(subscripts[0].contains(subscript) && subscripts[1].contains(subscript)) || subscripts[2].contains(subscript))
      order += subscript;
  for (char subscript : subscripts[0])
    if (subscripts[1].contains(subscript) && !subscripts[2].contains(subscript))
      order += subscript;
  Strides strides(own.size(), 1);
  int64_t stride = 1;
  for (char subscript : llvm::reverse(order)) {
    strides[own.find(subscript)] = stride;
    stride *= shapeOf(buffer)[own.find(subscript)];
  }
  Type element = cast<MemRefType>(buffer.getType()).getElementType();
  Value flat = lowering.createScratch(MemRefType::get({stride}, element), op.getLoc());
  Value copy = lowering.view(op.getLoc(), flat, 0, shapeOf(buffer), strides);
  lowering.copy(op.getLoc(), buffer, copy);
  return copy;
}

LogicalResult ProductLowering::emit(Value a, Value b, Value c) {
  for (auto [tensor, buffer] : llvm::enumerate(std::array<Value, 3>{a, b, c}))
    setTensor(static_cast<int>(tensor), shapeOf(buffer), stridesOf(buffer));
  SmallVector<ProductLoop> m = loopsOf({true, false, true}, subscripts[2]);
  SmallVector<ProductLoop> n = loopsOf({false, true, true}, subscripts[2]);
  SmallVector<ProductLoop> k = loopsOf({true, true, false}, subscripts[0]);
  SmallVector<ProductLoop> batch = loopsOf({true, true, true}, subscripts[2]);
  // Loops beyond one row, column and sum loop become batch loops (a sum loop cannot).
  auto takeMinor = [&](SmallVector<ProductLoop> &loops) {
    ProductLoop minor = loops.empty() ? ProductLoop{1, {1, 1, 1}} : loops.pop_back_val();
    llvm::append_range(batch, loops);
    return minor;
  };
  if (k.size() > 1)
    return failure();
  ProductLoop row = takeMinor(m), column = takeMinor(n), sum = k.empty() ? ProductLoop{1, {1, 1, 1}} : k.front();
  SmallVector<int64_t> batchWords;
  for (const ProductLoop &loop : batch)
    llvm::append_values(batchWords, loop.extent, loop.strides[0], loop.strides[1], loop.strides[2]);
  Constants constants = productConstants(lowering.kernelType(a), lowering.kernelType(c), row, column, sum);
  constants.append({{"c_n", column.strides[2]},
                    {"accumulate", lowering.isAccumulated(op.getResult())},
                    {"num_batch", batch.size()},
                    {"batch", batchWords}});
  lowering.callKernel(op.getLoc(), "matmul", {a, b, c}, 2, constants, {}, lowering.accumulateByEntry(op.getResult()));
  return success();
}

bool ProductLowering::runWithSum(graph::SumOp sum, Value bias, Value addend) {
  Value a = lowering.bufferOf(op.getLhs()), b = lowering.bufferOf(op.getRhs());
  setTensor(0, shapeOf(a), stridesOf(a));
  setTensor(1, shapeOf(b), stridesOf(b));
  setTensor(2, shapeOf(sum.getResult()), lowering.resultStridesOf(sum.getResult()));
  SmallVector<ProductLoop> m = loopsOf({true, false, true}, subscripts[2]);
  SmallVector<ProductLoop> n = loopsOf({false, true, true}, subscripts[2]);
  SmallVector<ProductLoop> k = loopsOf({true, true, false}, subscripts[0]);
  if (m.size() != 1 || n.size() != 1 || k.size() != 1 || !loopsOf({true, true, true}, subscripts[2]).empty() ||
      n.front().strides[2] != 1)
    return false;
  SmallVector<Value> operands = {a, b};
  if (bias)
    operands.push_back(lowering.bufferOf(bias));
  if (bias && stridesOf(operands.back()) != Strides{1})
    return false;
  if (addend)
    operands.push_back(lowering.bufferOf(addend));
  if (addend && stridesOf(operands.back()) != strides[2])
    return false;
  Value c = lowering.createResult(sum.getResult());
  operands.push_back(c);
  lowering.callKernel(op.getLoc(), "matmul_add", operands, operands.size() - 1,
                      productConstants(lowering.kernelType(a), lowering.kernelType(c), m.front(), n.front(), k.front()),
                      {1, 1, bias != nullptr, addend != nullptr, 1});
  return true;
}

LogicalResult galvatron::lowerProduct(BodyLowering &lowering, graph::EinsumOp op) {
  return ProductLowering(lowering, op).run();
}

LogicalResult galvatron::lowerProductSum(BodyLowering &lowering, Operation *op, bool &handled) {
  handled = false;
  if (auto product = dyn_cast<graph::EinsumOp>(op)) {
    // Is computed where the sum stands.
    auto sum =
        product.getResult().hasOneUse() ? dyn_cast<graph::SumOp>(*product.getResult().user_begin()) : graph::SumOp();
    std::optional<ProductSum> match = sum ? matchProductSum(sum) : std::nullopt;
    handled = match && match->product == product && !lowering.isAccumulated(sum.getResult());
    return success();
  }
  auto sum = dyn_cast<graph::SumOp>(op);
  std::optional<ProductSum> match = sum ? matchProductSum(sum) : std::nullopt;
  if (!match || lowering.isAccumulated(sum.getResult()))
    return success();
  ProductLowering product(lowering, match->product);
  handled = product.runWithSum(sum, match->bias, match->addend);
  return handled ? success() : product.run();
}
