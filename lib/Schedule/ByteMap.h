// Who wrote what into which bytes of an arena, for VerifyTimetable.cpp. Internal to lib/Schedule.
#ifndef GALVATRON_SCHEDULE_BYTEMAP_H
#define GALVATRON_SCHEDULE_BYTEMAP_H

#include <cstdint>
#include <iterator>
#include <map>

namespace galvatron {

/// What bytes hold.
struct Content {
  enum class Kind {
    Nothing,   // what an earlier step left, or a scratch
    Value,     // `what`: the value
    Saved,     // `what`: the call that saved it, `index`: which
    Kept,      // `what`: the call whose backward keeps it for its weights, `index`: which
    Parameter, // `index` of the stage's parameters
    Copy,
    FirstMoment,
    SecondMoment,
    // `index` of the stage's buckets: this rank's piece of a list that ranks share
    ParameterPiece,
    CopyPiece,
    FirstMomentPiece,
    SecondMomentPiece,
    // `index` of the stage's buckets: the whole list, of which only this rank's piece is of the last update
    StaleParameters,
    StaleCopies,
    // `index` of the stage's parameters: what ranks share, as gathered in this step
    Gathered,
    GatheredCopy,
    Zero,
    One,       // the gradient of the loss
    TotalPart, // `what`: the `graph.total`
    Sum,       // `index`: which
  };
  Kind kind = Kind::Nothing;
  const void *what = nullptr;
  int64_t microBatch = -1, index = 0;
  bool operator==(const Content &) const = default;
};

/// Bytes from `begin` to `end` of the arena.
struct Bytes {
  int64_t begin, end;
  bool overlaps(const Bytes &other) const { return begin < other.end && other.begin < end; }
  bool contains(const Bytes &other) const { return begin <= other.begin && other.end <= end; }
  bool operator==(const Bytes &) const = default;
};

/// What was written at once, or what others have left of it.
struct Cell {
  Bytes left, written;
  Content content;
  int writer = -1; // entry; -1: it was there at the start
  bool isWhole() const { return left == written; }
};

class ByteMap {
public:
  void write(Bytes bytes, const Content &content, int writer) {
    cut(bytes.begin);
    cut(bytes.end);
    cells.erase(cells.lower_bound(bytes.begin), cells.lower_bound(bytes.end));
    if (bytes.begin < bytes.end)
      cells[bytes.begin] = {bytes, bytes, content, writer};
  }

  /// Calls `visit` for every cell that has some of these bytes, in order, until it returns false; whether it never did.
  template <typename Visit> bool allOf(Bytes bytes, Visit visit) const {
    auto cell = cells.upper_bound(bytes.begin);
    if (cell != cells.begin() && std::prev(cell)->second.left.end > bytes.begin)
      --cell;
    for (; cell != cells.end() && cell->first < bytes.end; ++cell)
      if (!visit(cell->second))
        return false;
    return true;
  }

  /// Whether all of these bytes are zeroed.
  bool isZero(Bytes bytes) const {
    int64_t zeroed = bytes.begin;
    allOf(bytes, [&](const Cell &cell) {
      if (cell.content.kind != Content::Kind::Zero || cell.left.begin > zeroed)
        return false;
      zeroed = cell.left.end;
      return true;
    });
    return zeroed >= bytes.end;
  }

  /// The cell that has the first of these bytes, or the first after it that has any; null: none.
  const Cell *find(Bytes bytes) const {
    const Cell *found = nullptr;
    allOf(bytes, [&](const Cell &cell) { return found = &cell, false; });
    return found;
  }

private:
  /// Makes two cells of one that reaches over `at`.
  void cut(int64_t at) {
    auto next = cells.lower_bound(at);
    if (next == cells.begin())
      return;
    Cell &cell = std::prev(next)->second;
    if (cell.left.end <= at)
      return;
    Cell rest = cell;
    rest.left.begin = at;
    cell.left.end = at;
    cells[at] = rest;
  }

  std::map<int64_t, Cell> cells; // by first byte left
};

} // namespace galvatron

#endif // GALVATRON_SCHEDULE_BYTEMAP_H
