// Tables and indices: embedding, index, gather. An index that is a ramp makes a view or a slice.
#include "Indexing.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphShapes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"

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

} // namespace

Tensor galvatron::importer::rows(Call &call, const Tensor &table, const Tensor &ids, int64_t padding) {
  Importer &importer = call.importer;
  if (table.rank() < 1)
    throw ImportError("expects a table of rows, but got a single number");
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
  if (!isFloat(table.type)) {
    return importer.convert(rows(call, exactAsFloat(call, table), ids), table.type);
  }
  int64_t columns = numElements(ShapeRef(table.shape).drop_front());
  Tensor flat = importer.reshape(table, {table.shape[0], columns});
  Tensor positions = importer.convert(ids, ElementType::Int64);
  Shape wide = ids.shape;
  wide.push_back(columns);
  mlir::Value result =
      graph::EmbeddingOp::create(call.emitter.builder, call.emitter.location, call.emitter.type(table.type, wide),
                                 importer.force(flat), importer.force(positions), uint64_t(padding));
  return importer.reshape(Tensor::of(result, table.type), shape);
}

/// Whether integers stay below 2^24: the step's tokens, truth values, positions, and what is made of them without
/// arithmetic.
static bool fitsFloat(mlir::Value x) {
  mlir::Operation *op = x.getDefiningOp();
  if (!op)
    return true;
  if (llvm::isa<mlir::arith::ExtSIOp>(op))
    return fitsFloat(op->getOperand(0));
  if (llvm::isa<mlir::arith::ExtUIOp>(op))
    return mlir::getElementTypeOrSelf(op->getOperand(0).getType()).isInteger(1);
  if (auto constant = llvm::dyn_cast<mlir::arith::ConstantOp>(op)) {
    auto elements = llvm::dyn_cast<mlir::DenseElementsAttr>(constant.getValue());
    return elements && llvm::all_of(elements.getValues<llvm::APInt>(),
                                    [](const llvm::APInt &value) { return value.abs().getActiveBits() <= 24; });
  }
  using namespace galvatron::graph;
  if (llvm::isa<IotaOp>(op))
    return true;
  bool moves = llvm::isa<ReshapeOp, TransposeOp, SliceOp, ConcatOp, ShiftOp, BroadcastOp, mlir::arith::SelectOp,
                         mlir::arith::MaxSIOp, mlir::arith::MinSIOp>(op);
  return moves && llvm::all_of(op->getOperands(), [](mlir::Value operand) {
           return mlir::getElementTypeOrSelf(operand.getType()).isInteger(1) || fitsFloat(operand);
         });
}

/// The same of constants.
static bool lazyFitsFloat(Call &call, const Tensor &x) {
  if (std::optional<Linear> linear = asLinear(x.lazy)) {
    auto [low, high] = linear->range(x.shape);
    return low >= -0x1p24 && high <= 0x1p24;
  }
  return llvm::all_of(call.expressions.materialize(x.lazy), [](double value) { return std::abs(value) <= 0x1p24; });
}

Tensor galvatron::importer::exactAsFloat(Call &call, const Tensor &x, bool sum) {
  if (isFloat(x.type))
    return x;
  mlir::Operation *op = x.lazy ? nullptr : x.data.getDefiningOp();
  while (llvm::isa_and_nonnull<mlir::arith::ExtSIOp>(op))
    op = op->getOperand(0).getDefiningOp();
  bool isCount = x.type == ElementType::Bool || llvm::isa_and_nonnull<mlir::arith::ExtUIOp>(op);
  bool isExact = x.lazy ? lazyFitsFloat(call, x) : isCount || (!sum && fitsFloat(x.data));
  if (!isExact)
    throw ImportError(sum ? "adds integers that depend on data, which is supported for truth values alone (counts); "
                            "convert to floating point first"
                          : "picks among integers that were computed from data, which is supported for the tokens "
                            "themselves alone; convert to floating point first");
  return call.importer.convert(x, ElementType::Float32);
}

Tensor galvatron::importer::pick(Call &call, const Tensor &x, int64_t dim, const Tensor &ids) {
  // The dimension to the front, rows, then the dimensions of the index where it was.
  SmallVector<int64_t> front{dim}, back;
  for (int64_t d = 0; d < x.rank(); ++d)
    if (d != dim)
      front.push_back(d);
  Tensor result = rows(call, call.importer.transpose(x, front), ids);
  for (int64_t d = 0; d < dim; ++d)
    back.push_back(ids.rank() + d);
  for (int64_t d = 0; d < ids.rank(); ++d)
    back.push_back(d);
  for (int64_t d = dim; d < x.rank() - 1; ++d)
    back.push_back(ids.rank() + d);
  return call.importer.transpose(result, back);
}

Tensor galvatron::importer::ramp(Call &call, int64_t count, int64_t begin, int64_t step) {
  Linear positions{double(begin), {step}, true};
  return Tensor::of(call.expressions.linear(ElementType::Int64, {count}, positions));
}

