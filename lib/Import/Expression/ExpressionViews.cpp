// Views, reshapes and concatenations of expressions: all of them move to the leaves.
#include "Expression.h"

using namespace galvatron::importer;
using llvm::ArrayRef;
using llvm::SmallVector;

//===----------------------------------------------------------------------===//
// Views
//===----------------------------------------------------------------------===//

ExpressionRef ExpressionContext::leafView(ExpressionRef leaf, const View &view) {
  if (leaf->isSplat())
    return splat(leaf->type, view.shape, leaf->constant, leaf->fromShape);
  Shape factors(view.shape.size(), 0);
  int64_t base = 0;
  for (auto [factor, index] : llvm::zip_equal(leaf->factors, view.indices)) {
    base += factor * index.base;
    for (auto [dim, step] : index.terms)
      factors[dim] += factor * step;
  }
  if (leaf->kind == Expression::Kind::Affine)
    return linear(leaf->type, view.shape, {leaf->constant + double(base), factors, leaf->positional});
  Expression node = *leaf;
  node.shape = view.shape;
  node.offset += base;
  node.factors = factors;
  node.depends = 0;
  for (size_t d = 0; d < node.shape.size(); ++d)
    if (node.shape[d] == 1)
      node.factors[d] = 0;
    else if (node.factors[d] != 0)
      node.depends |= uint64_t(1) << d;
  if (node.depends == 0 && numElements(node.shape) > 0)
    return splat(node.type, node.shape, roundTo(node.type, node.data->at(node.offset)));
  ExpressionRef result = intern(std::move(node));
  // A piece of few numbers may be one number (which columns of a table are cosines).
  constexpr int64_t kLook = 1024;
  if (result->numDifferent() <= kLook && numElements(result->shape) > 0) {
    Expression narrow = *result;
    narrow.shape.clear(), narrow.factors.clear();
    for (int64_t d : result->dependentDims()) {
      narrow.shape.push_back(result->shape[d]);
      narrow.factors.push_back(result->factors[d]);
    }
    std::vector<double> values = materialize(&narrow);
    if (llvm::all_equal(values))
      return splat(result->type, result->shape, values[0]);
  }
  return result;
}

ExpressionRef ExpressionContext::view(ExpressionRef x, const View &view) {
  llvm::DenseMap<ExpressionRef, ExpressionRef> done;
  auto visit = [&](auto &self, ExpressionRef node) -> ExpressionRef {
    if (auto it = done.find(node); it != done.end())
      return it->second;
    ExpressionRef result;
    if (node->kind != Expression::Kind::Elementwise) {
      result = leafView(node, view);
    } else {
      SmallVector<ExpressionRef, 3> operands;
      for (ExpressionRef operand : node->operands)
        operands.push_back(self(self, operand));
      result = elementwise(node->op, operands, node->type);
    }
    return done[node] = result;
  };
  return visit(visit, x);
}

ExpressionRef ExpressionContext::expand(ExpressionRef x, ShapeRef shape) {
  if (ShapeRef(x->shape) == shape)
    return x;
  View view;
  view.shape.assign(shape.begin(), shape.end());
  size_t lead = shape.size() - x->shape.size();
  for (size_t d = 0; d < x->shape.size(); ++d) {
    View::Index index;
    if (x->shape[d] != 1)
      index.terms.push_back({unsigned(lead + d), 1});
    view.indices.push_back(index);
  }
  return this->view(x, view);
}

ExpressionRef ExpressionContext::compact(ExpressionRef x) {
  View view;
  view.indices.resize(x->shape.size());
  for (int64_t d : x->dependentDims()) {
    view.indices[d].terms.push_back({unsigned(view.shape.size()), 1});
    view.shape.push_back(x->shape[d]);
  }
  return view.shape.size() == x->shape.size() ? x : this->view(x, view);
}

//===----------------------------------------------------------------------===//
// Reshape and concatenation
//===----------------------------------------------------------------------===//

namespace {
/// Runs of dimensions of source and result that hold the same elements.
struct Group {
  size_t sourceBegin, sourceEnd, resultBegin, resultEnd;
};
} // namespace

static SmallVector<Group> groupDims(ShapeRef source, ShapeRef result) {
  SmallVector<Group> groups;
  size_t i = 0, j = 0;
  while (i < source.size() || j < result.size()) {
    Group group{i, i, j, j};
    int64_t left = 1, right = 1;
    if (i < source.size())
      left = source[i++];
    if (j < result.size())
      right = result[j++];
    while (left != right)
      if (left < right && i < source.size())
        left *= source[i++];
      else if (j < result.size())
        right *= result[j++];
      else
        left *= source[i++];
    group.sourceEnd = i, group.resultEnd = j;
    groups.push_back(group);
  }
  return groups;
}

