// Where one layer ends and the next begins.
//
// Module paths cut best: `model.layers.3.mlp.up_proj` lies in member 3 of the list `model.layers`.
// A member is a segment; ops outside of every list come where their operands allow:
//
//     embedding            | model.layers.0 | model.layers.1 | … | norm, head, loss
//     position ½: prologue | 1              | 2              | … | n + ½: epilogue
//
// Without paths, the step is cut wherever a single activation is alive (before and after each
// residual block), and the longest run of pieces that repeats with some period gives the segments.
#include "FormLayers.h"

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphShapes.h"
#include "dialects/Graph/GraphStructure.h"

#include "llvm/ADT/Hashing.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"

#include <map>

using namespace mlir;
using namespace galvatron;
using namespace galvatron::graph;
using namespace galvatron::layers;

//===----------------------------------------------------------------------===//
// Free ops
//===----------------------------------------------------------------------===//

FreeOps::FreeOps(func::FuncOp step) {
  findActivations(step.getBody().front(), [](BlockArgument) { return false; });
}

FreeOps::FreeOps(LayerOp layer) {
  findActivations(layer.getBody().front(),
                  [&](BlockArgument argument) { return argument.getArgNumber() >= layer.getNumInputs(); });
}

void FreeOps::findActivations(Block &body, llvm::function_ref<bool(BlockArgument)> isParameter) {
  // Whether a value depends on parameters, and on the step's arguments.
  enum : unsigned { Parameter = 1, Data = 2, Both = 3 };
  llvm::DenseMap<Value, unsigned> dependence;
  for (BlockArgument argument : body.getArguments())
    dependence[argument] = isParameter(argument) ? Parameter : isFloatTensor(argument.getType()) ? Both : Data;
  for (Operation &op : body.without_terminator()) {
    // Random bits differ from layer to layer, even if what they drop is the same.
    unsigned mask = isa<DropoutOp>(op) ? unsigned(Both) : isa<ParameterOp>(op) ? unsigned(Parameter) : 0;
    for (Value operand : op.getOperands())
      mask |= dependence.lookup(operand);
    for (Value result : op.getResults())
      dependence[result] = mask;
    if (mask == Both)
      activations.insert(&op);
  }
  // The results come out of a layer, even if they are constant.
  Operation *terminator = body.getTerminator();
  activations.insert(terminator);
  for (Value result : terminator->getOperands())
    if (Operation *op = result.getDefiningOp())
      activations.insert(op);
}

StringRef layers::pathOf(Operation *op) {
  Location loc = op->getLoc();
  if (auto fused = dyn_cast<FusedLoc>(loc))
    for (Location part : fused.getLocations())
      if (auto name = dyn_cast<NameLoc>(part))
        return name.getName();
  auto name = dyn_cast<NameLoc>(loc);
  return name ? name.getName().getValue() : StringRef();
}

//===----------------------------------------------------------------------===//
// By module paths
//===----------------------------------------------------------------------===//

namespace {

/// A module list: `model.layers` of `model.layers.0`, `model.layers.1`, ..
struct ModuleList {
  llvm::StringSet<> members;
  /// Members have modules below them; else they are a `Sequential` of single ops.
  bool isDeep = false;
};

/// Finds the member of a list that a path lies in.
class ModuleLists {
public:
  explicit ModuleLists(ArrayRef<Operation *> ops) {
    for (Operation *op : ops)
      forEachMember(pathOf(op), [&](StringRef list, StringRef member, StringRef below) {
        ModuleList &entry = lists[list];
        entry.members.insert(member);
        entry.isDeep |= !below.empty();
      });
  }

  /// The path of the segment, empty if `path` lies in no list: the outermost member of a list of
  /// several, else of a list of one.
  StringRef segmentOf(StringRef path) const {
    StringRef single, several;
    forEachMember(path, [&](StringRef list, StringRef member, StringRef) {
      const ModuleList &entry = lists.find(list)->second;
      if (!entry.isDeep)
        return;
      StringRef &found = entry.members.size() > 1 ? several : single;
      if (found.empty())
        found = member;
    });
    return several.empty() ? single : several;
  }

private:
  /// Calls `visit(list, member, rest)` for every component of `path` that is a number.
  template <typename Visit> static void forEachMember(StringRef path, Visit visit) {
    for (size_t begin = 0; begin < path.size();) {
      size_t end = std::min(path.find('.', begin), path.size());
      StringRef component = path.slice(begin, end);
      if (!component.empty() && llvm::all_of(component, llvm::isDigit))
        visit(path.take_front(begin), path.take_front(end), path.drop_front(end));
      begin = end + 1;
    }
  }