Tensor galvatron::importer::isPosition(Call &call, const Tensor &ids, int64_t dim, int64_t count) {
  Importer &importer = call.importer;
  Shape shape = ids.shape, along(ids.rank() + 1, 1);
  shape.insert(shape.begin() + dim, 1);
  along[dim] = count;
  Tensor positions = importer.reshape(ramp(call, count, 0, 1), along);
  return importer.elementwise(Operator::Equal, {importer.reshape(ids, shape), positions}, ElementType::Int64,
                              ElementType::Bool);
}

namespace {

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

/// Negative positions count from the end. The step's own tokens are none.
Tensor fromEnd(Call &call, const Tensor &ids, int64_t extent) {
  if (ids.lazy || !ids.data.getDefiningOp())
    return ids;
  Formula f{call, ids.type};
  return f.choose(f.less(ids, f.number(0)), f.add(ids, f.number(double(extent))), ids);
}

/// The dimension of an index along which it is 0, 1, … up to all of `extent`; none if it is no such index.
std::optional<int64_t> alignedDim(const Tensor &ids, ShapeRef common, int64_t extent) {
  std::optional<Linear> ramp = ids.lazy ? asLinear(ids.lazy) : std::nullopt;
  if (!ramp || ramp->constant != 0)
    return std::nullopt;
  SmallVector<int64_t, 4> dims = ids.lazy->dependentDims();
  if (dims.size() != 1 || ramp->factors[dims[0]] != 1 || ids.shape[dims[0]] != extent)
    return std::nullopt;
  return dims[0] + int64_t(common.size()) - ids.rank();
}

/// x[i, j, …] by indices of the first dimensions. Those that say "the same sample" (x[arange(B)[:, None], ids]) are no
/// lookup, so that samples stay apart; the others are one lookup in the flattened dimensions.
Tensor indexBySeveral(Call &call, Tensor x, llvm::ArrayRef<std::optional<Tensor>> indices) {
  Importer &importer = call.importer;
  SmallVector<ShapeRef> shapes;
  for (const std::optional<Tensor> &index : indices) {
    if (!index)
      throw ImportError("expects indices of the first dimensions where several index data, but dimension " +
                        std::to_string(&index - indices.data()) + " has none");
    shapes.push_back(index->shape);
  }
  Shape common = commonShape(shapes);
  int64_t rank = common.size(), numIndices = indices.size();
  Shape rest(x.shape.begin() + numIndices, x.shape.end());
  // Aligned dimensions first, then those that are looked up, then the rest.
  SmallVector<int64_t> aligned, order, looked;
  for (int64_t d = 0; d < numIndices; ++d) {
    auto dim = alignedDim(*indices[d], common, x.shape[d]);
    bool isFirst = dim && (aligned.empty() || *dim > aligned.back());
    (isFirst ? order : looked).push_back(d);
    if (isFirst)
      aligned.push_back(*dim);
  }
  order.append(looked);
  for (int64_t d = numIndices; d < x.rank(); ++d)
    order.push_back(d);
  x = importer.transpose(x, order);
  Formula positions{call, ElementType::Int64};
  Tensor flat = positions.number(0);
  int64_t count = 1;
  for (int64_t d : looked) {
    int64_t extent = x.shape[llvm::find(order, d) - order.begin()];
    flat = positions.add(positions.multiply(flat, double(extent)), fromEnd(call, *indices[d], extent));
    count *= extent;
  }
  Shape table(x.shape.begin(), x.shape.begin() + aligned.size());
  table.push_back(count);
  table.append(rest);
  x = importer.reshape(x, table);
  flat = importer.expand(flat, common);
  if (aligned.empty())
    return rows(call, x, flat);
  // [index…, count, rest…], with extent 1 where the index does not differ for the table.
  Shape wide(rank, 1);
  for (auto [dim, extent] : llvm::zip(aligned, table))
    wide[dim] = extent;
  wide.push_back(count);
  wide.append(rest);
  Shape mask = common, result = common;
  mask.push_back(count);
  mask.append(rest.size(), 1);
  result.append(rest);
  ElementType type = x.type;
  x = exactAsFloat(call, x);
  Formula f{call, x.type};
  Tensor isIt = importer.reshape(isPosition(call, flat, rank, count), mask);
  Tensor found = f.sum(f.choose(isIt, importer.reshape(x, wide), f.number(0)), {rank});
  return importer.convert(importer.reshape(found, result), type);
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
  if (used == 0 || int64_t(indices.size()) > x.rank())
    throw ImportError("expects 1 to " + std::to_string(x.rank()) + " indices for " + describe(x.shape) + ", but got " +
                      std::to_string(used) + " in " + std::to_string(indices.size()) + " places");
  if (x.lazy)
    if (ExpressionRef result = indexExpression(call, x.lazy, indices))
      return {Value(Tensor::of(result))};
  if (used == 1)
    return {Value(pick(call, x, position, fromEnd(call, *indices[position], x.shape[position])))};
  return {Value(indexBySeveral(call, x, indices))};
}

Results indexSelect(Call &call) {
  Tensor x = call.tensor("self"), ids = call.tensor("index");
  int64_t dim = call.dim("dim", x.rank());
  return {Value(pick(call, x, dim, call.importer.reshape(ids, {numElements(ids.shape)})))};
}

/// Elements of the flattened tensor.
Results take(Call &call) {
  Tensor x = call.tensor("self"), ids = call.tensor("index");
  int64_t count = numElements(x.shape);
  return {Value(rows(call, call.importer.reshape(x, {count}), fromEnd(call, ids, count)))};
}

/// One class of each row of a log_softmax: what a cross entropy computes, but for the sign.
std::optional<Tensor> gatherLogProbability(Call &call, const Tensor &x, const Tensor &ids, int64_t dim) {
  Importer &importer = call.importer;
  auto source = importer.logSoftmaxSources.find(x.data);
  if (x.lazy || source == importer.logSoftmaxSources.end())
    return std::nullopt;
  auto [logits, classes] = source->second;
  bool isOfRows = dim == x.rank() - 1 && classes == dim && shapeOf(logits) == x.shape && ids.shape.back() == 1 &&
                  ShapeRef(ids.shape).drop_back() == ShapeRef(x.shape).drop_back();
  if (!isOfRows)
    return std::nullopt;
  ShapeRef rows = ShapeRef(x.shape).drop_back();
  mlir::Value loss =
      graph::CrossEntropyOp::create(call.emitter.builder, call.emitter.location, call.emitter.type(x.type, rows),
                                    logits, importer.force(importer.reshape(ids, rows)), /*count=*/mlir::Value(),
                                    uint64_t(graph::CrossEntropyOp::kIgnoresNothing));
  return Formula{call, x.type}.negate(importer.reshape(Tensor::of(loss, x.type), ids.shape));
}

/// By data: of all positions, the sum of the one that is asked for.
Tensor gatherData(Call &call, Tensor x, const Tensor &ids, int64_t dim) {
  Importer &importer = call.importer;
  if (std::optional<Tensor> logs = gatherLogProbability(call, x, ids, dim))
    return *logs;
  Shape shape = ids.shape, offsets(x.rank(), 0);
  shape[dim] = x.shape[dim];
  x = importer.slice(x, offsets, shape);
  shape.insert(shape.begin() + dim, 1);
  ElementType type = x.type;
  x = exactAsFloat(call, x);
  Formula f{call, x.type};
  Tensor chosen = f.choose(isPosition(call, ids, dim + 1, x.shape[dim]), importer.reshape(x, shape), f.number(0));
  return importer.convert(importer.reshape(f.sum(chosen, {dim + 1}), ids.shape), type);
}

/// `take_along_dim` broadcasts the other dimensions first, and flattens where no dimension is named.
Results takeAlongDim(Call &call) {
  Importer &importer = call.importer;
  Tensor x = call.tensor("self"), ids = call.tensor("indices");
  if (!call.has("dim"))
    return {Value(gatherData(call, importer.reshape(x, {numElements(x.shape)}),
                             importer.reshape(ids, {numElements(ids.shape)}), 0))};
  int64_t dim = call.dim("dim", x.rank());
  if (x.rank() != ids.rank())
    throw ImportError("expects indices of rank " + std::to_string(x.rank()) + ", the operand's, but got " +
                      describe(ids.shape));
  Shape xOthers = x.shape, idOthers = ids.shape;
  xOthers[dim] = idOthers[dim] = 1;
  Shape xShape = commonShape({ShapeRef(xOthers), ShapeRef(idOthers)}), idShape = xShape;
  xShape[dim] = x.shape[dim], idShape[dim] = ids.shape[dim];
  return {Value(gatherData(call, importer.expand(x, xShape), importer.expand(ids, idShape), dim))};
}

/// Of expressions, what a sinusoidal table or a relative bias is built with, an expression again.
Results gather(Call &call) {
  ExpressionContext &context = call.expressions;
  Tensor x = call.tensor("self"), ids = call.tensor("index");
  int64_t dim = call.dim("dim", x.rank());
  bool fits = ids.rank() == x.rank();
  for (int64_t d = 0; fits && d < x.rank(); ++d)
    fits = d == dim || ids.shape[d] <= x.shape[d];
  if (!fits)
    throw ImportError("expects an index within " + describe(x.shape) + " but for dimension " + std::to_string(dim) +
                      ", but got " + describe(ids.shape));
  if (!x.lazy || !ids.lazy)
    return {Value(gatherData(call, x, ids, dim))};
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
    throw ImportError(
        "gathers more than 1 M elements by computed positions, which is unsupported; compute the elements "
        "from the positions");
  std::vector<double> positions = context.materialize(ids.lazy), values;
  Shape at(ids.rank(), 0);
  for (double position : positions) {
    Shape source = at;
    if (!(position >= 0 && position < double(x.shape[dim])))
      throw ImportError("gathers position " + std::to_string(position) + " of dimension " + std::to_string(dim) +
                        " of " + describe(x.shape));
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
  table.add("aten::take", take);
  table.add("aten::take_along_dim", takeAlongDim);
}
