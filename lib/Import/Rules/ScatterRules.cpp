// Writing elements by position or mask. The result is chosen element by element: of all writes, the one whose
// position is this element's.
#include "Indexing.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

/// The mask of a write and what it writes, over [..., writes, elements of `dim`, ...].
struct Writes {
  Call &call;
  Tensor self, ids;
  int64_t dim;

  explicit Writes(Call &call)
      : call(call), self(call.tensor("self")), ids(call.tensor("index")), dim(call.dim("dim", self.rank())) {
    // One vector of positions along `dim` (index_add), or positions for each element of the other dimensions (scatter).
    bool isVector = call.op.starts_with("aten::index_");
    Shape shape = self.shape;
    if (isVector) {
      shape.assign(self.rank(), 1);
      shape[dim] = numElements(ids.shape);
      ids = call.importer.reshape(ids, shape);
      return;
    }
    shape[dim] = ids.rank() == self.rank() ? ids.shape[dim] : -1;
    if (ShapeRef(shape) != ShapeRef(ids.shape))
      throw ImportError("expects an index of the shape of " + describe(self.shape) + " but for dimension " +
                        std::to_string(dim) + ", but got " + describe(ids.shape));
  }

  int64_t count() const { return ids.shape[dim]; }
  Tensor mask() const { return isPosition(call, ids, dim + 1, self.shape[dim]); }
  /// Whether an element is written at all.
  Tensor isWritten() const {
    Formula f{call, ElementType::Float32};
    Tensor any = f.maximum(call.importer.convert(mask(), f.type), {dim});
    return call.importer.convert(merged(any), ElementType::Bool);
  }
  /// [..., 1, elements, ...] without the 1.
  Tensor merged(const Tensor &x) const {
    Shape shape = x.shape;
    shape.erase(shape.begin() + dim);
    return call.importer.reshape(x, shape);
  }
  /// What is written to an element, added up.
  Tensor sum(const Tensor &source) const {
    Formula f{call, floatOf(self.type)};
    Shape shape = source.shape;
    shape.insert(shape.begin() + dim + 1, 1);
    Tensor chosen = f.choose(mask(), call.importer.reshape(source, shape), f.number(0));
    return merged(f.sum(chosen, {dim}));
  }
  void checkSource(const Tensor &source) const {
    Shape shape = self.shape;
    shape[dim] = count();
    if (ShapeRef(shape) != ShapeRef(source.shape))
      throw ImportError("expects a source of shape " + describe(shape) + ", but got " + describe(source.shape));
  }
};

Value added(const Writes &writes, const Tensor &source, double factor) {
  Formula f{writes.call, writes.self.type};
  writes.checkSource(source);
  return Value(f.add(writes.self, f.multiply(writes.sum(source), factor)));
}

/// A number at each position, or one tensor's elements at positions that cannot meet.
Results scatter(Call &call) {
  Writes writes(call);
  if (call.has("reduce"))
    throw ImportError("expects no reduce; use scatter_add, which adds");
  Formula f{call, writes.self.type};
  const Value *value = call.find("value");
  if (value && (value->isNumber() || call.tensorOrNumber(*value).rank() == 0))
    return {Value(f.choose(writes.isWritten(), call.tensorOrNumber(*value), writes.self))};
  Tensor source = call.tensor("src");
  if (writes.count() != 1)
    throw ImportError(
        "writes several elements to positions that may be the same, where the last one is left to chance; "
        "use scatter_add into zeros");
  writes.checkSource(source);
  return {Value(f.choose(writes.isWritten(), source, writes.self))};
}

Results scatterAdd(Call &call) { return {added(Writes(call), call.tensor("src"), 1)}; }

Results indexAdd(Call &call) { return {added(Writes(call), call.tensor("source"), call.number("alpha", 1))}; }

Results indexFill(Call &call) {
  Writes writes(call);
  Formula f{call, writes.self.type};
  return {Value(f.choose(writes.isWritten(), call.tensorOrNumber(call.value("value")), writes.self))};
}

/// Positions that are known, and differ.
Results indexCopy(Call &call) {
  Writes writes(call);
  std::vector<double> positions;
  if (writes.ids.lazy)
    positions = call.expressions.materialize(call.expressions.compact(writes.ids.lazy));
  llvm::sort(positions);
  if (!writes.ids.lazy || std::adjacent_find(positions.begin(), positions.end()) != positions.end())
    throw ImportError("writes to positions that depend on data or repeat, where the last one is left to chance; use "
                      "index_add into zeros");
  Tensor source = call.tensor("source");
  writes.checkSource(source);
  Formula f{call, writes.self.type};
  return {Value(f.choose(writes.isWritten(), writes.sum(source), writes.self))};
}

/// x[mask] = value, x[..., positions, ...] = number.
Results indexPut(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self"), value = call.tensor("values");
  if (call.flag("accumulate", false))
    throw ImportError("expects accumulate to be false; use index_add");
  const List &indices = call.value("indices").list();
  std::optional<int64_t> dim;
  for (auto [d, index] : llvm::enumerate(indices))
    if (!index.isNone()) {
      if (dim)
        throw ImportError("expects one index or mask where data is written, but got several; use where");
      dim = d;
    }
  if (!dim)
    throw ImportError("expects an index or a mask");
  Tensor index = call.tensorOrNumber(indices[*dim]);
  if (*dim >= x.rank())
    throw ImportError("expects at most " + std::to_string(x.rank()) + " indices for " + describe(x.shape));
  Formula f{call, x.type};
  if (index.type == ElementType::Bool) {
    // The mask covers dimensions from `dim` on; a value of its own for each element would need their number.
    int64_t rest = x.rank() - *dim - index.rank();
    if (rest < 0)
      throw ImportError("expects a mask of " + describe(x.shape) + ", but got one of " + describe(index.shape));
    if (value.rank() > rest)
      throw ImportError("writes values whose number depends on the mask; use where, or masked_fill");
    Shape shape = index.shape;
    shape.append(rest, 1);
    return {Value(f.choose(importer.reshape(index, shape), value, x))};
  }
  if (numElements(value.shape) != 1)
    throw ImportError("writes several elements by position, which is unsupported; use where, or cat");
  Tensor ids = importer.reshape(index, {numElements(index.shape)});
  if (ids.lazy) {
    auto ramp = asLinear(ids.lazy);
    if (ramp && ramp->range(ids.shape).first < 0)
      ids = Formula{call, ids.type}.add(ids, Formula{call, ids.type}.number(double(x.shape[*dim])));
  }
  Formula counted{call, ElementType::Float32};
  Tensor any = counted.maximum(importer.convert(isPosition(call, ids, 1, x.shape[*dim]), counted.type), {0});
  Shape along(x.rank(), 1);
  along[*dim] = x.shape[*dim];
  Tensor isWritten = importer.convert(importer.reshape(any, along), ElementType::Bool);
  return {Value(f.choose(isWritten, importer.reshape(value, {}), x))};
}

} // namespace

void galvatron::importer::addScatterRules(RuleTable &table) {
  table.add("aten::scatter", scatter);
  table.add("aten::scatter_add", scatterAdd);
  table.add("aten::index_add", indexAdd);
  table.add("aten::index_fill", indexFill);
  table.add("aten::index_copy", indexCopy);
  table.add("aten::index_put", indexPut);
}
