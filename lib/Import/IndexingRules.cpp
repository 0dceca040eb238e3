// Tables and indices: embedding, index, gather. An index that is a ramp makes a view or a slice.
#include "Importer.h"

#include "dialects/Graph/GraphIndexing.h"

using namespace galvatron;
using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

constexpr int64_t kGatherLimit = 1 << 20;

void checkBounds(const Linear &index, ShapeRef shape, int64_t extent) {
  auto [low, high] = index.range(shape);
  if (low < 0 || high >= double(extent))
    throw ImportError("positions " + std::to_string(int64_t(low)) + " to " + std::to_string(int64_t(high)) +
                      " do not fit a table of " + std::to_string(extent) +
                      " rows; use a shorter --seq or a model with more positions");
}

/// Rows of a table [V, H] by an index tensor of any shape; row `padding` gets no gradient.
Tensor rows(Call &call, const Tensor &table, const Tensor &ids, int64_t padding = -1) {
  Importer &importer = call.importer;
  Shape shape = ids.shape;
  shape.append(table.shape.begin() + 1, table.shape.end());
  std::optional<Linear> ramp = ids.lazy ? asLinear(ids.lazy) : std::nullopt;
  if (ramp) {
    if (ramp->range(ids.shape).second < 0) // counted from the end
      ramp->constant += double(table.shape[0]);
    checkBounds(*ramp, ids.shape, table.shape[0]);
  }
  if (table.lazy && ramp) {
    View view;
    view.shape = shape;
    View::Index row{int64_t(ramp->constant), {}};
    for (auto [d, factor] : llvm::enumerate(ramp->factors))
      if (factor != 0)
        row.terms.push_back({unsigned(d), factor});
    view.indices.push_back(row);
    for (int64_t d = 1; d < table.rank(); ++d) {
      View::Index index;
      index.terms.push_back({unsigned(ids.rank() + d - 1), 1});
      view.indices.push_back(index);
    }
    return Tensor::of(call.expressions.view(table.lazy, view));
  }
  SmallVector<int64_t, 4> dims = ids.lazy ? ids.lazy->dependentDims() : SmallVector<int64_t, 4>();
  if (ramp && dims.size() <= 1 && (dims.empty() || ramp->factors[dims[0]] == 1)) {
    // Consecutive positions: a slice of the table, the same for every other dimension of the index.
    Shape offsets(table.rank(), 0), piece = table.shape;
    offsets[0] = int64_t(ramp->constant);
    piece[0] = dims.empty() ? 1 : ids.shape[dims[0]];
    Tensor slice = importer.slice(table, offsets, piece);
    Shape aligned(ids.rank(), 1);
    if (!dims.empty())
      aligned[dims[0]] = piece[0];
    aligned.append(table.shape.begin() + 1, table.shape.end());
    return importer.expand(importer.reshape(slice, aligned), shape);
  }
  if (table.rank() != 2 || !isFloat(table.type))
    throw ImportError("expects a table [rows, columns] of floating point, but got " + describe(table.shape));
  mlir::Value result =
      graph::EmbeddingOp::create(call.emitter.builder, call.emitter.location, call.emitter.type(table.type, shape),
                                 importer.force(table), importer.force(ids), uint64_t(padding));
  return Tensor::of(result, table.type);
}

Results embedding(Call &call) {
  if (call.has("max_norm") || call.flag("sparse", false) || call.flag("scale_grad_by_freq", false))
    throw ImportError("embedding options max_norm, sparse and scale_grad_by_freq are unsupported; leave them off");
  Tensor table = call.tensor("weight");
  int64_t padding = call.integer("padding_idx", -1);
  if (padding < 0 && padding != -1)
    padding += table.shape[0]; // -1 says that there is none
  return {Value(rows(call, table, call.tensor("indices"), padding))};
}

