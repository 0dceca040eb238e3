//===- IndexedDataset.h - sequences of tokens in PREFIX.bin, with PREFIX.idx ------------------===//
//
// Megatron's format, little endian:
//
//   PREFIX.idx  "MMIDIDX\0\0"  u64 version (1)  u8 type of a token  u64 sequences  u64 documents
//               i32 length[sequences]      tokens of each
//               i64 pointer[sequences]     byte in PREFIX.bin that each begins at
//               i64 document[documents]    the first sequence of each document, then the number of sequences
//   PREFIX.bin  tokens
//
// The index is mapped: of the millions of lengths a rank needs few at a time, and its pages are the disk cache's, on a
// machine one copy for all ranks. Tokens are read by range, as those of TokenFile are.
//
//===-------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_INDEXEDDATASET_H
#define GALVATRON_RUNTIME_DATA_INDEXEDDATASET_H

#include "runtime/core/Status.h"
#include "runtime/data/TokenType.h"

#include <cstring>
#include <memory>
#include <vector>

namespace galvatron {

class IndexedDataset {
public:
  /// Whether PREFIX.idx is there.
  static bool exists(const std::string &prefix);
  /// Opens both, and checks header and sizes. Labels may be kIgnoredLabel beside the vocabulary's tokens.
  static Status open(const std::string &prefix, int64_t vocabulary, IndexedDataset &dataset, bool areLabels = false);
  /// Whether lengths, pointers and documents agree with each other and with PREFIX.bin.
  Status checkIndex() const;

  int64_t numSequences() const { return sequences; }
  /// Tokens of a sequence.
  int64_t length(int64_t sequence) const { return load<int32_t>(lengths + 4 * sequence); }
  /// Tokens of sequences first … last - 1.
  int64_t numTokens(int64_t first, int64_t last) const;
  int64_t numBytes() const { return bytes; }
  std::string type() const { return tokenType->name; }
  const std::string &getPrefix() const { return prefix; }

  /// Tokens offset … offset + count - 1 of a sequence; an error names the first that is outside the vocabulary.
  Status read(int64_t sequence, int64_t offset, int64_t count, int64_t *out) const;
  /// Reads sequences first … last - 1 only to check them.
  Status checkTokens(int64_t first, int64_t last) const;

private:
  template <typename T> T load(int64_t at) const {
    T value;
    std::memcpy(&value, index.get() + at, sizeof value);
    return value;
  }
  Status mapIndex();
  Status readHeader();
  Status openTokens();
  int64_t pointer(int64_t sequence) const { return load<int64_t>(pointers + 8 * sequence); }

  std::string prefix;
  const TokenType *tokenType = nullptr;
  std::shared_ptr<const char> index; // mapped
  int64_t indexBytes = 0, sequences = 0, documents = 0;
  int64_t lengths = 0, pointers = 0, documentsAt = 0; // bytes from the index's start
  std::shared_ptr<int> tokens;                        // descriptor
  int64_t bytes = 0, vocabulary = 0;                  // of PREFIX.bin
  bool areLabels = false;
};

} // namespace galvatron

#endif
