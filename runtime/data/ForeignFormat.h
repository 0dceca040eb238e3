//===- ForeignFormat.h - a file that is not the tokens it would be read as -------------------===//
//
// A wrong width or a header does not fail by itself: half of the tokens are 0, or the first few are noise, and the loss
// looks good. So a file is looked at before it is read.
//
//===-----------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_FOREIGNFORMAT_H
#define GALVATRON_RUNTIME_DATA_FOREIGNFORMAT_H

#include "runtime/data/FileSample.h"
#include "runtime/data/TokenType.h"

namespace galvatron {

/// "FILE is text", and "pass --data-dtype u8"; both empty where the file may well be what it is read as.
struct ForeignFormat {
  std::string finding, remedy;

  explicit operator bool() const { return !finding.empty(); }
};

/// Whether the file is something else than tokens of `type` one after another, by, in this order: the header of a
/// known format; the index of a Megatron data set beside it; what its bytes are like. Of the last kind:
///
///   text            where a token is wider than a byte: hardly any control characters (one byte in 256), at least 16
///                   different bytes, most of them ASCII or all of them UTF-8. Tokens below 8192 hold a control character.
///   wider integers  the upper half of every 2, 4 or 8 bytes is zero (or the sign of the lower) all over the sample,
///   and
///                   at least 32 times two neighbours are not 0. Narrow tokens look like this only if every second one
///                   of them is 0 without exception; where most are 0 (padding) there are no such neighbours.
///   big endian      wider integers by the same rule with the bytes of each reversed; or at least 32 tokens outside the
///                   vocabulary, and with reversed bytes none
///   narrower ones   of 32 bits: at least 32 tokens outside the vocabulary, and as u16 none
///
/// So a file of zeros, or one too short to tell, is none of these.
ForeignFormat findForeignFormat(const FileSample &sample, const TokenType &type, int64_t vocabulary);

} // namespace galvatron

#endif