/// The leaf's factors over the result's dimensions; nothing where merged dimensions are not one ramp.
static std::optional<Shape> reshapeFactors(ExpressionRef leaf, ShapeRef shape) {
  Shape factors(shape.size(), 0);
  for (const Group &group : groupDims(leaf->shape, shape)) {
    int64_t unit = 0, extent = 1; // factor of the innermost step, elements inside
    bool first = true;
    for (size_t d = group.sourceEnd; d-- > group.sourceBegin;) {
      if (leaf->shape[d] == 1)
        continue;
      if (first)
        unit = leaf->factors[d];
      else if (leaf->factors[d] != unit * extent)
        return std::nullopt;
      first = false;
      extent *= leaf->shape[d];
    }
    for (size_t d = group.resultEnd; d-- > group.resultBegin;) {
      factors[d] = shape[d] == 1 ? 0 : unit;
      unit *= shape[d];
    }
  }
  return factors;
}

/// A Dense leaf as a function of the dimensions along which its numbers differ: heads' slopes that were written out for
/// every sample, [B·H], are split into [B, H] again and then say the same of each.
ExpressionRef ExpressionContext::dropRepeats(ExpressionRef leaf) {
  if (leaf->numDifferent() > kFoldLimit || numElements(leaf->shape) == 0)
    return leaf;
  SmallVector<int64_t, 4> dims = leaf->dependentDims();
  Expression node = *leaf, narrow = *leaf;
  narrow.shape.clear(), narrow.factors.clear();
  for (int64_t d : dims) {
    narrow.shape.push_back(leaf->shape[d]);
    narrow.factors.push_back(leaf->factors[d]);
  }
  std::vector<double> values = materialize(&narrow);
  Shape strides = contiguousStrides(narrow.shape);
  for (auto [d, extent, stride] : llvm::zip_equal(dims, narrow.shape, strides)) {
    bool repeats = true;
    for (int64_t i = 0; i < int64_t(values.size()) && repeats; ++i)
      repeats = values[i] == values[i - i / stride % extent * stride];
    if (repeats) {
      node.factors[d] = 0;
      node.depends &= ~(uint64_t(1) << d);
    }
  }
  return node.depends ? intern(std::move(node)) : splat(node.type, node.shape, values[0]);
}

ExpressionRef ExpressionContext::leafReshape(ExpressionRef leaf, ShapeRef shape) {
  if (leaf->isSplat())
    return splat(leaf->type, shape, leaf->constant, leaf->fromShape);
  if (auto factors = reshapeFactors(leaf, shape)) {
    Linear value{leaf->constant, *factors, leaf->positional};
    if (leaf->kind == Expression::Kind::Affine)
      return linear(leaf->type, shape, value);
    Expression node = *leaf;
    node.shape.assign(shape.begin(), shape.end());
    node.factors = *factors;
    node.depends = 0;
    for (size_t d = 0; d < shape.size(); ++d)
      if (node.factors[d] != 0)
        node.depends |= uint64_t(1) << d;
    return dropRepeats(intern(std::move(node)));
  }
  if (leaf->positional)
    return nullptr;
  // Write out the groups that the leaf depends on; the others keep factor 0.
  Shape inner, outer;
  View unit;
  unit.indices.resize(leaf->shape.size());
  SmallVector<int64_t, 4> resultDims;
  int64_t period = 0;
  for (const Group &group : groupDims(leaf->shape, shape)) {
    bool used = false;
    for (size_t d = group.sourceBegin; d < group.sourceEnd; ++d)
      used |= leaf->dependsOn(d);
    if (!used)
      continue;
    if (outer.empty() && group.resultEnd == group.resultBegin + 1) {
      period = shape[group.resultBegin];
      for (size_t d = group.sourceBegin; !leaf->dependsOn(d); ++d)
        period /= leaf->shape[d];
    }
    for (size_t d = group.sourceBegin; d < group.sourceEnd; ++d) {
      unit.indices[d].terms.push_back({unsigned(unit.shape.size()), 1});
      unit.shape.push_back(leaf->shape[d]);
    }
    for (size_t d = group.resultBegin; d < group.resultEnd; ++d) {
      resultDims.push_back(d);
      outer.push_back(shape[d]);
    }
  }
  if (numElements(unit.shape) > kFoldLimit)
    return nullptr;
  ExpressionRef written = dense(leaf->type, outer, materialize(leafView(leaf, unit)));
  if (written->data && period < outer[0])
    storage.back()->period = period;
  View wide;
  wide.shape.assign(shape.begin(), shape.end());
  for (int64_t d : resultDims) {
    View::Index index;
    index.terms.push_back({unsigned(d), 1});
    wide.indices.push_back(index);
  }
  return leafView(written, wide);
}

