// Dispatch of calls to rules, in-place semantics, and the tensor helpers that rules share: each does
// the same to an expression and to an IR value.
#include "Importer.h"

#include "Labels.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/Support/xxhash.h"

using namespace galvatron;
using namespace galvatron::importer;
using llvm::ArrayRef;
using llvm::SmallVector;
using llvm::StringLiteral;
using llvm::StringRef;

std::string Source::describe() const {
  std::string text = path.empty() ? "the top module" : path;
  if (!file.empty())
    text += " (" + file + ":" + std::to_string(line) + ")";
  return text;
}

const RuleTable::Entry *RuleTable::find(StringRef op) const {
  auto it = rules.find(op);
  return it == rules.end() ? nullptr : &it->second;
}

Importer::Importer(mlir::MLIRContext &context, int64_t batch, int64_t seq, bool isPacked)
    : context(context), builder(&context), batch(batch), seq(seq), isPacked(isPacked) {
  SmallVector<Input> inputs;
  for (std::string_view name : llvm::ArrayRef(graph::kInputNames).take_front(isPacked ? 4 : 2))
    inputs.push_back({std::string(name), ElementType::Int64, {batch, seq}});
  createStep(inputs);
  if (isPacked)
    (*theModule)->setAttr(graph::kPackedAttr, builder.getUnitAttr());
}

Importer::Importer(mlir::MLIRContext &context, int64_t batch, int64_t seq, ArrayRef<Input> inputs)
    : context(context), builder(&context), batch(batch), seq(seq), isPacked(false) {
  createStep(inputs);
  auto described = llvm::map_to_vector(inputs, [&](const Input &input) -> mlir::Attribute {
    return builder.getDictionaryAttr(builder.getNamedAttr(graph::kInputNameKey, builder.getStringAttr(input.name)));
  });
  (*theModule)->setAttr(graph::kInputsAttr, builder.getArrayAttr(described));
}

void Importer::addRules() {
  addActivationRules(rules), addFunctionRules(rules), addScatterRules(rules), addStatisticsRules(rules);
  addAttentionRules(rules), addConvolutionRules(rules), addCreationRules(rules), addElementwiseRules(rules),
      addIndexingRules(rules);
  addLossRules(rules), addNormalizationRules(rules), addProductRules(rules), addReductionRules(rules);
  addJoiningRules(rules), addScalarRules(rules), addViewRules(rules);
}

void Importer::createStep(ArrayRef<Input> inputs) {
  addRules();
  auto unknown = builder.getUnknownLoc();
  theModule = mlir::ModuleOp::create(unknown);
  (*theModule)->setAttr(graph::kBatchAttr, builder.getI64IntegerAttr(batch));
  (*theModule)->setAttr(graph::kSeqAttr, builder.getI64IntegerAttr(seq));
  builder.setInsertionPointToEnd(theModule->getBody());
  SmallVector<mlir::Type> types;
  for (const Input &input : inputs) {
    types.push_back(emitter.type(input.type, input.shape));
    inputTypes.push_back(input.type);
  }
  auto function = mlir::func::FuncOp::create(builder, unknown, "step",
                                             builder.getFunctionType(types, {emitter.type(ElementType::Float32, {})}));
  builder.setInsertionPointToStart(function.addEntryBlock());
  for (auto [argument, input] : llvm::zip_equal(function.getArguments(), inputs))
    argument.setLoc(mlir::NameLoc::get(builder.getStringAttr(input.name)));
}

Value Importer::input(unsigned number) {
  mlir::Value argument = builder.getInsertionBlock()->getArgument(number);
  return Tensor::of(number == 1 && movedLabels ? movedLabels : argument, inputTypes[number]);
}

void Importer::moveLabels() {
  movedLabels = importer::moveLabels(builder, builder.getInsertionBlock()->getArgument(1));
  (*theModule)->setAttr(graph::kNextLabelsAttr, builder.getUnitAttr());
}

Value Importer::parameter(ArrayRef<std::string> names, ShapeRef shape, ElementType type, mlir::DictionaryAttr init,
                          bool frozen) {
  SmallVector<StringRef> references(names.begin(), names.end());
  emitter.location = location({StringRef(names[0]).rsplit('.').first.str(), "", 0});
  mlir::Value value = graph::ParameterOp::create(builder, emitter.location, emitter.type(type, shape),
                                                 builder.getStrArrayAttr(references), init, frozen);
  auto cell = std::make_shared<Cell>();
  cell->tensor = Tensor::of(value, type);
  cell->isParameter = true;
  return cell;
}

