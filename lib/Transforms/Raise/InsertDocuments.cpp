// Rows that hold several documents, for a model that knows of none: the inputs `positions` and `documents` take the
// place of its own positions.
//
//     own                                    inserted
//     rows 0 … seq - 1 of a table            rows at `positions`
//     graph.rope                             of `positions`
//     attention                              and within a document only
//     labels moved by one                    as they are: a document's first label is ignored where labels are read
//
// All else must keep the positions of a row apart (RowPositions.h). Then what a document gets depends on that document
// alone, and what each op was in a row of one document it is in each of several.
#include "Raise.h"
#include "RowPositions.h"

#include "dialects/Graph/GraphAttention.h"
#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphInputs.h"
#include "dialects/Graph/GraphLoss.h"
#include "dialects/Graph/GraphReductions.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"
#include "galvatron/Transforms/Passes.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

#include <cmath>

namespace galvatron {
#define GEN_PASS_DEF_INSERTDOCUMENTSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

/// `op` cannot be right in rows of several documents, for the reason given.
static LogicalResult refuse(Operation *op, const Twine &reason) {
  return op->emitOpError(reason) << "; export the module with position_ids as third input, so that it keeps documents "
                                    "apart itself";
}

//===----------------------------------------------------------------------===//
// What a bias says of distances
//===----------------------------------------------------------------------===//

/// Whether a bias [B, N, Sq, Sk] that no token decides is the same for all pairs of one distance, but for what is added
/// to all keys of a query, which its softmax does not see: it is then as if each document began the row. Each query is
/// compared with the one before up to 2^20 elements; else 64 queries are, with the one before and with one another, and
/// those before the first of them. Of causal attention, keys up to the query.
static bool dependsOnDistance(Value bias, bool isCausal, int64_t seq, TableReader &reader) {
  constexpr int64_t kWhole = 1 << 20, kRows = 64;
  constexpr double kRounding = 1e-5;
  ArrayRef<int64_t> shape = shapeOf(bias);
  int64_t heads = shape[1];
  int64_t step = heads * seq * seq <= kWhole ? 1 : std::max<int64_t>(seq / kRows, 1);
  auto at = [&](int64_t head, int64_t query, int64_t key) {
    return reader.read(bias, {0, head, shape[2] == 1 ? 0 : query, shape[3] == 1 ? 0 : key});
  };
  auto isAsBefore = [&](int64_t head, int64_t query, int64_t distance) {
    std::optional<double> common;
    for (int64_t key = distance, end = isCausal ? query + 1 : seq; key < end; ++key) {
      double here = at(head, query, key), before = at(head, query - distance, key - distance);
      if (here == before && std::isinf(here))
        continue;
      if (!std::isfinite(here) || !std::isfinite(before))
        return false;
      double difference = here - before;
      if (!common)
        common = difference;
      if (std::abs(difference - *common) > kRounding * std::max({1.0, std::abs(here), std::abs(before)}))
        return false;
    }
    return true;
  };
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t query = seq - 1; query > 0; query -= query >= step ? step : 1)
      if (!isAsBefore(head, query, 1) || (query > step && !isAsBefore(head, query, step)))
        return false;
  return true;
}

//===----------------------------------------------------------------------===//
// One step
//===----------------------------------------------------------------------===//

namespace {

class DocumentInsertion {
public:
  DocumentInsertion(func::FuncOp step, int64_t batch, int64_t seq)
      : step(step), places(batch, seq), batch(batch), seq(seq), positions(step.getArgument(2)),
        documents(step.getArgument(3)) {}

  LogicalResult run();
  int64_t numTables = 0, numRopes = 0, numAttentions = 0;

private:
  LogicalResult visit(Operation *op);
  LogicalResult visitAttention(AttentionOp op);
  LogicalResult visitRope(RopeOp op);
  LogicalResult visitShift(ShiftOp op);
  /// Where attention adds a number to each key, the one that the key has at its position; null where a bias is right in
  /// no document but the first.
  Value biasWithin(OpBuilder &builder, AttentionOp op);
  LogicalResult replaceTables(Operation *op, const RowLoops &loops);
  bool isTotal(Operation *op);
  /// `dependsOnDistance`, asked once for the attention of all layers.
  bool isOfDistance(Value bias, bool isCausal);

