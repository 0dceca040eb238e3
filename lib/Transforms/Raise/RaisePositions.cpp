// Lookups of positions are slices: a table read at start + 0, 1, 2, … along one dimension and the same along all
// others.
#include "Raise.h"

#include "dialects/Graph/GraphIndexing.h"
#include "dialects/Graph/GraphShapes.h"
#include "galvatron/Transforms/Passes.h"

namespace galvatron {
#define GEN_PASS_DEF_RAISEPOSITIONSPASS
#include "galvatron/Transforms/Passes.h.inc"
} // namespace galvatron

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

namespace {
/// Positions `start`, start + 1, … along dimension `along`.
struct Positions {
  int64_t start, along;
};
} // namespace

/// The positions that `ids` are; none if they are anything else.
static std::optional<Positions> readPositions(Value ids, TableReader &reader) {
  ArrayRef<int64_t> shape = shapeOf(ids);
  if (shape.empty() || !reader.isTable(ids))
    return std::nullopt;
  SmallVector<int64_t> index(shape.size(), 0);
  int64_t start = reader.read(ids, index);
  std::optional<int64_t> along;
  for (int64_t dim = 0; dim < int64_t(shape.size()); ++dim) {
    bool varies = shape[dim] > 1 && (index[dim] = 1, reader.read(ids, index) != start);
    index[dim] = 0;
    if (varies && along)
      return std::nullopt;
    if (varies)
      along = dim;
  }
  if (!along)
    return std::nullopt;
  for (int64_t linear = 0, total = llvm::product_of(shape); linear < total; ++linear) {
    int64_t rest = linear;
    for (size_t dim = shape.size(); dim-- > 0; rest /= shape[dim])
      index[dim] = rest % shape[dim];
    if (reader.read(ids, index) != start + index[*along])
      return std::nullopt;
  }
  return Positions{start, *along};
}

static bool raisePositions(EmbeddingOp op, TableReader &reader) {
  std::optional<Positions> positions = readPositions(op.getIds(), reader);
  ArrayRef<int64_t> shape = shapeOf(op.getIds());
  if (!positions || positions->start < 0 || positions->start + shape[positions->along] > shapeOf(op.getTable())[0])
    return false;
  return replaceIfLegal(op, [&](OpBuilder &builder) {
    Value rows = sliceOf(builder, op.getLoc(), op.getTable(), 0, positions->start, shape[positions->along]);
    return op.getType() == rows.getType() ? rows
                                          : Value(BroadcastOp::create(builder, op.getLoc(), op.getType(), rows,
                                                                      {positions->along, int64_t(shape.size())}));
  });
}

namespace {

struct RaisePositionsPass : galvatron::impl::RaisePositionsPassBase<RaisePositionsPass> {
  using Base::Base;

  void runOnOperation() override {
    for (func::FuncOp function : getBodies(getOperation())) {
      TableReader reader;
      for (auto op : llvm::to_vector(function.getBody().front().getOps<EmbeddingOp>()))
        numPositions += raisePositions(op, reader);
      eraseDead(function);
    }
  }
};

} // namespace
