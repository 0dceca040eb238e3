// States that ranks share (ZeRO): each element of a list is in one rank's piece; what bodies read is gathered after the
// last update, and gradients are reduced into pieces, over exactly the ranks that share. See VerifyTimetable.h.
//
// One walk stands for all ranks of a stage: they differ only in which piece is theirs, so a piece is an own kind of
// content, and the whole list becomes values of parameters by a gather alone.
#include "StageProver.h"

#include "llvm/ADT/STLExtras.h"

using namespace mlir;
using namespace galvatron;

static std::vector<int64_t> sorted(std::vector<int64_t> numbers) {
  llvm::sort(numbers);
  return numbers;
}

//===--------------------------------------------------------------------===//
// What there is
//===--------------------------------------------------------------------===//

SmallVector<int> StageProver::parametersIn(int bucket) const {
  SmallVector<int> parameters;
  for (auto [index, parameter] : llvm::enumerate(table.parameters))
    if (parameter.bucket == bucket)
      parameters.push_back(index);
  llvm::sort(parameters,
             [&](int a, int b) { return table.parameters[a].bucketOffset < table.parameters[b].bucketOffset; });
  return parameters;
}

LogicalResult StageProver::checkShared(const StageParameter &parameter) {
  const std::string &name = parameter.names.front();
  auto expected = model.parameters.find(name);
  bool isShared = expected != model.parameters.end() && expected->second.isShared();
  if (isShared != (parameter.bucket >= 0))
    return fail("expects ranks of " + stageName() + (isShared ? " to share" : " not to share") + " the states of " +
                name + ", as the zero of its layers says, but they do" + (isShared ? " not" : ""));
  if (!isShared)
    return success();
  const StateBucket &bucket = table.buckets[parameter.bucket];
  if (bucket.level != expected->second.zero)
    return fail("expects zero " + llvm::Twine(expected->second.zero) + " of " + name + ", but " + stageName() +
                " has " + llvm::Twine(bucket.level));
  if (sorted(bucket.axes) != expected->second.partialAxes)
    return fail("expects the states of " + name + " to be shared along " + axesText(expected->second.partialAxes) +
                ", on which its gradient is partial, but " + stageName() + " does it along " + axesText(bucket.axes));
  if (parameter.parameterBuffer != bucket.parameterBuffer || parameter.copyBuffer != bucket.copyBuffer ||
      parameter.firstMomentBuffer != bucket.firstMomentBuffer ||
      parameter.secondMomentBuffer != bucket.secondMomentBuffer || parameter.gradientBuffer != bucket.gradientBuffer)
    return fail("expects the states of " + name + " in the buffers of the list that it is in, " + bucket.path +
                ", but on " + stageName() + " they are elsewhere");
  return success();
}

LogicalResult StageProver::checkPieces(const StateBucket &bucket) {
  int64_t ranks = 1;
  for (int64_t axis : bucket.axes)
    ranks *= model.mesh[axis];
  std::string owner = "expects one owner of each element of the states of " + bucket.path + " on " + stageName() + ", ";
  if (bucket.ranks != ranks)
    return fail(owner + "but of the " + llvm::Twine(ranks) + " ranks along " + axesText(bucket.axes) + " " +
                llvm::Twine(bucket.ranks) + " have pieces");
  const StageParameter *before = nullptr;
  for (int index : parametersIn(&bucket - table.buckets.data())) {
    const StageParameter &parameter = table.parameters[index];
    const std::string &name = parameter.names.front();
    int64_t begin = parameter.bucketOffset, end = begin + countOf(parameter);
    if (before && before->bucketOffset + countOf(*before) > begin)
      return fail(owner + "but " + name + " begins at element " + llvm::Twine(begin) + ", which is of " +
                  before->names.front());
    if (begin < 0 || end > ranks * bucket.pieceElements())
      return fail(owner + "but " + name + " ends at element " + llvm::Twine(end) + " and the last piece at element " +
                  llvm::Twine(ranks * bucket.pieceElements()));
    before = &parameter;
  }
  return success();
}

LogicalResult StageProver::layOutBuckets() {
  using Kind = Content::Kind;
  for (auto [index, bucket] : llvm::enumerate(table.buckets)) {
    if (failed(checkPieces(bucket)))
      return failure();
    int64_t piece = bucket.pieceElements(), whole = piece * bucket.ranks;
    for (auto [buffer, kind, bytes] :
         {std::tuple(bucket.parameterBuffer, bucket.isWhole() ? Kind::StaleParameters : Kind::ParameterPiece,
                     (bucket.isWhole() ? whole : piece) * 4),
          {bucket.copyBuffer, bucket.isCopyWhole() ? Kind::StaleCopies : Kind::CopyPiece,
           (bucket.isCopyWhole() ? whole : piece) * 2},
          {bucket.firstMomentBuffer, Kind::FirstMomentPiece, piece * 4},
          {bucket.secondMomentBuffer, Kind::SecondMomentPiece, piece * 4}})
      if (failed(layOut(buffer, bytes, {kind, nullptr, -1, int64_t(index)})))
        return failure();
    ++proof.lists;
  }
  return success();
}

