// Operators that only look at memory differently.
#include "Indexing.h"

using namespace galvatron::importer;
using llvm::SmallVector;
using Results = SmallVector<Value, 1>;

namespace {

Results same(Call &call) { return {Value(call.tensor("self"))}; }

/// What turns out to depend on no parameter is not detached at all: see `Importer::finish`.
Results detach(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(x.lazy || !isFloat(x.type) ? x : Tensor::of(call.emitter.detach(x.data), x.type))};
}

std::string bakedIn(const Call &call, ShapeRef shape) {
  const Importer &importer = call.importer;
  auto holds = [&](int64_t example, int64_t now) {
    return example > 1 && example != now && llvm::any_of(shape, [&](int64_t extent) { return extent % example == 0; });
  };
  if (holds(importer.exampleSeq, importer.seq))
    return "; the trace seems to hold its example's sequence length " + std::to_string(importer.exampleSeq) +
           " as a constant: export with example inputs of seq " + std::to_string(importer.seq) +
           ", or compute that size from the input's shape (dynamic shapes are unsupported)";
  if (holds(importer.exampleBatch, importer.batch))
    return "; the trace seems to hold its example's batch size " + std::to_string(importer.exampleBatch) +
           " as a constant: export with example inputs of batch " + std::to_string(importer.batch) +
           ", or compute that size from the input's shape (dynamic shapes are unsupported)";
  return "; a size in the trace is a constant that does not fit --batch and --seq: export with example inputs of "
         "these sizes";
}

/// The shape with its -1 filled in.
Shape completeShape(const Call &call, const Tensor &x, Shape shape) {
  int64_t known = 1, count = numElements(x.shape);
  int64_t *open = nullptr;
  Shape given = shape;
  std::replace(given.begin(), given.end(), int64_t(-1), int64_t(1));
  checkShape(given);
  for (int64_t &extent : shape)
    if (extent == -1 && !open)
      open = &extent;
    else
      known *= extent;
  if (open && known > 0 && count % known == 0)
    *open = count / known;
  else if (open || known != count)
    throw ImportError("cannot view " + describe(x.shape) + " as " + describe(shape) + bakedIn(call, shape));
  return shape;
}

Results view(Call &call) {
  Tensor x = call.tensor("self");
  if (const Value *other = call.find("other"))
    return {Value(call.importer.reshape(x, call.importer.read(*other->cell()).shape))};
  Shape shape = call.integers(call.has("size") ? "size" : "shape");
  return {Value(call.importer.reshape(x, completeShape(call, x, shape)))};
}

Results flatten(Call &call) {
  Tensor x = call.tensor("self");
  if (x.rank() == 0 || call.op == "aten::ravel")
    return {Value(call.importer.reshape(x, {numElements(x.shape)}))};
  int64_t begin = call.dim("start_dim", x.rank()), end = call.dim("end_dim", x.rank());
  if (begin > end)
    throw ImportError("expects start_dim before end_dim, but got " + std::to_string(begin) + " and " +
                      std::to_string(end));
  Shape shape(x.shape.begin(), x.shape.begin() + begin);
  shape.push_back(numElements(ShapeRef(x.shape).slice(begin, end - begin + 1)));
  shape.append(x.shape.begin() + end + 1, x.shape.end());
  return {Value(call.importer.reshape(x, shape))};
}

Results unflatten(Call &call) {
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank());
  Tensor piece = x;
  piece.shape = {x.shape[dim]};
  Shape sizes = completeShape(call, piece, call.integers("sizes"));
  Shape shape(x.shape.begin(), x.shape.begin() + dim);
  shape.append(sizes);
  shape.append(x.shape.begin() + dim + 1, x.shape.end());
  return {Value(call.importer.reshape(x, shape))};
}

Results unsqueeze(Call &call) {
  Tensor x = call.tensor("self");
  Shape shape = x.shape;
  shape.insert(shape.begin() + call.dim("dim", x.rank() + 1), 1);
  return {Value(call.importer.reshape(x, shape))};
}

Results squeeze(Call &call) {
  Tensor x = call.tensor("self");
  SmallVector<bool> removed(x.rank(), !call.has("dim"));
  if (call.has("dim") && x.rank() > 0)
    for (int64_t dim : call.dims("dim", x.rank()))
      removed[dim] = true;
  Shape shape;
  for (int64_t d = 0; d < x.rank(); ++d)
    if (x.shape[d] != 1 || !removed[d])
      shape.push_back(x.shape[d]);
  return {Value(call.importer.reshape(x, shape))};
}

