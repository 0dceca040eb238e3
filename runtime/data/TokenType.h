//===- TokenType.h - the integer types that a file of tokens may have -----------------------===//
#ifndef GALVATRON_RUNTIME_DATA_TOKENTYPE_H
#define GALVATRON_RUNTIME_DATA_TOKENTYPE_H

#include <cstdint>
#include <string>

namespace galvatron {

/// As --data-dtype names it; little endian.
struct TokenType {
  const char *name;
  int64_t bytes;
  bool isSigned;

  /// Whether some value of it is no token of such a vocabulary.
  bool canBeOutside(int64_t vocabulary) const {
    return isSigned || bytes >= 8 || vocabulary < int64_t(1) << (8 * bytes);
  }
};
inline constexpr TokenType kTokenTypes[] = {{"u8", 1, false}, {"u16", 2, false}, {"u32", 4, false}, {"u64", 8, false},
                                            {"i8", 1, true},  {"i16", 2, true},  {"i32", 4, true},  {"i64", 8, true}};

/// The type of that name, or null.
inline const TokenType *findTokenType(const std::string &name) {
  for (const TokenType &type : kTokenTypes)
    if (name == type.name)
      return &type;
  return nullptr;
}

/// The integer at `bytes`. An unsigned one beyond the range of int64_t comes out negative, which no token is either.
inline int64_t decodeInteger(const unsigned char *bytes, int64_t width, bool isSigned, bool isBigEndian = false) {
  uint64_t value = 0;
  for (int64_t i = width; i-- > 0;)
    value = value << 8 | bytes[isBigEndian ? width - 1 - i : i];
  uint64_t sign = uint64_t(1) << (8 * width - 1);
  return isSigned ? int64_t((value ^ sign) - sign) : int64_t(value);
}

} // namespace galvatron

#endif