/// The pieces of ranks lie in the order in which the group numbers these, the last axis fastest.
LogicalResult StageProver::checkRanks(const RankGroup &group, const StateBucket &bucket) {
  if (group.axes != bucket.axes || !group.stages.empty())
    return fail("expects " + here() + " to join the ranks along " + axesText(bucket.axes) +
                ", which share the states of " + bucket.path + " in this order, but it does along " +
                axesText(group.axes));
  return success();
}

//===--------------------------------------------------------------------===//
// Gradients
//===--------------------------------------------------------------------===//

/// What lies between gradients, and where one is zeroed, may be left of another list.
int StageProver::findScattered(Bytes bytes) const {
  int bucket = -1;
  memory.allOf(bytes, [&](const Cell &cell) {
    if (cell.content.kind != Content::Kind::Sum || sums[cell.content.index].kind != Sum::Kind::ParameterGradient)
      return true;
    const StageParameter &parameter = table.parameters[sums[cell.content.index].index];
    if (cell.isWhole() && cell.left.begin == bytes.begin + parameter.bucketOffset * 4 && bytes.contains(cell.left))
      bucket = parameter.bucket;
    return bucket < 0;
  });
  return bucket;
}

FailureOr<StageProver::Sum> StageProver::scatterSums(const ReduceScatter &scatter, int bucket, Bytes from) {
  Sum piece = {Sum::Kind::GradientPiece, nullptr, bucket};
  piece.isReducedOverAxes = true;
  for (int parameter : parametersIn(bucket)) {
    const StageParameter &reduced = table.parameters[parameter];
    std::string what = "the gradient of " + parameterName(parameter);
    int64_t begin = from.begin + reduced.bucketOffset * 4;
    Bytes place = {begin, begin + countOf(reduced) * 4};
    Sum *sum = findSum(place, Sum::Kind::ParameterGradient, nullptr, parameter);
    if (!sum)
      return fail("expects " + here() + " to find " + what + " at element " + llvm::Twine(reduced.bucketOffset) +
                  " of " + nameOf(scatter.from) + ", but there is " + writerOf(memory.find(place)));
    if (failed(reduceOverAxes(table.groups[scatter.group], model.parameters.at(parameterName(parameter)).partialAxes,
                              *sum, what)))
      return failure();
    piece.terms.insert(sum->terms.begin(), sum->terms.end());
  }
  return piece;
}

LogicalResult StageProver::visit(const ReduceScatter &scatter) {
  const RankGroup &group = table.groups[scatter.group];
  int64_t ranks = 1;
  for (int64_t axis : group.axes)
    ranks *= model.mesh[axis];
  FailureOr<Bytes> from = reach(scatter.from, scatter.count * ranks * 4, /*writes=*/false);
  FailureOr<Bytes> to = touch(scatter.to, scatter.count * 4, /*writes=*/true);
  if (failed(from) || failed(to))
    return failure();
  int index = findScattered(*from);
  if (index < 0)
    return fail("expects " + here() + " to reduce gradients of parameters that ranks share, but in " +
                nameOf(scatter.from) + " there is " + writerOf(memory.find(*from)));
  const StateBucket &bucket = table.buckets[index];
  if (scatter.count != bucket.pieceElements() && sorted(group.axes) == sorted(bucket.axes))
    return fail("expects " + here() + " to leave a piece of " + llvm::Twine(bucket.pieceElements()) +
                " elements of the gradients of " + bucket.path + ", but it leaves " + llvm::Twine(scatter.count));
  if (from->overlaps(*to))
    return fail("expects " + here() + " to write beside what it reads, but " + nameOf(scatter.to) + " overlaps " +
                nameOf(scatter.from));
  FailureOr<Sum> piece = scatterSums(scatter, index, *from);
  if (failed(piece) || failed(checkRanks(group, bucket)))
    return failure();
  memory.write(*to, newSum(std::move(*piece)), now);
  ++proof.scatters;
  if (!scatter.handle)
    return success();
  return start(*scatter.handle, scatter.from, {{*from, /*writes=*/false}, {*to, /*writes=*/true}});
}

int StageProver::findPiece(Bytes bytes) const {
  for (auto [index, bucket] : llvm::enumerate(table.buckets))
    if (placeOf(bucket.gradientBuffer).overlaps(bytes))
      return index;
  return -1;
}