Results expand(Call &call) {
  Tensor x = call.tensor("self");
  Shape shape = call.has("other") ? call.importer.read(*call.value("other").cell()).shape : call.integers("size");
  if (shape.size() < x.shape.size())
    throw ImportError("cannot expand " + describe(x.shape) + " to " + describe(shape) + ", which has fewer dimensions");
  size_t lead = shape.size() - x.shape.size();
  for (auto [d, extent] : llvm::enumerate(shape)) {
    if (extent == -1 && d >= lead)
      extent = x.shape[d - lead];
    if (d >= lead && x.shape[d - lead] != 1 && x.shape[d - lead] != extent)
      throw ImportError("cannot expand " + describe(x.shape) + " to " + describe(shape) + bakedIn(call, shape));
  }
  return {Value(call.importer.expand(x, shape))};
}

Results transpose(Call &call) {
  Tensor x = call.tensor("self");
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, x.rank()));
  if (x.rank() > 0)
    std::swap(permutation[call.dim("dim0", x.rank())], permutation[call.dim("dim1", x.rank())]);
  return {Value(call.importer.transpose(x, permutation))};
}

/// Dimensions `source` become `destination`, the others keep their order.
Results moveDim(Call &call) {
  Tensor x = call.tensor("self");
  Shape from = call.dims("source", x.rank()), to = call.dims("destination", x.rank());
  if (from.size() != to.size())
    throw ImportError("expects as many destinations as sources, but got " + describe(from) + " to " + describe(to));
  SmallVector<int64_t> permutation(x.rank(), -1);
  for (auto [source, destination] : llvm::zip(from, to))
    permutation[destination] = source;
  int64_t next = 0;
  for (int64_t &dim : permutation)
    if (dim < 0) {
      while (llvm::is_contained(from, next))
        ++next;
      dim = next++;
    }
  return {Value(call.importer.transpose(x, permutation))};
}

Results transposeMatrix(Call &call) { // t, T, mT
  Tensor x = call.tensor(call.arguments[0].name);
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, x.rank()));
  if (x.rank() >= 2)
    std::swap(permutation[x.rank() - 1], permutation[x.rank() - 2]);
  return {Value(call.importer.transpose(x, permutation))};
}

Results permute(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(call.importer.transpose(x, call.dims("dims", x.rank())))};
}

/// [begin, end) along one dimension; steps above one go through a reshape.
Tensor range(Call &call, const Tensor &x, int64_t dim, int64_t begin, int64_t end, int64_t step = 1) {
  int64_t extent = x.shape[dim];
  if (step < 1)
    throw ImportError("expects a step of at least 1, but got " + std::to_string(step));
  auto clip = [&](int64_t i) { return std::clamp<int64_t>(i < 0 ? i + extent : i, 0, extent); };
  begin = clip(begin), end = std::max(clip(end), begin);
  Shape shape = x.shape, offsets(x.rank(), 0);
  offsets[dim] = begin;
  int64_t count = end == begin ? 0 : (end - begin - 1) / step + 1;
  shape[dim] = count;
  if (count == 0) // the rest after a rotary part that is everything
    return Tensor::of(call.expressions.splat(x.type, shape, 0));
  if (step == 1)
    return call.importer.slice(x, offsets, shape);
  if (x.lazy) {
    View view;
    view.shape = shape;
    for (int64_t d = 0; d < x.rank(); ++d) {
      View::Index index{offsets[d], {}};
      index.terms.push_back({unsigned(d), d == dim ? step : 1});
      view.indices.push_back(index);
    }
    return Tensor::of(call.expressions.view(x.lazy, view));
  }
  // x[..., b::k] of extent n·k: [..., n, k], then the element b of each run.
  if (extent % step != 0 || begin >= step || count * step != extent)
    return pick(call, x, dim, ramp(call, count, begin, step));
  Shape runs = x.shape, offset(x.rank() + 1, 0);
  runs[dim] = count;
  runs.insert(runs.begin() + dim + 1, step);
  Tensor split = call.importer.reshape(x, runs);
  offset[dim + 1] = begin;
  runs[dim + 1] = 1;
  return call.importer.reshape(call.importer.slice(split, offset, runs), shape);
}

