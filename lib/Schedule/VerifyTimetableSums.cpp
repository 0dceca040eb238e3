// What is added up in a step and over devices: gradients of parameters and of values, the loss, sums over the whole
// batch. See VerifyTimetable.h.
#include "StageProver.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace galvatron;

/// "mesh axes 0, 2".
static std::string wordsOf(StringRef one, StringRef several, ArrayRef<int64_t> numbers) {
  if (numbers.empty())
    return ("no " + one).str();
  std::string list = llvm::join(llvm::map_range(numbers, [](int64_t number) { return std::to_string(number); }), ", ");
  return ((numbers.size() == 1 ? one : several) + " " + list).str();
}

std::string galvatron::axesText(ArrayRef<int64_t> axes) { return wordsOf("mesh axis", "mesh axes", axes); }
std::string galvatron::stagesText(ArrayRef<int64_t> stages) { return wordsOf("stage", "stages", stages); }

//===--------------------------------------------------------------------===//
// Terms
//===--------------------------------------------------------------------===//

Content StageProver::newSum(Sum sum) {
  sums.push_back(std::move(sum));
  return {Content::Kind::Sum, nullptr, -1, int64_t(sums.size()) - 1};
}

StageProver::Sum *StageProver::findSum(Bytes bytes, Sum::Kind kind, const void *of, int64_t index, int64_t microBatch) {
  if (memory.isZero(bytes)) {
    Content content = newSum({kind, of, index, microBatch});
    memory.write(bytes, content, now);
    return &sums[content.index];
  }
  const Cell *cell = memory.find(bytes);
  if (!cell || cell->left != bytes || !cell->isWhole() || cell->content.kind != Content::Kind::Sum)
    return nullptr;
  Sum &sum = sums[cell->content.index];
  bool isIt = sum.kind == kind && sum.of == of && sum.index == index && sum.microBatch == microBatch;
  return isIt ? &sum : nullptr;
}

StageProver::Terms StageProver::termsOf(ArrayRef<const void *> uses) const {
  Terms terms;
  for (const void *use : uses)
    for (int64_t microBatch = 0; microBatch < microBatches; ++microBatch)
      terms.insert({use, microBatch});
  return terms;
}

LogicalResult StageProver::addTerm(Sum &sum, const Term &term, const llvm::Twine &what) {
  if (sum.isReducedOverAxes || sum.isReducedOverStages)
    return fail("expects no addition to " + what + " after it is reduced, but " + here() + " adds to it");
  if (!sum.terms.insert(term).second)
    return fail("expects each term of " + what + " once, but " + here() + " adds that of " + describe(term) + " again");
  return success();
}

LogicalResult StageProver::checkHasTerms(const Terms &terms, const Terms &expected, const llvm::Twine &what) const {
  for (const Term &term : expected)
    if (!terms.contains(term))
      return fail("expects " + what + " to be whole at " + here() + ", but the term of " + describe(term) +
                  " is not in it");
  return success();
}

LogicalResult StageProver::checkTerms(const Terms &terms, const Terms &expected, const llvm::Twine &what) const {
  if (failed(checkHasTerms(terms, expected, what)))
    return failure();
  // Terms are noted by the uses that are expected, so that there are no others.
  assert(terms.size() == expected.size() && "a term that the program does not have");
  return success();
}

