// Leaves of expressions and their interning. Views are in ExpressionViews.cpp, operators in
// ExpressionSimplify.cpp, numbers in ExpressionEvaluate.cpp.
#include "Value.h"

#include "llvm/Support/MathExtras.h"
#include "llvm/Support/xxhash.h"

#include <cmath>
#include <cstring>

using namespace galvatron::importer;
using llvm::ArrayRef;
using llvm::SmallVector;

int64_t galvatron::importer::numElements(ShapeRef shape) {
  int64_t count = 1;
  for (int64_t extent : shape)
    count *= extent;
  return count;
}

void galvatron::importer::checkShape(ShapeRef shape) {
  constexpr size_t kMostRank = 24; // letters of an einsum, less those that rules add
  int64_t count = 1;
  bool fits = shape.size() <= kMostRank;
  for (int64_t extent : shape)
    fits = fits && extent >= 0 && !llvm::MulOverflow(count, std::max<int64_t>(extent, 1), count);
  if (!fits)
    throw ImportError("makes a tensor of shape " + describe(shape) + ", which no tensor has");
}

std::optional<Shape> galvatron::importer::broadcastShapes(ArrayRef<ShapeRef> shapes) {
  Shape result;
  for (ShapeRef shape : shapes)
    if (shape.size() > result.size())
      result.insert(result.begin(), shape.size() - result.size(), 1);
  for (ShapeRef shape : shapes) {
    size_t lead = result.size() - shape.size();
    for (auto [i, extent] : llvm::enumerate(shape)) {
      int64_t &known = result[lead + i];
      if (known == 1)
        known = extent;
      else if (extent != 1 && extent != known)
        return std::nullopt;
    }
  }
  return result;
}

SmallVector<int64_t, 4> Expression::dependentDims() const {
  SmallVector<int64_t, 4> dims;
  for (size_t d = 0; d < shape.size(); ++d)
    if (dependsOn(d))
      dims.push_back(d);
  return dims;
}

int64_t Expression::numDifferent() const {
  int64_t count = 1;
  for (int64_t d : dependentDims())
    count *= shape[d];
  return count;
}

std::pair<double, double> Linear::range(ShapeRef shape) const {
  double low = constant, high = constant;
  for (auto [factor, extent] : llvm::zip_equal(factors, shape)) {
    double reach = double(factor) * double(extent - 1);
    (reach < 0 ? low : high) += reach;
  }
  return {low, high};
}

bool Linear::isConstant() const {
  return llvm::all_of(factors, [](int64_t factor) { return factor == 0; });
}

std::optional<Linear> galvatron::importer::asLinear(ExpressionRef x) {
  bool integral = x->constant == std::floor(x->constant) && std::abs(x->constant) < 0x1p53;
  if (x->isSplat() && integral)
    return Linear{x->constant, Shape(x->shape.size(), 0), false};
  if (x->kind == Expression::Kind::Affine)
    return Linear{x->constant, x->factors, x->positional};
  return std::nullopt;
}

//===----------------------------------------------------------------------===//
// Leaves and interning
//===----------------------------------------------------------------------===//

template <typename T> static void append(std::string &key, const T &value) {
  key.append(reinterpret_cast<const char *>(&value), sizeof value);
}

ExpressionRef ExpressionContext::intern(Expression node) {
  checkShape(node.shape);
  std::string key;
  append(key, node.kind), append(key, node.type), append(key, node.op);
  append(key, node.positional), append(key, node.fromShape);
  append(key, node.constant), append(key, node.data), append(key, node.offset);
  for (int64_t extent : node.shape)
    append(key, extent);
  for (int64_t factor : node.factors)
    append(key, factor);
  for (ExpressionRef operand : node.operands)
    append(key, operand);
  auto &slot = nodes[key];
  if (!slot)
    slot = std::make_unique<Expression>(std::move(node));
  return slot.get();
}

ExpressionRef ExpressionContext::splat(ElementType type, ShapeRef shape, double value, bool fromShape) {
  Expression node;
  node.type = type;
  node.fromShape = fromShape;
  node.shape.assign(shape.begin(), shape.end());
  node.constant = roundTo(type, value) + 0.0; // no -0: (1 - mask) · min is to equal select(mask, 0, min)
  return intern(std::move(node));
}

