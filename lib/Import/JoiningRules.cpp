// Operators that put tensors together or repeat them: cat, stack, pad, repeat, roll.
#include "Importer.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

Results cat(Call &call) {
  std::vector<Tensor> parts = call.tensors("tensors");
  if (parts.empty())
    throw ImportError("expects at least one tensor");
  int64_t dim = call.dim("dim", parts[0].rank());
  List values;
  for (const Tensor &part : parts)
    values.push_back(part);
  ElementType type = promote(SmallVector<Value>(values.begin(), values.end()), call.importer);
  for (Tensor &part : parts) {
    Shape other = part.shape;
    if (other.size() != parts[0].shape.size())
      throw ImportError("expects tensors of one rank, but got " + describe(parts[0].shape) + " and " + describe(other));
    other[dim] = parts[0].shape[dim];
    if (other != parts[0].shape)
      throw ImportError("expects equal extents outside dimension " + std::to_string(dim) + ", but got " +
                        describe(parts[0].shape) + " and " + describe(part.shape));
    part = call.importer.convert(part, type);
  }
  return {Value(call.importer.concat(parts, dim))};
}

Results stack(Call &call) {
  std::vector<Tensor> parts = call.tensors("tensors");
  int64_t dim = call.dim("dim", parts.at(0).rank() + 1);
  for (Tensor &part : parts) {
    Shape shape = part.shape;
    shape.insert(shape.begin() + dim, 1);
    part = call.importer.reshape(part, shape);
  }
  return {Value(call.importer.concat(parts, dim))};
}

/// Constant padding: a concatenation with the constant on either side.
Results pad(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self");
  if (const Value *mode = call.find("mode"); mode && mode->string() != "constant")
    throw ImportError("expects padding mode constant, but got " + mode->string());
  double value = call.number("value", 0);
  Shape amounts = call.integers("pad");
  for (size_t i = 0; i < amounts.size(); i += 2) {
    int64_t dim = x.rank() - 1 - int64_t(i / 2), before = amounts[i], after = amounts[i + 1];
    Shape offsets(x.rank(), 0), shape = x.shape;
    offsets[dim] = std::max<int64_t>(-before, 0);
    shape[dim] += std::min<int64_t>(before, 0) + std::min<int64_t>(after, 0);
    x = importer.slice(x, offsets, shape);
    auto filler = [&](int64_t extent) {
      Shape wide = x.shape;
      wide[dim] = extent;
      return Tensor::of(call.expressions.splat(x.type, wide, value));
    };
    SmallVector<Tensor, 3> parts;
    if (before > 0)
      parts.push_back(filler(before));
    parts.push_back(x);
    if (after > 0)
      parts.push_back(filler(after));
    x = importer.concat(parts, dim);
  }
  return {Value(x)};
}

/// Every element `count` times in place: unsqueeze, expand, flatten.
Tensor repeatEach(Call &call, const Tensor &x, int64_t dim, int64_t count) {
  Shape wide = x.shape, flat = x.shape;
  wide.insert(wide.begin() + dim + 1, 1);
  Tensor split = call.importer.reshape(x, wide);
  wide[dim + 1] = count;
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
  Shape shifts = call.integers("shifts"), dims = call.integers("dims");
  for (auto [shift, given] : llvm::zip_equal(shifts, dims)) {
    int64_t dim = given < 0 ? given + x.rank() : given, extent = x.shape[dim];
    int64_t front = ((shift % extent) + extent) % extent; // elements that wrap to the front
    if (front == 0)
      continue;
    Shape tail = x.shape, head = x.shape, offsets(x.rank(), 0);
    tail[dim] = front, head[dim] = extent - front;
    Tensor second = importer.slice(x, offsets, head);
    offsets[dim] = extent - front;
    x = importer.concat({importer.slice(x, offsets, tail), second}, dim);
  }
  return {Value(x)};
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
}
