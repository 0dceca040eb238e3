#include "Arena.h"

#include <algorithm>
#include <cstring>

using namespace galvatron::reference;

void Arena::poison(ByteRange range) { std::fill(lanes.begin() + range.begin, lanes.begin() + range.end, kPoison); }

void Arena::write(int64_t offset, unsigned width, llvm::ArrayRef<double> values) {
  uint16_t *to = &lanes[offset];
  for (double value : values) {
    if (width == 1) {
      *to = static_cast<uint16_t>(value);
    } else if (width == 2) {
      float narrow = static_cast<float>(value);
      std::memcpy(to, &narrow, sizeof narrow);
    } else {
      std::memcpy(to, &value, sizeof value);
      std::fill(to + 4, to + width, 0);
    }
    to += width;
  }
}

std::optional<int64_t> Arena::read(int64_t offset, unsigned width, llvm::MutableArrayRef<double> values) const {
  std::optional<int64_t> poisoned;
  const uint16_t *from = &lanes[offset];
  for (double &value : values) {
    // The lane with the sign and the exponent.
    bool isPoison = from[std::min(width, 4u) - 1] == kPoison;
    if (isPoison && !poisoned)
      poisoned = &value - values.begin();
    if (isPoison) {
      value = poisonedValue();
    } else if (width == 1) {
      value = *from;
    } else if (width == 2) {
      float narrow;
      std::memcpy(&narrow, from, sizeof narrow);
      value = narrow;
    } else {
      std::memcpy(&value, from, sizeof value);
    }
    from += width;
  }
  return poisoned;
}

Arena::Lanes Arena::copy(ByteRange range) const {
  return Lanes(lanes.begin() + range.begin, lanes.begin() + range.end);
}

void Arena::paste(int64_t offset, llvm::ArrayRef<uint16_t> values) {
  std::copy(values.begin(), values.end(), lanes.begin() + offset);
}

std::optional<int64_t> Arena::findPoison(ByteRange range) const {
  for (int64_t at = range.begin; at + 4 <= range.end; at += 4)
    if (std::all_of(&lanes[at], &lanes[at] + 4, [](uint16_t lane) { return lane == kPoison; }))
      return at;
  return std::nullopt;
}

double Arena::poisonedValue() {
  uint16_t bits[4] = {kPoison, kPoison, kPoison, kPoison};
  double value;
  std::memcpy(&value, bits, sizeof value);
  return value;
}

bool Arena::isPoisoned(double value) {
  uint16_t bits[4];
  std::memcpy(bits, &value, sizeof value);
  return bits[3] == kPoison;
}