mlir::Location Importer::location(const Source &source) {
  mlir::Location inner = builder.getUnknownLoc();
  if (!source.file.empty())
    inner = mlir::FileLineColLoc::get(&context, source.file, source.line, 0);
  return mlir::NameLoc::get(builder.getStringAttr(source.path), inner);
}

/// Operators whose result's size only their operand's values tell: no rule can be added for them.
static bool hasDataDependentShape(StringRef op) {
  return llvm::StringSwitch<bool>(op)
      .Cases({"aten::nonzero", "aten::nonzero_numpy", "aten::argwhere", "aten::masked_select"}, true)
      .Cases({"aten::_unique", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive"}, true)
      .Default(false);
}

SmallVector<Value, 1> Importer::call(StringRef op, ArrayRef<Argument> arguments, const Source &source) {
  const RuleTable::Entry *entry = rules.find(op);
  // `mul_` is `mul`, `__iand__` is `__and__`.
  std::string written;
  if (!entry && op.starts_with("aten::__i") && op.ends_with("__"))
    written = "aten::__" + op.drop_front(StringRef("aten::__i").size()).str();
  else if (!entry && op.ends_with("_") && !op.ends_with("__"))
    written = op.drop_back().str();
  bool inPlace = !written.empty();
  if (inPlace)
    entry = rules.find(written);
  if (!entry && hasDataDependentShape(op))
    throw ImportError(
        "unsupported operator " + op.str() + " in " + source.describe() +
        ": its result has a shape that depends on data; compute with a mask instead, for example with where");
  if (!entry)
    throw ImportError("unsupported operator " + op.str() + " in " + source.describe() +
                      "; write it with supported ones, or add a rule for it to lib/Import");
  emitter.location = location(source);
  Call call(*this, inPlace ? StringRef(written) : op, arguments, source);
  try {
    if (inPlace)
      return callInPlace(op, *entry, call);
    SmallVector<Value, 1> results = entry->rule(call);
    if (entry->kind == RuleTable::View && !arguments.empty() && arguments[0].value.isTensor())
      makeView(*entry, call, results.size() == 1 ? results[0] : Value(List(results.begin(), results.end())));
    return results;
  } catch (const ImportError &error) {
    throw ImportError(op.str() + " in " + source.describe() + ": " + error.what());
  } catch (const std::bad_variant_access &) {
    throw ImportError(op.str() + " in " + source.describe() +
                      ": got an argument of a kind that is unsupported (such as a text, or a list)");
  } catch (const std::exception &error) { // of the standard library: a length or a position beyond bounds
    throw ImportError(op.str() + " in " + source.describe() + ": cannot be computed (" + error.what() + ")");
  }
}

/// What becomes of `base` when the part of it that a call of a view operator shows has new content; null where that is
/// not known: of a reshape it may be a copy that is written, of an expansion several elements share memory.
static std::function<Tensor(const Tensor &, const Tensor &)> putBackOf(Call &call, Importer &importer) {
  StringRef op = call.op;
  auto sameElements = [&importer](const Tensor &base, const Tensor &view) {
    return importer.reshape(view, base.shape);
  };
  if (llvm::is_contained({"aten::view", "aten::unsqueeze", "aten::squeeze", "aten::alias", "aten::view_as"}, op))
    return sameElements;
  Shape base = call.tensor(call.arguments[0].name).shape;
  int64_t rank = base.size();
  if (op == "aten::transpose" || op == "aten::swapaxes" || op == "aten::permute" || op == "aten::t" ||
      op == "aten::mT") {
    SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq<int64_t>(0, rank)), inverse(rank);
    if (op == "aten::permute")
      permutation = call.dims("dims", rank);
    else if (call.has("dim0"))
      std::swap(permutation[call.dim("dim0", rank)], permutation[call.dim("dim1", rank)]);
    else if (rank >= 2)
      std::swap(permutation[rank - 1], permutation[rank - 2]);
    for (auto [to, from] : llvm::enumerate(permutation))
      inverse[from] = to;
    return [&importer, inverse](const Tensor &, const Tensor &view) { return importer.transpose(view, inverse); };
  }
  if (op != "aten::select" && op != "aten::slice" && op != "aten::narrow")
    return nullptr;
  // A range of one dimension: what lies before and after it stays.
  int64_t dim = call.dim("dim", rank), extent = base[dim], begin = 0, step = call.integer("step", 1);
  begin = op == "aten::select" ? call.integer("index") : call.integer("start", 0);
  begin = std::clamp<int64_t>(begin < 0 ? begin + extent : begin, 0, extent);
  if (step != 1 && (extent % step != 0 || begin >= step))
    return nullptr;
  return [&importer, base, dim, extent, begin, step](const Tensor &old, const Tensor &view) {
    // With a step: runs of its length, of each of which one element is new.
    Shape runs = base;
    int64_t at = dim;
    if (step != 1) {
      runs[dim] = extent / step;
      runs.insert(runs.begin() + dim + 1, step);
      at = dim + 1;
    }
    Tensor whole = importer.reshape(old, runs);
    Shape middle = runs;
    middle[at] = numElements(view.shape) / std::max<int64_t>(numElements(runs) / runs[at], 1);
    if (middle[at] == 0)
      return old;
    auto piece = [&](int64_t from, int64_t to) {
      Shape shape = runs, offsets(runs.size(), 0);
      shape[at] = to - from;
      offsets[at] = from;
      return importer.slice(whole, offsets, shape);
    };
    SmallVector<Tensor, 3> parts;
    if (begin > 0)
      parts.push_back(piece(0, begin));
    parts.push_back(importer.reshape(view, middle));
    if (int64_t end = begin + middle[at]; end < runs[at])
      parts.push_back(piece(end, runs[at]));
    return importer.reshape(importer.concat(parts, at), base);
  };
}

/// The results of a view operator share their operand's memory.
void Importer::makeView(const RuleTable::Entry &entry, Call &call, const Value &results) {
  std::shared_ptr<Cell> base = call.arguments[0].value.cell();
  // Torch does not allow writes to one of several views.
  std::function<Tensor(const Tensor &, const Tensor &)> putBack = results.isTensor() ? putBackOf(call, *this) : nullptr;
  bool isKnown = putBack || call.op == "aten::detach" || call.op == "aten::expand";
  auto share = [&](auto &self, const Value &value) -> void {
    if (value.isList()) {
      for (const Value &element : value.list())
        self(self, element);
      return;
    }
    if (!value.isTensor() || value.cell()->tensor.type != base->tensor.type)
      return;
    Cell &view = *value.cell();
    view.storage = base->storage;
    view.seen = *base->storage;
    view.isParameter = base->isParameter;
    view.base = base;
    view.putBack = putBack;
  };
  share(share, results);
  if (!isKnown || !results.isTensor() || results.cell()->base != base)
    return;
  // The operator again, on what the base is by then.
  std::vector<Argument> arguments(call.arguments.begin(), call.arguments.end());
  std::string op = call.op.str();
  Source source = call.source;
  results.cell()->look = [this, rule = entry.rule, arguments, op, source](const Tensor &now) mutable {
    arguments[0].value = Value(now);
    Call again(*this, op, arguments, source);
    return rule(again)[0].cell()->tensor;
  };
}

/// `x.op_(…)` computes x.op(…) and makes it the new content of x's memory.
SmallVector<Value, 1> Importer::callInPlace(StringRef op, const RuleTable::Entry &entry, Call &call) {
  if (call.arguments.empty() || !call.arguments[0].value.isTensor())
    throw ImportError("expects a tensor to write to, but got a list or a number; make a new one instead");
  std::shared_ptr<Cell> cell = call.arguments[0].value.cell();
  if (cell->isParameter)
    throw ImportError("writes to a parameter in the forward pass; only the optimizer may");
  Value result = entry.rule(call)[0];
  int time = *cell->storage + 1;
  write(*cell, expand(convert(result.cell()->tensor, cell->tensor.type), cell->tensor.shape), time);
  *cell->storage = time;
  return {Value(cell)};
}

/// Everything up to where it is not known how a view lies in its base is up to date afterwards.
void Importer::write(Cell &cell, const Tensor &content, int time) {
  if (cell.base && cell.putBack)
    write(*cell.base, cell.putBack(read(*cell.base), content), time);
  cell.tensor = content;
  cell.seen = time;
}

Tensor Importer::read(const Cell &cell) const {
  if (cell.seen == *cell.storage)
    return cell.tensor;
  if (!cell.base || !cell.look)
    throw ImportError("reads memory that an in-place operator changed through another view; use the "
                      "out-of-place form of that operator");
  return cell.look(read(*cell.base));
}

int64_t Importer::dropoutId(const Source &source) {
  std::string name = source.path + "." + std::to_string(dropouts[source.path]++);
  return int64_t(llvm::xxh3_64bits(name) & 0x7fffffff);
}

/// Detaching what depends on no trained parameter says nothing, and would hide masks and tables from the raising
/// passes.
static void eraseDetachedData(mlir::Block &body) {
  llvm::DenseSet<mlir::Value> trained;
  for (mlir::Operation &op : llvm::make_early_inc_range(body)) {
    auto parameter = llvm::dyn_cast<graph::ParameterOp>(op);
    bool isTrained = (parameter && !parameter.getFrozen()) ||
                     llvm::any_of(op.getOperands(), [&](mlir::Value operand) { return trained.contains(operand); });
    if (auto detach = llvm::dyn_cast<graph::DetachOp>(op)) {
      if (isTrained)
        continue;
      detach.replaceAllUsesWith(detach.getX());
      detach.erase();
    } else if (isTrained) {
      trained.insert(op.result_begin(), op.result_end());
    }
  }
}

mlir::OwningOpRef<mlir::ModuleOp> Importer::finish(const Value &loss) {
  if (!loss.isTensor())
    throw ImportError("expects the module to return the mean loss, but it returns no tensor; return the loss alone");
  const Tensor &tensor = read(*loss.cell());
  if (!isFloat(tensor.type) || numElements(tensor.shape) != 1)
    throw ImportError("expects the module to return a scalar mean loss, but got " +
                      std::string(importer::describe(tensor.type)) + " " + importer::describe(tensor.shape) +
                      "; average it over the tokens");
  if (tensor.lazy)
    throw ImportError("the loss depends on neither inputs nor parameters; check the module's forward");
  mlir::Value value = force(reshape(convert(tensor, ElementType::Float32), {}));
  mlir::func::ReturnOp::create(builder, builder.getUnknownLoc(), value);
  mlir::Block *body = builder.getInsertionBlock();
  eraseDetachedData(*body);
  // Whatever else data are, labels are what they are to be: nobody shifts them.
  if (!(*theModule)->hasAttr(graph::kInputsAttr))
    warnings =
        checkLabels(llvm::cast<mlir::func::FuncOp>(body->getParentOp()), movedLabels, isPacked, areLabelsCounted);
  if (areLabelsCounted)
    (*theModule)->setAttr(graph::kCountsLabelsAttr, builder.getUnitAttr());
  for (mlir::Operation &op : llvm::make_early_inc_range(llvm::reverse(*body)))
    if (mlir::isOpTriviallyDead(&op))
      op.erase();
  auto parameters = body->getOps<graph::ParameterOp>();
  auto trains = [](graph::ParameterOp parameter) { return !parameter.getFrozen() && !parameter.use_empty(); };
  if (!parameters.empty() && llvm::none_of(parameters, trains))
    throw ImportError(
        "there is nothing to train: the loss depends on no parameter with requires_grad; let at least one "
        "of those that it reads have it");
  mlir::PassManager passes(&context);
  passes.addPass(mlir::createCSEPass()); // constants and iotas that several ops share
  std::string why;
  mlir::ScopedDiagnosticHandler handler(
      &context, [&](mlir::Diagnostic &diagnostic) { why = why.empty() ? diagnostic.str() : why; });
  if (mlir::failed(mlir::verify(*theModule)) || mlir::failed(passes.run(*theModule)))
    throw ImportError("the imported program does not verify (" + why + "); this is a bug of the importer");
  return std::move(theModule);
}

//===----------------------------------------------------------------------===//
// Tensor helpers
//===----------------------------------------------------------------------===//

mlir::Value Importer::force(const Tensor &x) {
  if (numElements(x.shape) == 0)
    throw ImportError("computes with an empty tensor " + describe(x.shape) + ", which is unsupported");
  return x.lazy ? emitter.emit(x.lazy) : x.data;
}

Tensor Importer::convert(const Tensor &x, ElementType type) {
  if (x.type == type)
    return x;
  if (x.lazy)
    return Tensor::of(expressions.convert(x.lazy, type));
  // Tokens and labels fit int32 whatever a module casts them to.
  if (auto narrowed = x.data.getDefiningOp<mlir::arith::TruncIOp>(); narrowed && x.type == ElementType::Int32 &&
                                                                     type == ElementType::Int64 &&
                                                                     llvm::isa<mlir::BlockArgument>(narrowed.getIn()))
    return Tensor::of(narrowed.getIn(), type);
  return Tensor::of(emitter.convert(x.data, x.type, type), type);
}

Shape galvatron::importer::commonShape(ArrayRef<ShapeRef> shapes) {
  if (std::optional<Shape> shape = broadcastShapes(shapes))
    return *shape;
  auto texts = llvm::map_range(shapes, [](ShapeRef shape) { return importer::describe(shape); });
  throw ImportError("operands do not broadcast: " + llvm::join(texts, " with "));
}

Tensor Importer::expand(const Tensor &x, ShapeRef shape) {
  if (ShapeRef(x.shape) == shape)
    return x;
  checkShape(shape);
  auto common = broadcastShapes({ShapeRef(x.shape), shape});
  if (!common || ShapeRef(*common) != shape)
    throw ImportError("cannot broadcast " + describe(x.shape) + " to " + describe(shape));
  if (x.lazy)
    return Tensor::of(expressions.expand(x.lazy, shape));
  return Tensor::of(emitter.broadcast(x.data, shape), x.type);
}

Tensor Importer::reshape(const Tensor &x, ShapeRef shape) {
  checkShape(shape);
  if (numElements(shape) != numElements(x.shape))
    throw ImportError("cannot view " + describe(x.shape) + " as " + describe(shape));
  if (x.lazy)
    if (ExpressionRef result = expressions.reshape(x.lazy, shape))
      return Tensor::of(result);
  return Tensor::of(emitter.reshape(force(x), shape), x.type);
}

Tensor Importer::transpose(const Tensor &x, ArrayRef<int64_t> permutation) {
  SmallVector<int64_t> sorted(permutation);
  llvm::sort(sorted);
  if (!llvm::equal(sorted, llvm::seq<int64_t>(0, x.rank())))
    throw ImportError("expects the dimensions of " + describe(x.shape) + " in another order, but got " +
                      describe(permutation));
  if (!x.lazy)
    return Tensor::of(emitter.transpose(x.data, permutation), x.type);
  View view;
  view.indices.resize(permutation.size());
  for (auto [result, source] : llvm::enumerate(permutation)) {
    view.shape.push_back(x.shape[source]);
    view.indices[source].terms.push_back({unsigned(result), 1});
  }
  return Tensor::of(expressions.view(x.lazy, view));
}

/// Integers joined with a constant and cut to their old extent are moved: labels[:, 1:] of labels padded
/// by one ignored label. As `graph.shift`, cross-entropy knows how many labels count.
static mlir::Value shiftInsteadOfSlice(Emitter &emitter, mlir::Value x, ShapeRef begin, ShapeRef shape) {
  auto concat = x.getDefiningOp<graph::ConcatOp>();
  if (!concat || concat.getInputs().size() != 2 || !mlir::getElementTypeOrSelf(concat.getType()).isInteger())
    return {};
  int64_t dim = concat.getDim();
  for (unsigned i : {0, 1}) {
    mlir::Value kept = concat.getInputs()[i];
    mlir::DenseElementsAttr fill;
    if (ShapeRef(shapeOf(kept)) != shape || !matchPattern(concat.getInputs()[1 - i], mlir::m_Constant(&fill)) ||
        !fill.isSplat())
      continue;
    int64_t offset = begin[dim] - (i == 0 ? 0 : shapeOf(concat.getInputs()[0])[dim]);
    return graph::ShiftOp::create(emitter.builder, emitter.location, kept.getType(), kept, uint64_t(dim),
                                  uint64_t(offset), uint64_t(fill.getSplatValue<llvm::APInt>().getSExtValue()));
  }
  return {};
}

Tensor Importer::slice(const Tensor &x, ShapeRef begin, ShapeRef shape) {
  bool isInside = begin.size() == x.shape.size() && shape.size() == x.shape.size();
  for (size_t d = 0; isInside && d < shape.size(); ++d)
    isInside = begin[d] >= 0 && shape[d] >= 0 && shape[d] <= x.shape[d] && begin[d] <= x.shape[d] - shape[d];
  if (!isInside)
    throw ImportError("expects elements of " + describe(x.shape) + ", but got " + describe(shape) + " from " +
                      describe(begin) + " on");
  if (ShapeRef(x.shape) == shape)
    return x;
  if (!x.lazy) {
    mlir::Value shifted = shiftInsteadOfSlice(emitter, x.data, begin, shape);
    return Tensor::of(shifted ? shifted : emitter.slice(x.data, begin, shape), x.type);
  }
  View view;
  view.shape.assign(shape.begin(), shape.end());
  for (auto [d, offset] : llvm::enumerate(begin)) {
    View::Index index{offset, {}};
    index.terms.push_back({unsigned(d), 1});
    view.indices.push_back(index);
  }
  return Tensor::of(expressions.view(x.lazy, view));
}

Tensor Importer::concat(ArrayRef<Tensor> given, int64_t dim) {
  for (const Tensor &part : given) {
    Shape shape = part.shape, first = given[0].shape;
    if (dim < 0 || dim >= part.rank() || dim >= given[0].rank() || (shape[dim] = 0, first[dim] = 0, shape != first))
      throw ImportError("expects tensors that differ along dimension " + std::to_string(dim) + " at most, but got " +
                        describe(given[0].shape) + " and " + describe(part.shape));
  }
  SmallVector<Tensor> parts;
  for (const Tensor &part : given)
    if (part.shape[dim] != 0 || (parts.empty() && &part == &given.back()))
      parts.push_back(part);
  if (parts.size() == 1)
    return parts[0];
  SmallVector<ExpressionRef> lazy;
  SmallVector<mlir::Value> data;
  for (const Tensor &part : parts)
    if (part.lazy)
      lazy.push_back(part.lazy);
  if (lazy.size() == parts.size())
    if (ExpressionRef result = expressions.concat(lazy, dim))
      return Tensor::of(result);
  for (const Tensor &part : parts)
    data.push_back(force(part));
  return Tensor::of(emitter.concat(data, dim), parts[0].type);
}

Tensor Importer::elementwise(Operator op, ArrayRef<Tensor> given, ElementType operandType, ElementType type) {
  SmallVector<ShapeRef> shapes;
  for (const Tensor &operand : given)
    shapes.push_back(operand.shape);
  Shape shape = commonShape(shapes);
  if (numElements(shape) == 0)
    return Tensor::of(expressions.splat(type, shape, 0));
  SmallVector<Tensor, 3> operands;
  for (auto [i, operand] : llvm::enumerate(given))
    operands.push_back(convert(operand, op == Operator::Convert            ? operand.type
                                        : op == Operator::Select && i == 0 ? ElementType::Bool
                                                                           : operandType));
  if (llvm::all_of(operands, [](const Tensor &x) { return x.lazy; })) {
    SmallVector<ExpressionRef, 3> lazy;
    for (const Tensor &operand : operands)
      lazy.push_back(operand.lazy);
    return Tensor::of(expressions.elementwise(op, lazy, type));
  }
  auto isNumber = [&](size_t i, double value) { return operands[i].lazy && operands[i].lazy->isSplat(value); };
  if (operands.size() == 2 && type == operandType && !isComparison(op)) {
    bool addition = op == Operator::Add || op == Operator::Subtract;
    bool product = op == Operator::Multiply || (op == Operator::Divide);
    if ((addition && isNumber(1, 0)) || (product && isNumber(1, 1)))
      return expand(operands[0], shape);
    if ((op == Operator::Add && isNumber(0, 0)) || (op == Operator::Multiply && isNumber(0, 1)))
      return expand(operands[1], shape);
  }
  if (op == Operator::Select && operands[0].lazy) {
    if (operands[0].lazy->isSplat())
      return expand(operands[operands[0].lazy->constant != 0 ? 1 : 2], shape);
    // Masked elements take the number, so the number stands second: one form for raise-attention.
    if (operands[1].lazy && !operands[2].lazy) {
      operands[0] = Tensor::of(expressions.logicalNot(operands[0].lazy));
      std::swap(operands[1], operands[2]);
    }
  }
  SmallVector<mlir::Value, 3> values;
  for (const Tensor &operand : operands)
    values.push_back(force(expand(operand, shape)));
  return Tensor::of(emitter.elementwise(op, values, operandType, type), type);
}