/// x[i0, i1, …] of expressions: indices are broadcast together and replace the indexed dimensions.
ExpressionRef indexExpression(Call &call, ExpressionRef x, llvm::ArrayRef<std::optional<Tensor>> indices) {
  ExpressionContext &context = call.expressions;
  SmallVector<ShapeRef> shapes;
  std::optional<size_t> first;
  bool apart = false;
  for (auto [d, index] : llvm::enumerate(indices))
    if (index) {
      if (!index->lazy)
        return nullptr;
      shapes.push_back(index->shape);
      apart |= first && !indices[d - 1];
      first = first.value_or(d);
    }
  auto common = broadcastShapes(shapes);
  if (!common || !first || apart)
    return nullptr;
  View view;
  for (size_t d = 0; d < x->shape.size(); ++d)
    if (d == *first)
      view.shape.append(*common);
    else if (d >= indices.size() || !indices[d])
      view.shape.push_back(x->shape[d]);
  unsigned next = 0; // dimension of the result
  for (size_t d = 0; d < x->shape.size(); ++d) {
    View::Index each;
    if (d < indices.size() && indices[d]) {
      auto ramp = asLinear(context.expand(indices[d]->lazy, *common));
      if (!ramp)
        return nullptr;
      auto [low, high] = ramp->range(*common);
      if (high < 0)
        ramp->constant += double(x->shape[d]);
      checkBounds(*ramp, *common, x->shape[d]);
      each.base = int64_t(ramp->constant);
      for (auto [i, factor] : llvm::enumerate(ramp->factors))
        if (factor != 0)
          each.terms.push_back({unsigned(*first + i), factor});
      if (d == *first)
        next += common->size();
    } else {
      each.terms.push_back({next++, 1});
    }
    view.indices.push_back(each);
  }
  return context.view(x, view);
}

Results index(Call &call) {
  Tensor x = call.tensor("self");
  SmallVector<std::optional<Tensor>> indices;
  int64_t used = 0, position = -1;
  for (const Value &value : call.value("indices").list()) {
    indices.push_back(value.isNone() ? std::nullopt : std::optional(call.tensorOrNumber(value)));
    if (!value.isNone()) {
      ++used;
      position = indices.size() - 1;
      if (indices.back()->type == ElementType::Bool)
        throw ImportError("indexing by a mask has a shape that depends on data, which is unsupported; use where");
    }
  }
  if (x.lazy)
    if (ExpressionRef result = indexExpression(call, x.lazy, indices))
      return {Value(Tensor::of(result))};
  if (used != 1)
    throw ImportError("expects one index tensor where data is indexed, but got " + std::to_string(used));
  SmallVector<int64_t> front{position}, back;
  const Tensor &ids = *indices[position];
  for (int64_t d = 0; d < x.rank(); ++d)
    if (d != position)
      front.push_back(d);
  // The indexed dimension to the front, rows, then the index's dimensions where it was.
  Tensor result = rows(call, call.importer.transpose(x, front), ids);
  for (int64_t d = 0; d < position; ++d)
    back.push_back(ids.rank() + d);
  for (int64_t d = 0; d < ids.rank(); ++d)
    back.push_back(d);
  for (int64_t d = position; d < x.rank() - 1; ++d)
    back.push_back(ids.rank() + d);
  return {Value(call.importer.transpose(result, back))};
}

Results indexSelect(Call &call) {
  Tensor x = call.tensor("self");
  if (call.dim("dim", x.rank()) != 0)
    throw ImportError("expects dim 0");
  return {Value(rows(call, x, call.tensor("index")))};
}

/// Of expressions only: what a sinusoidal table or a relative bias is built with.
Results gather(Call &call) {
  ExpressionContext &context = call.expressions;
  Tensor x = call.tensor("self"), ids = call.tensor("index");
  int64_t dim = call.dim("dim", x.rank());
  if (!x.lazy || !ids.lazy)
    throw ImportError("gather from or by tensors that depend on data is unsupported; use embedding or index");
  if (auto ramp = asLinear(ids.lazy)) {
    checkBounds(*ramp, ids.shape, x.shape[dim]);
    View view;
    view.shape = ids.shape;
    for (int64_t d = 0; d < x.rank(); ++d) {
      View::Index index;
      if (d != dim) {
        index.terms.push_back({unsigned(d), 1});
      } else {
        index.base = int64_t(ramp->constant);
        for (auto [i, factor] : llvm::enumerate(ramp->factors))
          if (factor != 0)
            index.terms.push_back({unsigned(i), factor});
      }
      view.indices.push_back(index);
    }
    return {Value(Tensor::of(context.view(x.lazy, view)))};
  }
  if (numElements(ids.shape) > kGatherLimit)
    throw ImportError("gathers more than 1 M elements by computed positions, which is unsupported");
  std::vector<double> positions = context.materialize(ids.lazy), values;
  Shape at(ids.rank(), 0);
  for (double position : positions) {
    Shape source = at;
    source[dim] = int64_t(position);
    values.push_back(context.evaluate(x.lazy, source));
    for (size_t d = at.size(); d-- > 0;) {
      if (++at[d] < ids.shape[d])
        break;
      at[d] = 0;
    }
  }
  return {Value(Tensor::of(context.fit(x.type, ids.shape, std::move(values), ids.lazy->positional)))};
}

} // namespace

void galvatron::importer::addIndexingRules(RuleTable &table) {
  table.add("aten::embedding", embedding);
  table.add("aten::index", index);
  table.add("aten::index_select", indexSelect);
  table.add("aten::gather", gather);
}