LogicalResult StageProver::addParameterGradient(BufferReference reference, int64_t bytes, Call &call, size_t trained,
                                                bool adds, bool canWrite) {
  int parameter = call.parameters[call.trained[trained]];
  std::string what = "gradient of " + parameterName(parameter);
  FailureOr<Bytes> place = touch(reference, bytes, /*writes=*/true);
  if (failed(place))
    return failure();
  // One that ranks share, or that is reduced by parts, is wherever its reduction finds it.
  bool isAtHome =
      table.parameters[parameter].bucket < 0 && !model.parameters.at(parameterName(parameter)).reducesEveryMicroBatch;
  if (isAtHome && (reference.buffer != table.parameters[parameter].gradientBuffer || reference.offset))
    return fail("expects the " + what + " in its own buffer, but " + here() + " leaves it in " + nameOf(reference));
  Term term = {call.uses[trained], microBatch()};
  if (!adds) {
    if (!canWrite)
      return fail("expects @" + entry().getIf<Compute>()->function + " to add to the " + what +
                  ", for it cannot write it, but " + here() + " asks for that");
    Sum sum = {Sum::Kind::ParameterGradient, nullptr, parameter};
    sum.terms.insert(term);
    memory.write(*place, newSum(std::move(sum)), now);
    return success();
  }
  Sum *sum = findSum(*place, Sum::Kind::ParameterGradient, nullptr, parameter);
  if (!sum)
    return fail("expects the " + what + " to be written or zeroed before " + here() + " adds to it, but there is " +
                writerOf(memory.find(*place)));
  return addTerm(*sum, term, "the " + what);
}

LogicalResult StageProver::addGradients(Bytes bytes, const Sum &addend) {
  Sum *sum = findSum(bytes, addend.kind, addend.of, addend.index, addend.microBatch);
  std::string what = "the gradient of " + describe(Value::getFromOpaquePointer(addend.of)) + " micro-batch " +
                     std::to_string(addend.microBatch);
  if (!sum)
    return fail("expects " + here() + " to add to " + what + ", but there is " + writerOf(memory.find(bytes)));
  for (const Term &term : addend.terms)
    if (failed(addTerm(*sum, term, what)))
      return failure();
  return success();
}

LogicalResult StageProver::addLoss(const Accumulate &accumulate, Bytes bytes, Value value) {
  OpOperand *use = nullptr;
  for (OpOperand &operand : value.getUses())
    if (isa<dist::LossOp>(operand.getOwner()))
      use = &operand;
  auto loss =
      llvm::find_if(table.losses, [&](const StageLoss &other) { return other.buffer == accumulate.sum.buffer; });
  Attribute placement = cast<RankedTensorType>(value.getType()).getEncoding();
  if (!use || loss == table.losses.end() || loss->placement != placement)
    return fail("expects " + here() +
                " to add a term of the loss to the sum of those that are partial on its mesh axes, "
                "but it adds " +
                describe(value) + " to " + nameOf(accumulate.sum));
  Sum *sum = findSum(bytes, Sum::Kind::Loss, nullptr, loss - table.losses.begin());
  if (!sum)
    return fail("expects the loss to be zeroed before " + here() + " adds to it, but there is " +
                writerOf(memory.find(bytes)));
  return addTerm(*sum, {use, microBatch()}, "the loss");
}

LogicalResult StageProver::addTotal(Bytes bytes, const Content &part) {
  StringRef name = graph::TotalOp::getFromOpaquePointer(part.what).getCallee();
  Sum *sum = findSum(bytes, Sum::Kind::Total, part.what);
  if (!sum)
    return fail("expects " + name + " to be zeroed before " + here() + " adds to it, but there is " +
                writerOf(memory.find(bytes)));
  return addTerm(*sum, {part.what, part.microBatch}, name);
}

//===--------------------------------------------------------------------===//
// Reductions
//===--------------------------------------------------------------------===//

LogicalResult StageProver::reduceOverAxes(const RankGroup &group, ArrayRef<int64_t> axes, Sum &sum,
                                          const llvm::Twine &what) {
  std::vector<int64_t> expected(axes.begin(), axes.end()), joined = group.axes;
  llvm::sort(expected);
  llvm::sort(joined);
  if (sum.isReducedOverAxes)
    return fail("expects " + what + " to be reduced once over " + axesText(expected) + ", but " + here() +
                " does it again");
  if (joined != expected || !group.stages.empty())
    return fail("expects " + what + " to be reduced over " + axesText(expected) + ", on which it is partial, but " +
                here() + " does it over " + axesText(joined));
  sum.isReducedOverAxes = true;
  return success();
}