  llvm::StringMap<ModuleList> lists;
};

} // namespace

/// `model.layers` of `model.layers.3`; empty for a single component.
static StringRef parentOf(StringRef path) {
  size_t dot = path.rfind('.');
  return dot == StringRef::npos ? StringRef() : path.take_front(dot);
}

namespace {

/// To which segment each op of a step belongs, as a position in the order of segments: segment r of n (from 1) is 2r,
/// what follows it and is in none 2r + 1; so the prologue is 1 and the epilogue 2n + 1.
class StepCut {
public:
  /// `splitsVisits`: a member that is called again after what it depends on by then begins another segment. Else a
  /// member is one segment, whatever comes in between.
  StepCut(ArrayRef<Operation *> ops, bool splitsVisits) : ops(ops), lists(ops) {
    for (Operation *op : ops)
      placeAfterOperands(op, splitsVisits);
    for (Operation *op : llvm::reverse(ops))
      moveIntoSegment(op);
  }

  /// Whether each segment reads earlier ones only.
  bool isInOrder() const {
    return llvm::all_of(ops, [&](Operation *op) { return positions.lookup(op) >= positionOfOperands(op); });
  }

  std::vector<Segment> getSegments() const {
    std::map<int64_t, Segment> ordered;
    for (Operation *op : ops)
      ordered[positions.lookup(op)].ops.push_back(op);
    std::vector<Segment> result;
    for (auto &[position, segment] : ordered) {
      if (position % 2 == 0)
        segment.path = segments[position / 2 - 1].str();
      segment.isPrologue = position == 1;
      segment.isEpilogue = position == last();
      result.push_back(std::move(segment));
    }
    return result;
  }

private:
  int64_t last() const { return 2 * int64_t(segments.size()) + 1; }

  int64_t positionOfOperands(Operation *op) const {
    int64_t position = 1;
    for (Value operand : op->getOperands())
      if (auto it = positions.find(operand.getDefiningOp()); it != positions.end())
        position = std::max(position, it->second);
    return position;
  }

  void placeAfterOperands(Operation *op, bool splitsVisits) {
    int64_t least = positionOfOperands(op);
    StringRef path = lists.segmentOf(pathOf(op));
    if (path.empty()) {
      positions[op] = least | 1;
      return;
    }
    int64_t &rank = ranks[path];
    if (!rank || (splitsVisits && rank < least / 2)) {
      segments.push_back(path);
      rank = segments.size();
    }
    positions[op] = 2 * rank;
  }

  /// What feeds back into the segment that it follows is part of it; what lies between two members of one list, of the
  /// first.
  void moveIntoSegment(Operation *op) {
    int64_t &position = positions[op];
    if (position % 2 == 0 || position == 1)
      return;
    for (Operation *user : op->getUsers())
      if (auto it = positions.find(user); it != positions.end() && it->second < position)
        position = it->second;
    if (position % 2 && position != 1 && position != last()) {
      int64_t rank = position / 2;
      if (parentOf(segments[rank - 1]) == parentOf(segments[rank]))
        position -= 1;
    }
  }

  ArrayRef<Operation *> ops;
  ModuleLists lists;
  /// Paths of segments in order, and the latest with each path, from one.
  SmallVector<StringRef> segments;
  llvm::StringMap<int64_t> ranks;
  llvm::DenseMap<Operation *, int64_t> positions;
};

} // namespace

static std::vector<Segment> cutByPaths(ArrayRef<Operation *> ops) {
  StepCut cut(ops, /*splitsVisits=*/false);
  // Members that are called in turns.
  return cut.isInOrder() ? cut.getSegments() : StepCut(ops, /*splitsVisits=*/true).getSegments();
}

//===----------------------------------------------------------------------===//
// By structure
//===----------------------------------------------------------------------===//

