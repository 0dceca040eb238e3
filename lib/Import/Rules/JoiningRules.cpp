// Operators that put tensors together or repeat them: cat, stack, pad, repeat, roll.
#include "Indexing.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

ElementType commonType(Call &call, llvm::ArrayRef<Tensor> parts) {
  return promote(SmallVector<Value>(parts.begin(), parts.end()), call.importer);
}

/// The concatenation of tensors of one shape but for `dim`, in one type.
Tensor joined(Call &call, std::vector<Tensor> parts, int64_t dim, ElementType type) {
  for (Tensor &part : parts) {
    Shape other = part.shape;
    if (other.size() != parts[0].shape.size() || dim >= part.rank())
      throw ImportError("expects tensors of one rank, but got " + describe(parts[0].shape) + " and " + describe(other));
    other[dim] = parts[0].shape[dim];
    if (other != parts[0].shape)
      throw ImportError("expects equal extents outside dimension " + std::to_string(dim) + ", but got " +
                        describe(parts[0].shape) + " and " + describe(part.shape));
    part = call.importer.convert(part, type);
  }
  return call.importer.concat(parts, dim);
}

Results cat(Call &call) {
  std::vector<Tensor> parts = call.tensors("tensors");
  ElementType type = commonType(call, parts);
  // PyTorch leaves out tensors of shape [0], whatever the others' rank: a cache begins as one.
  std::vector<Tensor> filled;
  llvm::copy_if(parts, std::back_inserter(filled), [](const Tensor &part) { return part.shape != Shape{0}; });
  if (!filled.empty())
    parts = filled;
  return {Value(joined(call, parts, call.dim("dim", parts[0].rank()), type))};
}

Results stack(Call &call) {
  std::vector<Tensor> parts = call.tensors("tensors");
  ElementType type = commonType(call, parts);
  Shape given = parts[0].shape, shape = given;
  int64_t dim = call.dim("dim", given.size() + 1);
  shape.insert(shape.begin() + dim, 1);
  for (Tensor &part : parts) {
    if (part.shape != given)
      throw ImportError("expects tensors of one shape, but got " + describe(given) + " and " + describe(part.shape));
    part = call.importer.reshape(part, shape);
  }
  return {Value(joined(call, parts, dim, type))};
}

/// What pads a dimension by `count` before or after x: a number, or elements of x.
Tensor padding(Call &call, const Tensor &x, int64_t dim, int64_t count, bool before, const std::string &mode,
               double value) {
  Shape shape = x.shape, offsets(x.rank(), 0);
  int64_t extent = x.shape[dim];
  shape[dim] = count;
  checkShape(shape);
  if (mode == "constant")
    return Tensor::of(call.expressions.splat(x.type, shape, value));
  if (mode == "replicate") {
    Shape edge = x.shape;
    edge[dim] = 1;
    offsets[dim] = before ? 0 : extent - 1;
    return call.importer.expand(call.importer.slice(x, offsets, edge), shape);
  }
  if (int64_t most = mode == "reflect" ? extent - 1 : extent; count > most && (mode == "reflect" || mode == "circular"))
    throw ImportError("expects at most " + std::to_string(most) + " elements of padding along dimension " +
                      std::to_string(dim) + " of " + describe(x.shape) + " in mode " + mode + ", but got " +
                      std::to_string(count));
  if (mode == "circular") {
    offsets[dim] = before ? extent - count : 0;
    return call.importer.slice(x, offsets, shape);
  }
  if (mode == "reflect") // the edge stands once
    return pick(call, x, dim, ramp(call, count, before ? count : extent - 2, -1));
  throw ImportError("expects padding mode constant, reflect, replicate or circular, but got " + mode);
}