LogicalResult StageProver::reduceOverStages(const RankGroup &group, int parameter, Sum &sum) {
  const std::string name = parameterName(parameter);
  const std::vector<int64_t> &holders = model.parameters.at(name).stages;
  if (sum.isReducedOverStages)
    return fail("expects the gradient of tied " + name + " to be summed once over its stages, but " + here() +
                " does it again");
  if (!partialAxes[parameter].empty() && !sum.isReducedOverAxes)
    return fail("expects the gradient of tied " + name + " to be reduced over " + axesText(partialAxes[parameter]) +
                " before it is summed over stages, but " + here() + " comes first");
  if (group.stages != holders || !group.axes.empty())
    return fail("expects the gradient of tied " + name + " to be summed over " + stagesText(holders) +
                ", which hold it, but " + here() + " does it over " + stagesText(group.stages));
  sum.isReducedOverStages = true;
  return success();
}

std::vector<std::pair<int, Bytes>> StageProver::gradientsIn(Bytes bytes) const {
  std::vector<std::pair<int, Bytes>> gradients;
  for (auto [index, parameter] : llvm::enumerate(table.parameters))
    if (parameter.gradientBuffer >= 0 && placeOf(parameter.gradientBuffer).overlaps(bytes))
      gradients.push_back({index, placeOf(parameter.gradientBuffer)});
  if (!gradients.empty())
    return gradients;
  memory.allOf(bytes, [&](const Cell &cell) {
    if (isUnshardedGradient(cell.content))
      gradients.push_back({sums[cell.content.index].index, cell.written});
    return true;
  });
  return gradients;
}

/// What a reduction into pieces has read is still there, until something takes its place.
bool StageProver::isUnshardedGradient(const Content &content) const {
  return content.kind == Content::Kind::Sum && sums[content.index].kind == Sum::Kind::ParameterGradient &&
         table.parameters[sums[content.index].index].bucket < 0;
}

LogicalResult StageProver::reduceParameters(const AllReduce &reduce, Bytes bytes) {
  std::vector<std::pair<int, Bytes>> gradients = gradientsIn(bytes);
  for (auto &[parameter, place] : gradients) {
    if (!bytes.contains(place))
      return fail("expects " + here() + " to reduce all of the gradient of " + parameterName(parameter) +
                  ", but it reduces a piece");
    if (failed(reduceParameter(reduce, parameter, place)))
      return failure();
  }
  // What lies between gradients travels along and is read by nobody: at home nothing does, elsewhere it is lost.
  std::vector<Cell> foreign;
  memory.allOf(bytes, [&](const Cell &cell) {
    if (!isUnshardedGradient(cell.content))
      foreign.push_back(cell);
    return true;
  });
  bool isAtHome =
      gradients.empty() || placeOf(table.parameters[gradients.front().first].gradientBuffer).overlaps(bytes);
  if (gradients.empty() || (isAtHome && !foreign.empty()))
    return fail("expects " + here() + " to reduce gradients of parameters alone, but there is " +
                writerOf(foreign.empty() ? nullptr : &foreign.front()));
  if (!isAtHome && failed(touchTogether(reduce.buffer, reduce.count * 4)))
    return failure();
  for (const Cell &cell : foreign)
    if (cell.content.kind != Content::Kind::Zero) // of a micro-batch that has no term of a gradient
      memory.write({std::max(cell.left.begin, bytes.begin), std::min(cell.left.end, bytes.end)}, {}, now);
  return success();
}

