// The memory of one rank in the executor of timetables: what lies at which byte, and where nothing lies.
//
// Every byte of the arena has a lane of two bytes here, so an element has twice its size: one of four bytes (f32) a
// double, one of two (bf16, f16) a float, one of one (i1) a whole number, one of eight (i64) a double and four lanes of
// padding. Elements thus overlap here exactly where they overlap on the device, whatever their types. Memory that is
// free, or under way, is poisoned: lanes of 0xfffe, which are a NaN that no arithmetic makes, as a float and as a
// double.
#ifndef GALVATRON_REFERENCE_ARENA_H
#define GALVATRON_REFERENCE_ARENA_H

#include "llvm/ADT/ArrayRef.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace galvatron::reference {

/// Bytes of an arena.
struct ByteRange {
  int64_t begin, end;
  bool overlaps(const ByteRange &other) const { return begin < other.end && other.begin < end; }
};

class Arena {
public:
  using Lanes = std::vector<uint16_t>;

  explicit Arena(int64_t bytes) : lanes(bytes, kPoison) {}

  int64_t size() const { return lanes.size(); }
  void poison(ByteRange range);
  /// `width`: bytes of an element on the device: 1, 2, 4 or 8.
  void write(int64_t offset, unsigned width, llvm::ArrayRef<double> values);
  /// Reads elements one after another; what is poisoned reads as NaN. The first such one, or nothing.
  std::optional<int64_t> read(int64_t offset, unsigned width, llvm::MutableArrayRef<double> values) const;
  /// What lies there, of whatever type.
  Lanes copy(ByteRange range) const;
  void paste(int64_t offset, llvm::ArrayRef<uint16_t> values);
  /// The first byte of a range's first group of four that is poisoned, or nothing.
  std::optional<int64_t> findPoison(ByteRange range) const;

  static double poisonedValue();
  static bool isPoisoned(double value);

private:
  static constexpr uint16_t kPoison = 0xfffe;
  Lanes lanes;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_ARENA_H