ExpressionRef ExpressionContext::reshape(ExpressionRef x, ShapeRef shape) {
  if (ShapeRef(x->shape) == shape)
    return x;
  if (x->kind != Expression::Kind::Elementwise)
    return leafReshape(x, shape);
  SmallVector<ExpressionRef, 3> operands;
  for (ExpressionRef operand : x->operands) {
    operands.push_back(reshape(operand, shape));
    if (!operands.back())
      return nullptr;
  }
  return elementwise(x->op, operands, x->type);
}

/// c + Σ k·index over parts laid one after another, or nothing.
static std::optional<Linear> concatLinear(ArrayRef<ExpressionRef> parts, int64_t dim) {
  SmallVector<Linear> linears;
  std::optional<int64_t> step;
  for (ExpressionRef part : parts) {
    auto value = asLinear(part);
    if (!value)
      return std::nullopt;
    if (part->shape[dim] > 1)
      step = value->factors[dim];
    linears.push_back(*value);
  }
  if (!step && linears.size() > 1)
    step = int64_t(linears[1].constant - linears[0].constant);
  Linear result = linears[0];
  result.factors[dim] = step.value_or(0);
  int64_t begin = 0;
  for (auto [part, value] : llvm::zip_equal(parts, linears)) {
    result.positional |= value.positional;
    if (part->shape[dim] == 1)
      value.factors[dim] = result.factors[dim];
    if (value.factors != result.factors || value.constant != result.constant + double(begin * result.factors[dim]))
      return std::nullopt;
    begin += part->shape[dim];
  }
  return result;
}

ExpressionRef ExpressionContext::concat(ArrayRef<ExpressionRef> parts, int64_t dim) {
  ExpressionRef first = parts.front();
  Shape shape = first->shape;
  shape[dim] = 0;
  bool positional = false;
  for (ExpressionRef part : parts) {
    shape[dim] += part->shape[dim];
    positional |= part->positional;
  }
  if (llvm::all_of(parts, [&](ExpressionRef p) { return p->isSplat() && p->constant == first->constant; }))
    return splat(first->type, shape, first->constant);
  if (auto value = concatLinear(parts, dim))
    return linear(first->type, shape, *value);
  // One operator over concatenated operands: cat(p·f, p·f) = p·cat(f, f).
  bool alike = first->kind == Expression::Kind::Elementwise && llvm::all_of(parts, [&](ExpressionRef p) {
                 return p->kind == first->kind && p->op == first->op && p->type == first->type;
               });
  if (alike) {
    SmallVector<ExpressionRef, 3> operands;
    for (size_t i = 0; i < first->operands.size(); ++i) {
      SmallVector<ExpressionRef> column;
      for (ExpressionRef part : parts)
        column.push_back(part->operands[i]);
      operands.push_back(concat(column, dim));
      if (!operands.back())
        return nullptr;
    }
    return elementwise(first->op, operands, first->type);
  }
  if (positional)
    return nullptr;
  return concatNumbers(parts, dim);
}

/// The numbers written out, over `dim` and the dimensions that some part depends on.
ExpressionRef ExpressionContext::concatNumbers(ArrayRef<ExpressionRef> parts, int64_t dim) {
  ExpressionRef first = parts.front();
  Shape shape = first->shape;
  shape[dim] = 0;
  for (ExpressionRef part : parts)
    shape[dim] += part->shape[dim];
  uint64_t depends = uint64_t(1) << dim;
  for (ExpressionRef part : parts)
    depends |= part->depends;
  View back;
  back.shape = shape;
  Shape compactShape;
  int64_t compactDim = 0;
  for (size_t d = 0; d < shape.size(); ++d)
    if (depends >> d & 1) {
      if (int64_t(d) == dim)
        compactDim = compactShape.size();
      View::Index index;
      index.terms.push_back({unsigned(d), 1});
      back.indices.push_back(index);
      compactShape.push_back(shape[d]);
    }
  if (numElements(compactShape) > kFoldLimit)
    return nullptr;
  std::vector<double> values(numElements(compactShape));
  Shape strides = contiguousStrides(compactShape);
  int64_t begin = 0;
  for (ExpressionRef part : parts) {
    View narrow;
    narrow.indices.resize(shape.size());
    for (size_t d = 0; d < shape.size(); ++d)
      if (depends >> d & 1) {
        narrow.indices[d].terms.push_back({unsigned(narrow.shape.size()), 1});
        narrow.shape.push_back(part->shape[d]);
      }
    std::vector<double> piece = materialize(view(part, narrow));
    int64_t inner = strides[compactDim], length = narrow.shape[compactDim] * inner;
    int64_t outerStep = compactShape[compactDim] * inner;
    for (int64_t outer = 0; outer * length < int64_t(piece.size()); ++outer)
      std::copy_n(piece.begin() + outer * length, length, values.begin() + outer * outerStep + begin * inner);
    begin += part->shape[dim];
  }
  return view(dense(first->type, compactShape, std::move(values)), back);
}
