// Offsets in the arena. See Timetable.h.
#include "galvatron/Schedule/Timetable.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace galvatron;

static constexpr int64_t kAlignment = 64;

void galvatron::planArena(Timetable &timetable) {
  int64_t base = 0;
  llvm::SmallVector<int> transient;
  for (auto [index, slot] : llvm::enumerate(timetable.slots)) {
    if (!slot.persistent) {
      if (slot.first >= 0)
        transient.push_back(index);
      continue;
    }
    slot.offset = base;
    base += llvm::alignTo(slot.bytes, kAlignment);
  }
  llvm::stable_sort(transient, [&](int a, int b) { return timetable.slots[a].bytes > timetable.slots[b].bytes; });
  // Placed slots by offset, so that one walk finds the lowest gap.
  std::vector<int> placed;
  int64_t end = base;
  for (int index : transient) {
    Slot &slot = timetable.slots[index];
    int64_t bytes = llvm::alignTo(slot.bytes, kAlignment), offset = base;
    for (int other : placed) {
      const Slot &taken = timetable.slots[other];
      if (taken.first > slot.last || taken.last < slot.first)
        continue;
      if (taken.offset >= offset + bytes)
        break;
      offset = std::max<int64_t>(offset, taken.offset + llvm::alignTo(taken.bytes, kAlignment));
    }
    slot.offset = offset;
    end = std::max(end, offset + bytes);
    placed.insert(llvm::upper_bound(placed, offset,
                                    [&](int64_t value, int other) { return value < timetable.slots[other].offset; }),
                  index);
  }
  timetable.arenaBytes = end;
}