Results slice(Call &call) {
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank()), extent = x.shape[dim];
  return {Value(range(call, x, dim, call.integer("start", 0), call.integer("end", extent), call.integer("step", 1)))};
}

/// As `range`, of elements that must all be there.
Tensor rangeWithin(Call &call, const Tensor &x, int64_t dim, int64_t begin, int64_t length) {
  int64_t extent = x.shape[dim], from = begin < 0 ? begin + extent : begin;
  if (from < 0 || length < 0 || length > extent || from > extent - length)
    throw ImportError("expects elements of dimension " + std::to_string(dim) + " of " + describe(x.shape) +
                      ", but got " + std::to_string(length) + " from " + std::to_string(begin) +
                      " on; pass a --seq or --batch that they fit");
  return range(call, x, dim, from, from + length);
}

Results narrow(Call &call) {
  Tensor x = call.tensor("self");
  return {Value(rangeWithin(call, x, call.dim("dim", x.rank()), call.integer("start"), call.integer("length")))};
}

Tensor dropDim(Call &call, const Tensor &x, int64_t dim) {
  Shape shape = x.shape;
  shape.erase(shape.begin() + dim);
  return call.importer.reshape(x, shape);
}

Results select(Call &call) {
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank());
  return {Value(dropDim(call, rangeWithin(call, x, dim, call.integer("index"), 1), dim))};
}

/// Before a list of so many is made.
void checkPieces(int64_t count) {
  constexpr int64_t kMostPieces = 1 << 20;
  if (count < 0 || count > kMostPieces)
    throw ImportError("expects at most " + std::to_string(kMostPieces) + " pieces, but got " + std::to_string(count));
}

/// For a number that divides.
int64_t positive(int64_t number, const char *name) {
  if (number < 1)
    throw ImportError(std::string("expects ") + name + " of at least 1, but got " + std::to_string(number));
  return number;
}

List pieces(Call &call, const Tensor &x, int64_t dim, ShapeRef sizes) {
  List result;
  int64_t begin = 0;
  checkPieces(int64_t(sizes.size()));
  for (int64_t size : sizes) {
    if (size < 0 || size > x.shape[dim] - begin)
      throw ImportError("expects pieces of dimension " + std::to_string(dim) + " of " + describe(x.shape) +
                        " to add up to it, but got " + describe(sizes) + bakedIn(call, sizes));
    result.push_back(range(call, x, dim, begin, begin + size));
    begin += size;
  }
  if (begin != x.shape[dim])
    throw ImportError("expects pieces of dimension " + std::to_string(dim) + " of " + describe(x.shape) +
                      " to add up to it, but got " + describe(sizes) + bakedIn(call, sizes));
  return result;
}

Results split(Call &call) {
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank()), extent = x.shape[dim];
  const Value *sizes = call.find("split_size");
  if (!sizes)
    sizes = call.find("split_sizes");
  if (sizes && sizes->isList())
    return {Value(pieces(call, x, dim, call.integers(call.has("split_size") ? "split_size" : "split_sizes")))};
  Shape equal;
  int64_t size = std::min(positive(call.integer("split_size"), "split_size"), std::max<int64_t>(extent, 1));
  checkPieces(extent / size);
  for (int64_t begin = 0; begin < extent; begin += size)
    equal.push_back(std::min(size, extent - begin));
  return {Value(pieces(call, x, dim, equal))};
}

Results chunk(Call &call) {
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank()), chunks = positive(call.integer("chunks"), "chunks");
  int64_t size = x.shape[dim] / chunks + (x.shape[dim] % chunks != 0);
  checkPieces(std::min(x.shape[dim], chunks));
  Shape sizes;
  for (int64_t begin = 0; begin < x.shape[dim]; begin += size)
    sizes.push_back(std::min(size, x.shape[dim] - begin));
  return {Value(pieces(call, x, dim, sizes))};
}