ExpressionRef ExpressionContext::linear(ElementType type, ShapeRef shape, const Linear &value) {
  checkShape(shape);
  Expression node;
  node.kind = Expression::Kind::Affine;
  node.type = type;
  node.shape.assign(shape.begin(), shape.end());
  node.factors = value.factors;
  node.constant = value.constant;
  node.positional = value.positional;
  for (size_t d = 0; d < shape.size(); ++d)
    if (shape[d] == 1)
      node.factors[d] = 0;
    else if (node.factors[d] != 0)
      node.depends |= uint64_t(1) << d;
  if (node.depends == 0)
    return splat(type, shape, value.constant);
  return intern(std::move(node));
}

ExpressionRef ExpressionContext::arange(ElementType type, double start, double step, int64_t count, bool positional) {
  if (start == std::floor(start) && step == std::floor(step))
    return linear(type, {count}, {start, Shape{int64_t(step)}, positional});
  if (count > kMostNumbers)
    throw ImportError("makes " + std::to_string(count) + " different numbers, but at most " +
                      std::to_string(kMostNumbers) + " are supported; make them a parameter or a buffer");
  std::vector<double> values(count);
  for (int64_t i = 0; i < count; ++i)
    values[i] = roundTo(type, start + double(i) * step);
  return dense(type, {count}, std::move(values));
}

static int64_t byteWidth(ElementType type) {
  switch (type) {
  case ElementType::Bool:
  case ElementType::UInt8:
    return 1;
  case ElementType::Float16:
  case ElementType::BFloat16:
    return 2;
  case ElementType::Int32:
  case ElementType::Float32:
    return 4;
  case ElementType::Int64:
  case ElementType::Float64:
    return 8;
  }
  return 0;
}

Shape galvatron::importer::contiguousStrides(ShapeRef shape) {
  Shape strides(shape.size(), 1);
  for (size_t d = shape.size(); d-- > 1;)
    strides[d - 1] = strides[d] * shape[d];
  return strides;
}

ExpressionRef ExpressionContext::dense(ElementType type, ShapeRef shape, std::vector<double> values) {
  if (!values.empty() && llvm::all_equal(values))
    return splat(type, shape, values.front());
  checkShape(shape);
  storage.push_back(std::make_unique<DenseData>());
  storage.back()->values = std::move(values);
  Expression node;
  node.kind = Expression::Kind::Dense;
  node.type = type;
  node.shape.assign(shape.begin(), shape.end());
  node.factors = contiguousStrides(shape);
  node.data = storage.back().get();
  for (size_t d = 0; d < shape.size(); ++d)
    if (shape[d] == 1)
      node.factors[d] = 0;
    else
      node.depends |= uint64_t(1) << d;
  return intern(std::move(node));
}

ExpressionRef ExpressionContext::buffer(ElementType type, ShapeRef shape, ShapeRef strides, const void *memory,
                                        std::shared_ptr<const void> owner) {
  checkShape(shape);
  storage.push_back(std::make_unique<DenseData>());
  DenseData &data = *storage.back();
  data.rawType = type, data.raw = memory, data.owner = std::move(owner);
  Expression node;
  node.kind = Expression::Kind::Dense;
  node.type = type;
  node.shape.assign(shape.begin(), shape.end());
  node.factors.assign(strides.begin(), strides.end());
  node.data = &data;
  for (size_t d = 0; d < shape.size(); ++d)
    if (shape[d] == 1)
      node.factors[d] = 0;
    else if (node.factors[d] != 0)
      node.depends |= uint64_t(1) << d;
  if (node.depends == 0)
    return splat(type, shape, numElements(shape) ? data.at(0) : 0.0);
  Shape dense = contiguousStrides(shape);
  uint64_t content = 0;
  bool contiguous = true;
  for (size_t d = 0; d < shape.size(); ++d)
    contiguous &= shape[d] == 1 || strides[d] == dense[d];
  if (contiguous) {
    std::string key;
    append(key, type);
    for (int64_t extent : shape)
      append(key, extent);
    auto bytes = llvm::ArrayRef(static_cast<const uint8_t *>(memory), numElements(shape) * byteWidth(type));
    content = llvm::xxh3_64bits(bytes) ^ llvm::xxh3_64bits(key);
    if (auto known = buffersByContent.find(content); known != buffersByContent.end())
      return known->second;
  }
  ExpressionRef result = intern(std::move(node));
  if (ExpressionRef band = bandOfNumbers(result))
    result = band;
  else if (ExpressionRef sinusoids = sinusoidsOfNumbers(result))
    result = sinusoids;
  else if (contiguous && result->numDifferent() <= kFoldLimit)
    result = fit(type, shape, materialize(result), false); // shows ramps
  if (contiguous)
    buffersByContent[content] = result;
  return result;
}
