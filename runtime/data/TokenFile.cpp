//===- TokenFile.cpp - token ids one after another in a file -------------------------------===//
#include "runtime/data/TokenFile.h"
#include "runtime/data/ForeignFormat.h"

#include <algorithm>
#include <unistd.h>
#include <vector>

namespace galvatron {

constexpr int64_t kChunkTokens = 1 << 16;

/// The smallest unsigned type that holds every token of the vocabulary.
static const char *smallestType(int64_t vocabulary) {
  return vocabulary <= 1 << 8 ? "u8" : vocabulary <= 1 << 16 ? "u16" : "u32";
}

/// A name without Megatron's suffix, as its own options take it.
static std::string hintAtSuffix(const std::string &path) {
  if (access((path + ".bin").c_str(), R_OK) == 0)
    return "; there is " + path + ".bin";
  return "; name a file of token ids, or the PREFIX of a PREFIX.bin and PREFIX.idx";
}

/// A type that was asked for is believed; else the file must look like the one that it would be read as.
static Status checkFormat(const FileSample &sample, const TokenType &type, bool isExplicit, int64_t vocabulary,
                          std::string &warning) {
  ForeignFormat found = findForeignFormat(sample, type, vocabulary);
  if (!found)
    return Status::success();
  if (!isExplicit)
    return Status::error(found.finding, " (read as ", type.name, "); ", found.remedy, "; if it is ", type.name,
                         " after all, say so with --data-dtype ", type.name);
  warning =
      found.finding + ", but is read as " + type.name + ", as --data-dtype says; if it should not be, " + found.remedy;
  return Status::success();
}

Status TokenFile::open(const std::string &path, const std::string &dtype, int64_t vocabulary, TokenFile &file,
                       std::string &warning) {
  file.path = path;
  file.tokenType = *findTokenType(dtype.empty() ? smallestType(vocabulary) : dtype);
  file.vocabulary = vocabulary;
  OpenFile opened;
  if (Status status = openFile(path, opened); !status.ok())
    return Status::error(status.message, hintAtSuffix(path));
  if (!opened.isRegular)
    return Status::error(path, " is not a file of tokens");
  file.descriptor = opened.descriptor;
  file.bytes = opened.bytes;
  FileSample sample;
  Status status = FileSample::read(*file.descriptor, path, file.bytes, sample);
  if (status.ok())
    status = checkFormat(sample, file.tokenType, !dtype.empty(), vocabulary, warning);
  if (status.ok() && file.bytes % file.tokenType.bytes != 0)
    return Status::error(path, " has ", file.bytes, " bytes, which is no whole number of ", file.tokenType.name,
                         " tokens; pass its type with --data-dtype");
  return status;
}

Status TokenFile::read(int64_t first, int64_t count, int64_t *out) const {
  int64_t width = tokenType.bytes;
  std::vector<unsigned char> buffer(std::min(count, kChunkTokens) * width);
  for (int64_t done = 0; done < count;) {
    int64_t now = std::min(kChunkTokens, count - done);
    if (Status status = readBytes(*descriptor, path, (first + done) * width, now * width, buffer.data()); !status.ok())
      return status;
    for (int64_t i = 0; i < now; ++i) {
      int64_t token = decodeInteger(&buffer[i * width], width, tokenType.isSigned);
      if (token < 0 || token >= vocabulary)
        return Status::error(path, ": token ", first + done + i, " is ", token, ", outside the vocabulary of ",
                             vocabulary, " (tokens count from 0, read as ", tokenType.name,
                             "); pass the file's type with --data-dtype, or another file")
            .forGood();
      if (out)
        out[done + i] = token;
    }
    done += now;
  }
  return Status::success();
}

Status TokenFile::check(int64_t first, int64_t count) const {
  if (!tokenType.canBeOutside(vocabulary))
    return Status::success();
  return read(first, count, nullptr);
}

} // namespace galvatron