/// Into equal pieces, the first ones longer by one where that is not possible; or before each of the given positions.
Results splitAt(Call &call, int64_t dim, const Value *sections) {
  Tensor x = call.tensor("self");
  if (dim >= x.rank())
    throw ImportError("expects a tensor with dimension " + std::to_string(dim) + ", but got " + describe(x.shape));
  int64_t extent = x.shape[dim];
  Shape sizes;
  if (sections && !sections->isList()) {
    int64_t count = positive(asInteger(*sections, call.importer, "sections").value, "sections");
    checkPieces(count);
    for (int64_t i = 0; i < count; ++i)
      sizes.push_back(extent / count + (i < extent % count ? 1 : 0));
    return {Value(pieces(call, x, dim, sizes))};
  }
  int64_t begin = 0;
  Shape positions;
  for (const Value &position : (sections ? *sections : call.value("indices")).list())
    positions.push_back(asInteger(position, call.importer, "indices").value);
  positions.push_back(extent);
  for (int64_t position : positions) {
    int64_t end = std::clamp(position < 0 ? position + extent : position, begin, extent);
    sizes.push_back(end - begin);
    begin = end;
  }
  return {Value(pieces(call, x, dim, sizes))};
}

Results tensorSplit(Call &call) {
  int64_t dim = call.dim("dim", call.tensor("self").rank());
  if (const Value *given = call.find("tensor_indices_or_sections")) {
    Tensor numbers = call.tensorOrNumber(*given);
    if (!numbers.lazy)
      throw ImportError("splits at positions that depend on data; shapes must not");
    List list;
    for (double number : call.expressions.materialize(numbers.lazy))
      list.push_back(Integer{int64_t(number)});
    Value sections = numbers.rank() == 0 ? list[0] : Value(list);
    return splitAt(call, dim, &sections);
  }
  return splitAt(call, dim, call.find("sections"));
}

/// hsplit, vsplit, dsplit
template <int64_t where> Results splitDim(Call &call) {
  int64_t rank = call.tensor("self").rank();
  return splitAt(call, where == 1 && rank == 1 ? 0 : where, call.find("sections"));
}

Results unbind(Call &call) {
  Tensor x = call.tensor("self");
  int64_t dim = call.dim("dim", x.rank());
  List result;
  checkPieces(x.shape[dim]);
  for (Value &piece : pieces(call, x, dim, Shape(x.shape[dim], 1)))
    result.push_back(dropDim(call, piece.cell()->tensor, dim));
  return {Value(result)};
}

} // namespace

void galvatron::importer::addViewRules(RuleTable &table) {
  for (const char *name : {"aten::contiguous", "aten::alias", "aten::resolve_conj", "aten::resolve_neg", "aten::positive", "aten::requires_grad_", "aten::cpu"})
    table.add(name, same, RuleTable::View);
  table.add("aten::detach", detach, RuleTable::View);
  for (const char *name : {"aten::clone", "aten::lift_fresh"})
    table.add(name, same);
  for (const char *name : {"aten::view", "aten::reshape", "aten::_unsafe_view", "aten::view_as", "aten::reshape_as"})
    table.add(name, view, RuleTable::View);
  for (const char *name : {"aten::t", "aten::numpy_T", "aten::mT"})
    table.add(name, transposeMatrix, RuleTable::View);
  table.add("aten::flatten", flatten, RuleTable::View);
  table.add("aten::ravel", flatten, RuleTable::View);
  table.add("aten::unflatten", unflatten, RuleTable::View);
  table.add("aten::unsqueeze", unsqueeze, RuleTable::View);
  table.add("aten::squeeze", squeeze, RuleTable::View);
  table.add("aten::expand", expand, RuleTable::View);
  table.add("aten::expand_as", expand, RuleTable::View);
  table.add("aten::broadcast_to", expand, RuleTable::View);
  table.add("aten::transpose", transpose, RuleTable::View);
  table.add("aten::swapaxes", transpose, RuleTable::View);
  table.add("aten::permute", permute, RuleTable::View);
  table.add("aten::movedim", moveDim, RuleTable::View);
  table.add("aten::moveaxis", moveDim, RuleTable::View);
  table.add("aten::tensor_split", tensorSplit, RuleTable::View);
  table.add("aten::hsplit", splitDim<1>, RuleTable::View);
  table.add("aten::vsplit", splitDim<0>, RuleTable::View);
  table.add("aten::dsplit", splitDim<2>, RuleTable::View);
  table.add("aten::slice", slice, RuleTable::View);
  table.add("aten::narrow", narrow, RuleTable::View);
  table.add("aten::select", select, RuleTable::View);
  table.add("aten::split", split, RuleTable::View);
  table.add("aten::split_with_sizes", split, RuleTable::View);
  table.add("aten::chunk", chunk, RuleTable::View);
  table.add("aten::unbind", unbind, RuleTable::View);
}