LogicalResult StageProver::reduceParameter(const AllReduce &reduce, int parameter, Bytes place) {
  std::string what = "the gradient of " + parameterName(parameter);
  Sum *sum = findSum(place, Sum::Kind::ParameterGradient, nullptr, parameter);
  if (!sum)
    return fail("expects " + here() + " to find " + what + ", but there is " + writerOf(memory.find(place)));
  const RankGroup &group = table.groups[reduce.group];
  bool isOverAxes = group.stages.empty();
  // Each part is reduced by itself; whether all are there is seen before the sum over stages and the update.
  bool isPart = isOverAxes && model.parameters.at(parameterName(parameter)).reducesEveryMicroBatch;
  if (!isPart && failed(checkTerms(sum->terms, termsOf(parameterUses[parameter]), what)))
    return failure();
  return isOverAxes ? reduceOverAxes(group, partialAxes[parameter], *sum, what)
                    : reduceOverStages(group, parameter, *sum);
}

bool StageProver::isOfMicroBatch(Bytes bytes) const {
  const Cell *cell = memory.find(bytes);
  return cell && cell->content.kind == Content::Kind::Sum &&
         sums[cell->content.index].kind == Sum::Kind::ParameterGradient &&
         model.parameters.at(parameterName(sums[cell->content.index].index)).reducesEveryMicroBatch;
}

LogicalResult StageProver::addReduced(Bytes addend, Bytes target) {
  std::vector<Cell> cells;
  memory.allOf(target, [&](const Cell &cell) { return cells.push_back(cell), true; });
  for (const Cell &cell : cells) {
    if (cell.content.kind == Content::Kind::Nothing)
      continue; // between gradients
    Sum *sum = cell.content.kind == Content::Kind::Sum ? &sums[cell.content.index] : nullptr;
    if (!sum || sum->kind != Sum::Kind::ParameterGradient || !target.contains(cell.written) || !cell.isWhole())
      return fail("expects " + here() + " to add to gradients of parameters alone, but there is " + writerOf(&cell));
    int64_t begin = cell.left.begin - target.begin + addend.begin;
    Bytes place = {begin, begin + cell.left.end - cell.left.begin};
    if (memory.isZero(place)) {
      memory.write(place, {}, now);
      continue;
    }
    const Cell *found = memory.find(place);
    Sum *part = found ? findSum(place, Sum::Kind::ParameterGradient, nullptr, sum->index) : nullptr;
    std::string what = "the gradient of " + parameterName(sum->index);
    if (!part || part == sum)
      return fail("expects " + here() + " to add a part of " + what + ", but there is " + writerOf(found));
    for (const Sum *each : {part, sum})
      if (!each->isReducedOverAxes || each->isReducedOverStages)
        return fail("expects " + here() + " to add parts of " + what + " that are reduced over " +
                    axesText(partialAxes[sum->index]) + " alone, but one is not");
    for (const Term &term : part->terms)
      if (!sum->terms.insert(term).second)
        return fail("expects each term of " + what + " once, but " + here() + " adds that of " + describe(term) +
                    " again");
    // It has done its part; what is left of it is nobody's.
    memory.write(place, {}, now);
  }
  return success();
}

std::vector<int64_t> StageProver::axesOf(graph::TotalOp total) const {
  return meshAxesOf(cast<dist::PlacementAttr>(symbols.lookup<dist::LayerOp>(total.getCallee()).getOutputs()[0]));
}

LogicalResult StageProver::checkTotal(const Sum &sum) {
  auto total = graph::TotalOp::getFromOpaquePointer(sum.of);
  std::vector<int64_t> axes = axesOf(total);
  if (!axes.empty() && !sum.isReducedOverAxes)
    return fail("expects " + total.getCallee() + " over the whole batch at " + here() +
                ", but nothing has reduced it over " + axesText(axes));
  return checkTerms(sum.terms, termsOf({sum.of}), total.getCallee());
}

LogicalResult StageProver::readTotal(BufferReference reference, int64_t bytes, graph::TotalOp total) {
  FailureOr<Bytes> place = touch(reference, bytes, /*writes=*/false);
  if (failed(place))
    return failure();
  Sum *sum = findSum(*place, Sum::Kind::Total, total.getAsOpaquePointer());
  if (!sum)
    return fail("expects " + here() + " to find " + total.getCallee() + " in " + nameOf(reference) + ", but there is " +
                writerOf(memory.find(*place)));
  ++proof.reads;
  return checkTotal(*sum);
}