  /// The rows of `table` at `positions`, in the table's shape.
  Value rowsAtPositions(OpBuilder &builder, Location loc, Value table, int64_t rowDim, int64_t positionDim);
  /// `x` [batch, seq, …] in a larger shape: dimension i becomes dims[i].
  Value spread(OpBuilder &builder, Location loc, Value x, ArrayRef<int64_t> dims, ArrayRef<int64_t> shape);
  /// True where query and key are of one document, [batch, seq, seq].
  Value sameDocument(OpBuilder &builder, Location loc);

  func::FuncOp step;
  RowPositions places;
  TableReader reader;
  llvm::DenseMap<Value, bool> distanceBiases[2]; // by whether attention is causal
  int64_t batch, seq;
  Value positions, documents;
};

} // namespace

LogicalResult DocumentInsertion::run() {
  for (unsigned number : {0u, 1u})
    places.setInput(step.getArgument(number), /*readsTokens=*/number == 0);
  for (Operation &op : llvm::make_early_inc_range(step.getBody().front().without_terminator()))
    if (failed(visit(&op)))
      return failure();
  return success();
}

/// A mean loss, or a sum of all that there is.
bool DocumentInsertion::isTotal(Operation *op) {
  if (auto loss = dyn_cast<CrossEntropyOp>(op))
    return loss.isMean();
  auto reduce = dyn_cast<ReduceOp>(op);
  return reduce && reduce.getKind() == ReduceKind::Sum && typeOf(reduce.getResult()).getRank() == 0;
}

LogicalResult DocumentInsertion::visit(Operation *op) {
  auto isDecided = [&](Value operand) { return places.find(operand) != nullptr; };
  auto hasPositions = [&](Value operand) { return places.hasPositions(operand); };
  if (llvm::none_of(op->getOperands(), isDecided))
    return success();
  RowValue total;
  bool readsTotal = false, readsTable = false;
  for (Value operand : op->getOperands()) {
    const RowValue *value = places.find(operand);
    total.readsTokens |= value && value->readsTokens;
    readsTotal |= value && value->readsTokens && !value->position;
    readsTable |= !value && llvm::any_of(llvm::seq(typeOf(operand).getRank()),
                                         [&](int64_t dim) { return places.varies(operand, dim); });
  }
  if (llvm::none_of(op->getOperands(), hasPositions)) {
    // What a table makes different for each position may not come back to them either.
    total.readsTokens |= readsTable;
    return places.setResults(op, total), success();
  }
  if (readsTotal)
    return refuse(op, "brings what all positions say to each of them, also to those of other documents");
  if (auto attention = dyn_cast<AttentionOp>(op); attention && places.isPosition(attention.getQ(), 2))
    return visitAttention(attention);
  if (auto rope = dyn_cast<RopeOp>(op); rope && places.isPosition(rope.getX(), rope.getSeqDim()))
    return visitRope(rope);
  if (auto shift = dyn_cast<ShiftOp>(op); shift && places.isPosition(shift.getX(), shift.getDim()))
    return visitShift(shift);
  std::optional<RowLoops> loops = places.findLoops(op);
  if (!loops)
    return refuse(op, "mixes or cuts the positions of a row, so documents cannot be kept apart");
  if (failed(replaceTables(op, *loops)))
    return failure();
  if (places.setResults(op, *loops))
    return success();
  if (!isTotal(op))
    return refuse(op, "joins the positions of a row, so documents cannot be kept apart");
  return places.setResults(op, total), success();
}

LogicalResult DocumentInsertion::visitShift(ShiftOp op) {
  if (places.find(op.getX())->readsTokens)
    return refuse(op, "moves tokens from one position to another, also into other documents");
  if (op.getOffset() != 1)
    return refuse(op, "moves labels by " + Twine(op.getOffset()) +
                          ", but only of those moved by one is a document's last "
                          "known to be ignored");
  return places.setResults(op, *places.find(op.getX())), success();
}

//===----------------------------------------------------------------------===//
// Tables of positions
//===----------------------------------------------------------------------===//

Value DocumentInsertion::spread(OpBuilder &builder, Location loc, Value x, ArrayRef<int64_t> dims,
                                ArrayRef<int64_t> shape) {
  SmallVector<int64_t> order = llvm::to_vector(llvm::seq<int64_t>(0, dims.size())), sorted(dims);
  llvm::sort(order, [&](int64_t a, int64_t b) { return dims[a] < dims[b]; });
  llvm::sort(sorted);
  if (!llvm::is_sorted(order))
    x = transposeBy(builder, loc, x, order);
  if (shapeOf(x) == shape)
    return x;
  return BroadcastOp::create(builder, loc, reshaped(x, shape), x, sorted);
}