/// Pieces of `ops` between which a single activation is alive.
static SmallVector<ArrayRef<Operation *>> cutWhereNarrow(ArrayRef<Operation *> ops) {
  llvm::DenseMap<Operation *, size_t> index;
  for (auto [i, op] : llvm::enumerate(ops))
    index[op] = i;
  // ends[i]: how many values are read for the last time by op i.
  SmallVector<int64_t> ends(ops.size(), 0), begins(ops.size(), 0);
  for (auto [i, op] : llvm::enumerate(ops))
    for (Value result : op->getResults()) {
      size_t lastReader = i;
      for (Operation *user : result.getUsers())
        if (auto it = index.find(user); it != index.end())
          lastReader = std::max(lastReader, it->second);
      if (lastReader > i)
        ++begins[i], ++ends[lastReader];
    }
  SmallVector<ArrayRef<Operation *>> pieces;
  int64_t alive = 0;
  size_t begin = 0;
  for (size_t i = 0; i < ops.size(); ++i) {
    alive += begins[i] - ends[i];
    if (alive == 1 || i + 1 == ops.size()) {
      pieces.push_back(ops.slice(begin, i + 1 - begin));
      begin = i + 1;
    }
  }
  return pieces;
}

/// Equal for pieces of equal ops and types; whether they are wired alike is seen later.
static llvm::hash_code hashOf(ArrayRef<Operation *> piece) {
  llvm::hash_code hash = 0;
  for (Operation *op : piece) {
    hash = llvm::hash_combine(hash, op->getName());
    for (Type type : op->getOperandTypes())
      hash = llvm::hash_combine(hash, type);
    for (Type type : op->getResultTypes())
      hash = llvm::hash_combine(hash, type);
  }
  return hash;
}

/// What a segment's parameters have in common: `layers.3` of `layers.3.q` and `layers.3.up`.
static std::string commonPath(ArrayRef<Operation *> ops) {
  std::optional<std::string> common;
  SmallVector<Value> worklist;
  for (Operation *op : ops)
    llvm::append_range(worklist, op->getOperands());
  while (!worklist.empty()) {
    Operation *op = worklist.pop_back_val().getDefiningOp();
    if (auto parameter = dyn_cast_or_null<ParameterOp>(op)) {
      StringRef path = parentOf(cast<StringAttr>(parameter.getNames()[0]));
      if (!common)
        common = path.str();
      while (!common->empty() && !(path + ".").str().starts_with(*common + "."))
        common = parentOf(*common).str();
    } else if (isa_and_nonnull<SliceOp, ReshapeOp, TransposeOp, BroadcastOp>(op)) {
      llvm::append_range(worklist, op->getOperands());
    }
  }
  return common.value_or("");
}

static std::vector<Segment> cutByPeriod(ArrayRef<Operation *> ops) {
  SmallVector<ArrayRef<Operation *>> pieces = cutWhereNarrow(ops);
  auto hashes = llvm::map_to_vector(pieces, hashOf);
  // The period with the longest run of equal pieces; the shortest of several.
  size_t bestBegin = 0, bestPeriod = 0, bestRepeats = 0, bestLength = 0;
  for (size_t period = 1; period <= pieces.size() / 2; ++period)
    for (size_t begin = 0, i = 0; i + period <= pieces.size(); ++i) {
      if (i + period < pieces.size() && hashes[i] == hashes[i + period])
        continue;
      size_t repeats = (i - begin) / period + 1, length = 0;
      for (size_t piece = begin; repeats > 1 && piece < begin + repeats * period; ++piece)
        length += pieces[piece].size();
      if (length > bestLength)
        bestLength = length, bestBegin = begin, bestPeriod = period, bestRepeats = repeats;
      begin = i + 1;
    }
  std::vector<Segment> segments;
  auto append = [&](size_t begin, size_t end) {
    if (begin == end)
      return;
    Segment &segment = segments.emplace_back();
    for (size_t piece = begin; piece < end; ++piece)
      llvm::append_range(segment.ops, pieces[piece]);
    segment.path = commonPath(segment.ops);
    segment.isPrologue = begin == 0 && end == bestBegin;
    segment.isEpilogue = end == pieces.size() && begin == bestBegin + bestRepeats * bestPeriod;
  };
  append(0, bestBegin);
  for (size_t repeat = 0; repeat < bestRepeats; ++repeat)
    append(bestBegin + repeat * bestPeriod, bestBegin + (repeat + 1) * bestPeriod);
  append(bestBegin + bestRepeats * bestPeriod, pieces.size());
  return segments;
}

std::vector<Segment> layers::cutIntoSegments(func::FuncOp step, const FreeOps &freeOps) {
  SmallVector<Operation *> ops;
  for (Operation &op : step.getBody().front().without_terminator())
    if (!freeOps.isFree(&op) && !isa<ParameterOp>(op))
      ops.push_back(&op);
  std::vector<Segment> segments = cutByPaths(ops);
  return segments.size() > 1 ? segments : cutByPeriod(ops);
}
