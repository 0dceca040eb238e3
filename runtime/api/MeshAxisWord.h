//===- MeshAxisWord.h - a mesh axis as a word of a position map ----------------------------===//
//
// From the least bit on: the axis (16 bits), whether its sub-axis is mirrored (1 bit), and from bit 32 on the turn: the
// value belongs to the device whose coordinate is so much less, modulo the axis' size. Written by the compiler, read by
// core/PositionMap.h, which says what they mean; negative words are no mesh axes.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_MESHAXISWORD_H
#define GALVATRON_RUNTIME_API_MESHAXISWORD_H

#include <cstdint>

namespace galvatron {

constexpr int64_t meshAxisWord(int64_t axis, bool mirrored, int64_t turn = 0) {
  return axis < 0 ? axis : axis | int64_t(mirrored) << 16 | turn << 32;
}
constexpr int64_t meshAxisOf(int64_t word) { return word < 0 ? word : word & 0xffff; }
constexpr bool isMirrored(int64_t word) { return word >= 0 && (word >> 16 & 1); }
constexpr int64_t turnOf(int64_t word) { return word < 0 ? 0 : word >> 32; }

} // namespace galvatron

#endif