Value DocumentInsertion::rowsAtPositions(OpBuilder &builder, Location loc, Value table, int64_t rowDim,
                                         int64_t positionDim) {
  // What the table repeats, and which of its dimensions those of that are.
  Value x = table;
  SmallVector<int64_t> dims = llvm::to_vector(llvm::seq<int64_t>(0, typeOf(table).getRank()));
  while (auto broadcast = x.getDefiningOp<BroadcastOp>()) {
    dims = llvm::map_to_vector(broadcast.getDims(), [&](int64_t dim) { return dims[dim]; });
    x = broadcast.getX();
  }
  // Positions first, one row of the batch, all else as columns.
  SmallVector<int64_t> order, rest, extents = {batch, seq};
  int64_t columns = 1;
  for (auto [dim, whole] : llvm::enumerate(dims)) {
    if (whole == rowDim)
      x = sliceOf(builder, loc, x, dim, 0, 1);
    if (whole == positionDim)
      order.insert(order.begin(), dim);
    else
      order.push_back(dim);
    if (whole == positionDim || whole == rowDim)
      continue;
    rest.push_back(whole);
    extents.push_back(shapeOf(x)[dim]);
    columns *= extents.back();
  }
  if (!llvm::is_sorted(order))
    x = transposeBy(builder, loc, x, order);
  if (shapeOf(x) != ArrayRef<int64_t>{seq, columns})
    x = reshapeTo(builder, loc, x, {seq, columns});
  Value ids = positions;
  // Rows of a longer table, which may be cut.
  if (auto slice = x.getDefiningOp<SliceOp>(); slice && cutDim(slice) == 0) {
    x = slice.getX();
    if (int64_t first = slice.getOffsets()[0])
      ids = arith::AddIOp::create(builder, loc, ids, splat(builder, loc, typeOf(ids), first));
  }
  Value rows = EmbeddingOp::create(builder, loc, reshaped(x, {batch, seq, columns}), x, ids, uint64_t(-1));
  SmallVector<int64_t> at = {rowDim, positionDim};
  llvm::append_range(at, rest);
  return spread(builder, loc, reshapeTo(builder, loc, rows, extents), at, shapeOf(table));
}