//===--------------------------------------------------------------------===//
// The end of the step
//===--------------------------------------------------------------------===//

LogicalResult StageProver::finishParameter(int parameter) {
  std::string name = parameterName(parameter);
  const ModelParameter &expected = model.parameters.at(name);
  bool isShared = table.parameters[parameter].bucket >= 0;
  int buffer = table.parameters[parameter].gradientBuffer;
  if (!expected.isTrained && buffer < 0)
    return success();
  Sum *sum = buffer < 0 ? nullptr : findGradient(parameter);
  if (!sum || !expected.isTrained || !table.parameters[parameter].trained)
    return fail("expects the update to find a gradient for exactly what is trained, but for " + name + " on stage " +
                llvm::Twine(table.stage) + " there is " +
                (buffer < 0 ? "none" : writerOf(memory.find(placeOf(buffer)))));
  Terms terms = termsOf(parameterUses[parameter]);
  if (failed(isShared ? checkHasTerms(sum->terms, terms, "the gradient of " + name)
                      : checkTerms(sum->terms, terms, "the gradient of " + name)))
    return failure();
  if (!partialAxes[parameter].empty() && !sum->isReducedOverAxes)
    return fail("expects the gradient of " + name + " to be reduced over " + axesText(partialAxes[parameter]) +
                ", on which it is partial, before the update, but no entry of stage " + llvm::Twine(table.stage) +
                " does it");
  if (expected.stages.size() > 1 && !sum->isReducedOverStages)
    return fail("expects the gradient of tied " + name + " to be summed over " + stagesText(expected.stages) +
                " before the update, but no entry of stage " + llvm::Twine(table.stage) + " does it");
  ++proof.gradients;
  proof.reducedOverAxes += sum->isReducedOverAxes;
  proof.reducedOverStages += sum->isReducedOverStages;
  return success();
}

LogicalResult StageProver::finishLosses() {
  SmallVector<std::pair<const void *, Attribute>> terms;
  for (auto op : stage.getBody().front().getOps<dist::LossOp>())
    terms.push_back({&op->getOpOperand(0), cast<RankedTensorType>(op.getX().getType()).getEncoding()});
  size_t added = 0;
  for (auto [index, loss] : llvm::enumerate(table.losses)) {
    SmallVector<const void *> uses;
    for (auto &[use, placement] : terms)
      if (placement == loss.placement)
        uses.push_back(use);
    Bytes place = placeOf(loss.buffer);
    Sum *sum = findSum({place.begin, place.begin + 4}, Sum::Kind::Loss, nullptr, index);
    if (failed(checkTerms(sum ? sum->terms : Terms(), termsOf(uses), "the loss")))
      return failure();
    added += uses.size();
  }
  if (added != terms.size())
    return fail("expects each term of the loss in one sum, but of " + llvm::Twine(terms.size()) + " terms of stage " +
                llvm::Twine(table.stage) + " sums have " + llvm::Twine(added));
  proof.lossTerms += added * microBatches;
  return success();
}

LogicalResult StageProver::finishTotals() {
  std::vector<int> buffers = table.totals;
  for (auto total : stage.getBody().front().getOps<graph::TotalOp>()) {
    Sum *sum = nullptr;
    for (int buffer : buffers)
      if (!sum)
        sum = findSum(placeOf(buffer), Sum::Kind::Total, total.getAsOpaquePointer());
    if (!sum)
      return fail("expects the end of the step to find " + total.getCallee() + ", but stage " +
                  llvm::Twine(table.stage) + " has it nowhere");
    if (failed(checkTotal(*sum)))
      return failure();
    ++proof.totals;
  }
  return success();
}
