//===- TokenFile.h - token ids one after another in a file -------------------------------===//
//
// Read by range, not mapped: pages of a mapped file count as this process' memory for as long as they stay in the
// cache.
//
//===--------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_TOKENFILE_H
#define GALVATRON_RUNTIME_DATA_TOKENFILE_H

#include "runtime/core/Status.h"
#include "runtime/data/TokenType.h"

#include <cstdint>
#include <memory>

namespace galvatron {

class TokenFile {
public:
  /// `dtype` is the name of a TokenType; empty: the smallest unsigned one that holds `vocabulary`, and a file that is
  /// something else is refused. With a `dtype` this is only a `warning`, empty where there is none.
  static Status open(const std::string &path, const std::string &dtype, int64_t vocabulary, TokenFile &file,
                     std::string &warning);

  int64_t numTokens() const { return bytes / tokenType.bytes; }
  int64_t numBytes() const { return bytes; }
  std::string type() const { return tokenType.name; }

  /// Tokens first … first + count - 1.
  Status read(int64_t first, int64_t count, int64_t *out) const;
  /// Reads a range only to check it; an error names the first token outside the vocabulary.
  Status check(int64_t first, int64_t count) const;

  const std::string &getPath() const { return path; }

private:
  std::string path;
  TokenType tokenType = kTokenTypes[0];
  std::shared_ptr<int> descriptor;
  int64_t bytes = 0, vocabulary = 0;
};

} // namespace galvatron

#endif