LogicalResult DocumentInsertion::replaceTables(Operation *op, const RowLoops &loops) {
  OpBuilder builder(op);
  for (auto [number, dims] : llvm::enumerate(loops.axes.operands)) {
    Value table = op->getOperand(number);
    if (places.find(table))
      continue;
    for (auto [dim, list] : llvm::enumerate(dims)) {
      if (!llvm::is_contained(list, loops.position) || !places.varies(table, dim))
        continue;
      bool isAlone = list.size() == 1 && loops.axes.loops[loops.position].extent == seq;
      const auto *row = llvm::find_if(
          dims, [&](ArrayRef<unsigned> other) { return loops.row ? other == ArrayRef(*loops.row) : other.empty(); });
      int64_t rowDim = row - dims.begin();
      if (!isAlone || row == dims.end() || places.varies(table, rowDim) || !isFloatTensor(table.getType()))
        return refuse(op, "reads positions of its own in a way that documents cannot take the place of");
      op->setOperand(number, rowsAtPositions(builder, op->getLoc(), table, rowDim, dim));
      ++numTables;
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Rotary positions and attention
//===----------------------------------------------------------------------===//

LogicalResult DocumentInsertion::visitRope(RopeOp op) {
  const RowValue value = *places.find(op.getX());
  int64_t rank = typeOf(op.getX()).getRank(), seqDim = op.getSeqDim(), rowDim = 0;
  while (rowDim < rank && (rowDim == seqDim || !places.isRow(op.getX(), rowDim)))
    ++rowDim;
  if (rowDim >= rank - 1 || seqDim == rank - 1)
    return refuse(op, "rotates by positions of its own in a way that documents cannot take the place of");
  OpBuilder builder(op);
  auto rotated = RopeOp::create(builder, op.getLoc(), op.getType(), op.getX(), positions,
                                op.getInverseFrequenciesAttr(), op.getSeqDimAttr(), op.getStyleAttr(),
                                op.getScalingAttr(), op.getInverseAttr(), builder.getI64IntegerAttr(rowDim));
  op.getResult().replaceAllUsesWith(rotated.getResult());
  places.setResults(rotated, value);
  ++numRopes;
  return success();
}

Value DocumentInsertion::sameDocument(OpBuilder &builder, Location loc) {
  auto scores = RankedTensorType::get({batch, seq, seq}, typeOf(documents).getElementType());
  Value query = BroadcastOp::create(builder, loc, scores, documents, {0, 1});
  Value key = BroadcastOp::create(builder, loc, scores, documents, {0, 2});
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, query, key);
}

bool DocumentInsertion::isOfDistance(Value bias, bool isCausal) {
  auto [known, isNew] = distanceBiases[isCausal].try_emplace(bias, false);
  if (isNew)
    known->second = reader.isTable(bias) && !places.varies(bias, 0) && dependsOnDistance(bias, isCausal, seq, reader);
  return known->second;
}

Value DocumentInsertion::biasWithin(OpBuilder &builder, AttentionOp op) {
  Value bias = op.getBias();
  SmallVector<int64_t> shape(shapeOf(bias));
  if (shape.size() != 4)
    return nullptr;
  if (places.find(bias)) // Of a token as key, or as query: it is that in whatever document.
    return (places.isPosition(bias, 2) || places.isPosition(bias, 3)) && places.isRow(bias, 0) ? bias : nullptr;
  if (places.varies(bias, 0))
    return nullptr;
  if (shape[2] != 1 || shape[3] != seq)
    return isOfDistance(bias, op.getCausal()) ? bias : nullptr;
  // Of the key's position, as ALiBi adds to all queries alike.
  if (shape[0] != batch) {
    Value one = reshapeTo(builder, op.getLoc(), bias, {shape[1], 1, seq});
    bias = BroadcastOp::create(builder, op.getLoc(), reshaped(bias, {batch, shape[1], 1, seq}), one, {1, 2, 3});
  }
  ++numTables;
  return rowsAtPositions(builder, op.getLoc(), bias, 0, 3);
}

LogicalResult DocumentInsertion::visitAttention(AttentionOp op) {
  for (Value operand : {op.getQ(), op.getK(), op.getV()})
    if (!places.isPosition(operand, 2) || !places.isRow(operand, 0))
      return refuse(op, "attends to what is not the positions of its own row");
  OpBuilder builder(op);
  Location loc = op.getLoc();
  Value bias = op.getBias();
  if (bias && !(bias = biasWithin(builder, op)))
    return refuse(op, "adds a bias that is no function of the distance between query and key");
  SmallVector<int64_t> shape = {batch, bias ? shapeOf(bias)[1] : 1, seq, seq};
  auto scores = reshaped(op.getQ(), shape);
  auto stretch = [&](Value x, ArrayRef<int64_t> dims) { return spread(builder, loc, x, dims, shape); };
  Value visible = stretch(sameDocument(builder, loc), {0, 2, 3}), own = splat(builder, loc, scores, 0);
  if (bias) {
    SmallVector<int64_t> dims, kept;
    for (auto [dim, extent] : llvm::enumerate(shapeOf(bias)))
      if (extent == shape[dim])
        dims.push_back(dim), kept.push_back(extent);
    own = stretch(reshapeTo(builder, loc, bias, kept), dims);
  }
  Value hidden = splat(builder, loc, scores, -std::numeric_limits<double>::infinity());
  op.getBiasMutable().assign(arith::SelectOp::create(builder, loc, visible, own, hidden));
  op.setGivenDocuments(true);
  places.setResults(op, *places.find(op.getQ()));
  ++numAttentions;
  return success();
}

//===----------------------------------------------------------------------===//
// The pass
//===----------------------------------------------------------------------===//

namespace {

struct InsertDocumentsPass : galvatron::impl::InsertDocumentsPassBase<InsertDocumentsPass> {
  using Base::Base;

  void runOnOperation() override {
    func::FuncOp step = graph::getStep(getOperation());
    if (!step || step.getNumArguments() != std::size(kInputNames))
      return fail("expects a step with the inputs positions and documents");
    if (!step.getArgument(2).use_empty() || !step.getArgument(3).use_empty())
      return fail("expects a model that does not read positions or documents yet, but this one keeps documents apart "
                  "itself");
    ArrayRef<int64_t> shape = shapeOf(step.getArgument(0));
    if (shape[1] == 1) // A row is a token.
      return;
    DocumentInsertion insertion(step, shape[0], shape[1]);
    if (failed(insertion.run()))
      return signalPassFailure();
    eraseDead(step);
    numTables += insertion.numTables;
    numRopes += insertion.numRopes;
    numAttentions += insertion.numAttentions;
  }

  void fail(const Twine &message) {
    getOperation().emitOpError(message);
    signalPassFailure();
  }
};

} // namespace