/// A concatenation with what pads on either side.
Results pad(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  std::string mode = call.has("mode") ? call.value("mode").string() : "constant";
  double value = call.number("value", 0);
  Shape amounts = call.integers("pad");
  if (amounts.size() % 2 != 0 || int64_t(amounts.size()) > 2 * x.rank())
    throw ImportError("expects pad to have two numbers for each of the last dimensions of " + describe(x.shape) +
                      ", but got " + describe(amounts));
  for (size_t i = 0; i < amounts.size(); i += 2) {
    int64_t dim = x.rank() - 1 - int64_t(i / 2), before = amounts[i], after = amounts[i + 1];
    Shape offsets(x.rank(), 0), shape = x.shape;
    offsets[dim] = std::max<int64_t>(-before, 0);
    for (int64_t amount : {before, after})
      if (amount < -x.shape[dim])
        throw ImportError("expects to cut at most dimension " + std::to_string(dim) + " of " + describe(x.shape) +
                          ", but got " + describe(amounts));
    shape[dim] += std::min<int64_t>(before, 0) + std::min<int64_t>(after, 0);
    x = importer.slice(x, offsets, shape);
    SmallVector<Tensor, 3> parts;
    if (before > 0)
      parts.push_back(padding(call, x, dim, before, true, mode, value));
    parts.push_back(x);
    if (after > 0)
      parts.push_back(padding(call, x, dim, after, false, mode, value));
    x = importer.concat(parts, dim);
  }
  return {Value(x)};
}

/// Every element `count` times in place: unsqueeze, expand, flatten.
Tensor repeatEach(Call &call, const Tensor &x, int64_t dim, int64_t count) {
  if (dim >= x.rank() || count < 0)
    throw ImportError("expects to repeat a dimension, but got " + std::to_string(count) + " times for " +
                      describe(x.shape));
  Shape wide = x.shape, flat = x.shape;
  wide.insert(wide.begin() + dim + 1, 1);
  Tensor split = call.importer.reshape(x, wide);
  wide[dim + 1] = count;
  checkShape(wide);
  flat[dim] *= count;
  return call.importer.reshape(call.importer.expand(split, wide), flat);
}

Results repeatInterleave(Call &call) {
  Tensor x = call.tensor("self");
  int64_t count = call.integer("repeats");
  if (call.has("dim"))
    return {Value(repeatEach(call, x, call.dim("dim", x.rank()), count))};
  return {Value(repeatEach(call, call.importer.reshape(x, {numElements(x.shape)}), 0, count))};
}

/// The whole tensor several times along each dimension: [n] → [1, n] → [r, n] → [r·n].
Results repeat(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  Shape repeats = call.integers(call.has("repeats") ? "repeats" : "dims");
  Shape shape = x.shape;
  if (shape.size() < repeats.size())
    shape.insert(shape.begin(), repeats.size() - shape.size(), 1);
  repeats.insert(repeats.begin(), shape.size() - repeats.size(), 1);
  for (int64_t count : repeats)
    if (count < 0)
      throw ImportError("expects repeats of at least 0, but got " + describe(repeats));
  checkShape(repeats);
  for (auto [count, extent] : llvm::zip_equal(repeats, shape))
    checkShape({count, extent});
  Shape split, wide, flat;
  for (auto [count, extent] : llvm::zip_equal(repeats, shape)) {
    if (count != 1) {
      split.push_back(1);
      wide.push_back(count);
    }
    split.push_back(extent);
    wide.push_back(extent);
    flat.push_back(count * extent);
  }
  return {Value(importer.reshape(importer.expand(importer.reshape(x, split), wide), flat))};
}

Results roll(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  Shape given = x.shape, shifts = call.integers("shifts"), dims = call.integers("dims");
  for (int64_t &dim : dims) // the same one several times, too
    dim = dim < 0 ? dim + x.rank() : dim;
  if (dims.empty()) { // of the flattened tensor
    x = importer.reshape(x, {numElements(given)});
    dims.push_back(0);
  }
  bool fits = shifts.size() == dims.size();
  for (int64_t dim : dims)
    fits = fits && dim >= 0 && dim < x.rank();
  if (!fits)
    throw ImportError("expects as many shifts as dimensions of " + describe(x.shape) + ", but got " + describe(shifts) +
                      " for " + describe(dims));
  if (numElements(x.shape) == 0)
    return {Value(call.tensor("self"))};
  for (auto [shift, dim] : llvm::zip_equal(shifts, dims)) {
    int64_t extent = x.shape[dim];
    int64_t front = ((shift % extent) + extent) % extent; // elements that wrap to the front
    if (front == 0)
      continue;
    Shape tail = x.shape, head = x.shape, offsets(x.rank(), 0);
    tail[dim] = front, head[dim] = extent - front;
    Tensor second = importer.slice(x, offsets, head);
    offsets[dim] = extent - front;
    x = importer.concat({importer.slice(x, offsets, tail), second}, dim);
  }
  return {Value(importer.reshape(x, given))};
}