LogicalResult StageProver::addPiece(Bytes bytes, const Sum &addend) {
  const std::string &path = table.buckets[addend.index].path;
  Sum *sum = findSum(bytes, Sum::Kind::GradientPiece, nullptr, addend.index);
  if (!sum)
    return fail("expects " + here() + " to add to this rank's piece of gradients of " + path + ", but there is " +
                writerOf(memory.find(bytes)));
  if (sum->isReducedOverStages)
    return fail("expects no addition to the gradients of " + path + " after they are summed over stages, but " +
                here() + " adds to them");
  for (const Term &term : addend.terms)
    if (!sum->terms.insert(term).second)
      return fail("expects each term of the gradients of " + path + " once, but " + here() + " adds that of " +
                  describe(term) + " again");
  sum->isReducedOverAxes = true;
  return success();
}

LogicalResult StageProver::reducePiece(const RankGroup &group, int bucket, Bytes bytes) {
  const StateBucket &reduced = table.buckets[bucket];
  int64_t begin = placeOf(reduced.gradientBuffer).begin;
  if (bytes != Bytes{begin, begin + reduced.pieceElements() * 4})
    return fail("expects " + here() + " to sum all of this rank's piece of gradients of " + reduced.path +
                " and no more, but it does not");
  Sum *sum = findSum(bytes, Sum::Kind::GradientPiece, nullptr, bucket);
  if (!sum)
    return fail("expects " + here() + " to find this rank's piece of gradients of " + reduced.path + ", but there is " +
                writerOf(memory.find(bytes)));
  const Sum before = *sum;
  for (int parameter : parametersIn(bucket)) {
    std::string what = "the gradient of " + parameterName(parameter);
    *sum = before;
    if (failed(checkHasTerms(sum->terms, termsOf(parameterUses[parameter]), what)) ||
        failed(group.stages.empty()
                   ? reduceOverAxes(group, model.parameters.at(parameterName(parameter)).partialAxes, *sum, what)
                   : reduceOverStages(group, parameter, *sum)))
      return failure();
  }
  return success();
}

StageProver::Sum *StageProver::findGradient(int parameter) {
  const StageParameter &found = table.parameters[parameter];
  if (found.bucket < 0)
    return findSum(placeOf(found.gradientBuffer), Sum::Kind::ParameterGradient, nullptr, parameter);
  BufferReference piece = {found.gradientBuffer, 0};
  return findSum(rangeOf(piece, table.buckets[found.bucket].pieceElements() * 4), Sum::Kind::GradientPiece, nullptr,
                 found.bucket);
}

//===--------------------------------------------------------------------===//
// Parameters
//===--------------------------------------------------------------------===//

LogicalResult StageProver::visit(const AllGather &gather) {
  using Kind = Content::Kind;
  const RankGroup &group = table.groups[gather.group];
  bool isCopy = isHalf(gather.type);
  int64_t width = isCopy ? 2 : 4, ranks = 1;
  for (int64_t axis : group.axes)
    ranks *= model.mesh[axis];
  BufferReference source = gather.piece ? gather.piece : gather.whole;
  FailureOr<Bytes> from = reach(source, gather.count * width * (gather.piece ? 1 : ranks), /*writes=*/!gather.piece);
  FailureOr<Bytes> whole = gather.piece ? touch(gather.whole, gather.count * width * ranks, /*writes=*/true) : from;
  if (failed(from) || failed(whole))
    return failure();
  Kind expected = gather.piece ? (isCopy ? Kind::CopyPiece : Kind::ParameterPiece)
                               : (isCopy ? Kind::StaleCopies : Kind::StaleParameters);
  const Cell *cell = memory.find(*from);
  if (!cell || cell->content.kind != expected || cell->left.begin != from->begin)
    return fail("expects " + here() + " to gather from this rank's piece of " + (isCopy ? "copies" : "parameters") +
                (gather.piece ? "" : ", once a step") + ", but in " + nameOf(source) + " there is " + writerOf(cell));
  int index = cell->content.index;
  const StateBucket &bucket = table.buckets[index];
  if (failed(checkRanks(group, bucket)))
    return failure();
  if (gather.count != bucket.pieceElements() || cell->left != *from)
    return fail("expects " + here() + " to gather pieces of " + llvm::Twine(bucket.pieceElements()) + " elements of " +
                bucket.path + ", but it gathers " + llvm::Twine(gather.count));
  memory.write(*whole, {}, now);
  for (int parameter : parametersIn(index)) {
    int64_t begin = whole->begin + table.parameters[parameter].bucketOffset * width;
    memory.write({begin, begin + countOf(table.parameters[parameter]) * width},
                 {isCopy ? Kind::GatheredCopy : Kind::Gathered, nullptr, -1, parameter}, now);
  }
  ++proof.gathers;
  if (!gather.handle)
    return success();
  SmallVector<Held, 2> held = {{*whole, /*writes=*/true}};
  if (gather.piece)
    held.push_back({*from, /*writes=*/false});
  return start(*gather.handle, gather.whole, held);
}
