// Follows rows and positions through the loops of ops.
#include "RowPositions.h"

#include "Raise.h"

#include "dialects/Graph/Graph.h"

#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::raise;

namespace {

/// A loop of an op, and the elements of it that one step of an index spans.
struct LoopPlace {
  unsigned loop;
  int64_t inner;
  bool operator==(const LoopPlace &) const = default;
};

} // namespace

/// The loop that an index of `extent` lies in, none where it lies in several.
static std::optional<LoopPlace> findLoop(const OpAxes &axes, const DimensionLoops &dims, IndexPlace place,
                                         int64_t extent) {
  int64_t base = 1;
  for (unsigned loop : llvm::reverse(dims[place.dim])) {
    int64_t end = base * axes.loops[loop].extent;
    if (place.inner < end)
      return place.inner % base == 0 && place.inner * extent <= end ? std::optional(LoopPlace{loop, place.inner / base})
                                                                    : std::nullopt;
    base = end;
  }
  return std::nullopt;
}

static std::optional<IndexPlace> findPlace(const OpAxes &axes, const DimensionLoops &dims, LoopPlace place) {
  for (auto [dim, loops] : llvm::enumerate(dims)) {
    int64_t base = 1;
    for (unsigned loop : llvm::reverse(loops)) {
      if (loop == place.loop)
        return IndexPlace{int64_t(dim), base * place.inner};
      base *= axes.loops[loop].extent;
    }
  }
  return std::nullopt;
}

void RowPositions::setInput(Value input, bool readsTokens) {
  RowValue &value = values[input];
  value.position = IndexPlace{1, 1};
  if (batch > 1)
    value.row = IndexPlace{0, 1};
  value.readsTokens = readsTokens;
}

const RowValue *RowPositions::find(Value value) const {
  auto it = values.find(value);
  return it == values.end() ? nullptr : &it->second;
}

bool RowPositions::hasPositions(Value value) const {
  const RowValue *found = find(value);
  return found && found->position;
}

bool RowPositions::isPosition(Value value, int64_t dim) const {
  const RowValue *found = find(value);
  return found && found->position == IndexPlace{dim, 1} && shapeOf(value)[dim] == seq;
}

bool RowPositions::isRow(Value value, int64_t dim) const {
  if (batch == 1)
    return shapeOf(value)[dim] == 1;
  const RowValue *found = find(value);
  return found && found->row == IndexPlace{dim, 1} && shapeOf(value)[dim] == batch;
}

std::optional<RowLoops> RowPositions::findLoops(Operation *op) const {
  RowLoops loops;
  loops.axes = getOpAxes(op);
  std::optional<LoopPlace> position, row;
  for (auto [operand, dims] : llvm::zip_equal(op->getOperands(), loops.axes.operands)) {
    const RowValue *value = find(operand);
    if (!value || !value->position)
      continue;
    auto agree = [&](std::optional<LoopPlace> &known, const std::optional<IndexPlace> &place, int64_t extent) {
      std::optional<LoopPlace> found = place ? findLoop(loops.axes, dims, *place, extent) : std::nullopt;
      if (!found || (known && *known != *found) || loops.axes.loops[found->loop].kind != LoopKind::Free)
        return false;
      known = found;
      return true;
    };
    if (!agree(position, value->position, seq) || (batch > 1 && !agree(row, value->row, batch)))
      return std::nullopt;
  }
  if (!position)
    return std::nullopt;
  loops.position = position->loop;
  if (row)
    loops.row = row->loop;
  return loops;
}

bool RowPositions::setResults(Operation *op, const RowLoops &loops) {
  RowValue result;
  std::optional<LoopPlace> position, row;
  for (auto [operand, dims] : llvm::zip_equal(op->getOperands(), loops.axes.operands)) {
    const RowValue *value = find(operand);
    if (!value)
      continue;
    result.readsTokens |= value->readsTokens;
    if (!value->position)
      continue;
    position = findLoop(loops.axes, dims, *value->position, seq);
    if (value->row)
      row = findLoop(loops.axes, dims, *value->row, batch);
  }
  for (auto [made, dims] : llvm::zip_equal(op->getResults(), loops.axes.results)) {
    result.position = findPlace(loops.axes, dims, *position);
    result.row = row ? findPlace(loops.axes, dims, *row) : std::nullopt;
    if (!result.position || (row && !result.row))
      return false;
    values[made] = result;
  }
  return true;
}

void RowPositions::setResults(Operation *op, RowValue like) {
  for (Value result : op->getResults())
    values[result] = like;
}

bool RowPositions::varies(Value table, int64_t dim) { return variesAlong(table)[dim]; }

const SmallVector<bool> &RowPositions::variesAlong(Value table) {
  if (auto it = variations.find(table); it != variations.end())
    return it->second;
  ArrayRef<int64_t> shape = shapeOf(table);
  SmallVector<bool> answer = llvm::map_to_vector(shape, [](int64_t extent) { return extent > 1; });
  Operation *op = table.getDefiningOp();
  if (!op || isa<ParameterOp, DropoutOp, RopeOp, ShiftOp>(op))
    return variations[table] = answer;
  DenseElementsAttr constant;
  if (auto iota = dyn_cast<IotaOp>(op)) {
    for (auto [dim, isDifferent] : llvm::enumerate(answer))
      isDifferent &= int64_t(dim) == int64_t(iota.getDim());
  } else if (matchPattern(op, m_Constant(&constant))) {
    if (constant.isSplat())
      answer.assign(shape.size(), false);
  } else {
    OpAxes axes = getOpAxes(op);
    // A loop of no operand: repeats it, or something unknown.
    SmallVector<bool> seen(axes.loops.size(), false), differs(axes.loops.size(), false);
    for (auto [operand, dims] : llvm::zip_equal(op->getOperands(), axes.operands))
      for (auto [dim, loops] : llvm::enumerate(dims))
        for (unsigned loop : loops) {
          seen[loop] = true;
          differs[loop] = differs[loop] || variesAlong(operand)[dim];
        }
    unsigned number = cast<OpResult>(table).getResultNumber();
    for (auto [dim, loops] : llvm::enumerate(axes.results[number]))
      answer[dim] = llvm::any_of(loops, [&](unsigned loop) {
        return differs[loop] || axes.loops[loop].kind != LoopKind::Free || (!seen[loop] && !isa<BroadcastOp>(op));
      });
  }
  return variations[table] = answer;
}