Tensor flipped(Call &call, const Tensor &x, int64_t dim) {
  if (dim >= x.rank())
    throw ImportError("expects a tensor with dimension " + std::to_string(dim) + ", but got " + describe(x.shape));
  return x.shape[dim] == 1 ? x : pick(call, x, dim, ramp(call, x.shape[dim], x.shape[dim] - 1, -1));
}

Results flip(Call &call) {
  Tensor x = call.tensor("self");
  for (int64_t dim : call.dims("dims", x.rank()))
    x = flipped(call, x, dim);
  return {Value(x)};
}

/// fliplr, flipud
template <int64_t dim> Results flipDim(Call &call) { return {Value(flipped(call, call.tensor("self"), dim))}; }

/// Quarter turns in the plane of two dimensions, from the first to the second.
Results rotate(Call &call) {
  Tensor x = call.tensor("self");
  Shape dims = call.dims("dims", x.rank());
  if (dims.size() != 2)
    throw ImportError("expects two dimensions to turn, but got " + describe(dims));
  int64_t turns = ((call.integer("k", 1) % 4) + 4) % 4;
  for (; turns > 0; --turns) {
    x = flipped(call, x, dims[1]);
    SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, x.rank()));
    std::swap(permutation[dims[0]], permutation[dims[1]]);
    x = call.importer.transpose(x, permutation);
  }
  return {Value(x)};
}

/// hstack, vstack, dstack, column_stack: concatenations of tensors of at least so many dimensions.
template <int64_t minimalRank, int64_t dim> Results stackAlong(Call &call) {
  std::vector<Tensor> parts = call.tensors("tensors");
  ElementType type = commonType(call, parts);
  bool areVectors = parts[0].rank() < 2;
  for (Tensor &part : parts) {
    // A vector is a row of vstack and dstack, a column of column_stack.
    bool isColumn = call.op == "aten::column_stack" && part.rank() < 2;
    if (isColumn)
      part = call.importer.reshape(part, {numElements(part.shape), 1});
    Shape shape = part.shape;
    if (int64_t(shape.size()) < std::min<int64_t>(minimalRank, 2))
      shape.insert(shape.begin(), 1);
    if (int64_t(shape.size()) < minimalRank)
      shape.push_back(1);
    part = call.importer.reshape(part, shape);
  }
  int64_t along = call.op == "aten::hstack" && areVectors ? 0 : dim;
  return {Value(joined(call, parts, along, type))};
}

Results broadcastTensors(Call &call) {
  std::vector<Tensor> parts = call.tensors("tensors");
  SmallVector<ShapeRef> shapes;
  for (const Tensor &part : parts)
    shapes.push_back(part.shape);
  Shape shape = commonShape(shapes);
  List result;
  for (const Tensor &part : parts)
    result.push_back(call.importer.expand(part, shape));
  return {Value(result)};
}

} // namespace

void galvatron::importer::addJoiningRules(RuleTable &table) {
  table.add("aten::cat", cat);
  table.add("aten::concat", cat);
  table.add("aten::concatenate", cat);
  table.add("aten::stack", stack);
  table.add("aten::pad", pad);
  table.add("aten::constant_pad_nd", pad);
  table.add("aten::repeat_interleave", repeatInterleave);
  table.add("aten::repeat", repeat);
  table.add("aten::tile", repeat);
  table.add("aten::roll", roll);
  table.add("aten::flip", flip);
  table.add("aten::fliplr", flipDim<1>);
  table.add("aten::flipud", flipDim<0>);
  table.add("aten::rot90", rotate);
  table.add("aten::hstack", stackAlong<1, 1>);
  table.add("aten::vstack", stackAlong<2, 0>);
  table.add("aten::dstack", stackAlong<3, 2>);
  table.add("aten::column_stack", stackAlong<2, 1>);
  table.add("aten::broadcast_tensors", broadcastTensors);
}
