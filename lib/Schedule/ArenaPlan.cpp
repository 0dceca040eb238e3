// Offsets in the arena. See Timetable.h.
#include "galvatron/Schedule/Timetable.h"

#include "dialects/Exec/Exec.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace galvatron;

/// Gives the buffers of one list of entries their offsets.
static void placeBuffers(Timetable &timetable) {
  int64_t base = 0;
  llvm::SmallVector<int> transient;
  for (auto [index, buffer] : llvm::enumerate(timetable.buffers)) {
    if (!buffer.persistent) {
      if (buffer.first >= 0)
        transient.push_back(index);
      continue;
    }
    buffer.offset = base;
    base += llvm::alignTo(buffer.bytes, exec::kBufferAlignment);
  }
  llvm::stable_sort(transient, [&](int a, int b) { return timetable.buffers[a].bytes > timetable.buffers[b].bytes; });
  // Placed buffers by offset, so that one walk finds the lowest gap.
  std::vector<int> placed;
  int64_t end = base;
  for (int index : transient) {
    Buffer &buffer = timetable.buffers[index];
    int64_t bytes = llvm::alignTo(buffer.bytes, exec::kBufferAlignment), offset = base;
    for (int other : placed) {
      const Buffer &taken = timetable.buffers[other];
      if (taken.first > buffer.last || taken.last < buffer.first)
        continue;
      if (taken.offset >= offset + bytes)
        break;
      offset = std::max<int64_t>(offset, taken.offset + llvm::alignTo(taken.bytes, exec::kBufferAlignment));
    }
    buffer.offset = offset;
    end = std::max(end, offset + bytes);
    placed.insert(llvm::upper_bound(placed, offset,
                                    [&](int64_t value, int other) { return value < timetable.buffers[other].offset; }),
                  index);
  }
  timetable.arenaBytes = end;
}

void galvatron::planArena(Timetable &timetable) {
  placeBuffers(timetable);
  for (Timetable &evaluation : timetable.evaluation) {
    placeBuffers(evaluation);
    // It holds less at any time, so only a gap that first fit finds in one list and not in the other could make it larger.
    timetable.arenaBytes = std::max(timetable.arenaBytes, evaluation.arenaBytes);
    evaluation.arenaBytes = timetable.arenaBytes;
  }
}
