//===- Fingerprint.cpp - the identity of a file of data ------------------------------------------===//
#include "runtime/data/Fingerprint.h"
#include "runtime/api/CounterRandom.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace galvatron {

/// Appends size and pieces.
static bool addPieces(const std::string &path, std::string &text) {
  constexpr int64_t kPieces = 32, kPieceBytes = 4096;
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO would wait for who writes it
  struct stat info;
  bool good = file >= 0 && fstat(file, &info) == 0 && S_ISREG(info.st_mode);
  if (good)
    text += std::to_string(info.st_size) + ":";
  int64_t last = good ? std::max<int64_t>(0, info.st_size - kPieceBytes) : 0; // where the last piece begins
  int64_t pieces = good ? std::min<int64_t>(kPieces, last / kPieceBytes + 2) : 0;
  std::vector<char> piece(kPieceBytes);
  for (int64_t i = 0; i < pieces && good; ++i) {
    int64_t at = last / (pieces - 1) * i + last % (pieces - 1) * i / (pieces - 1);
    ssize_t count = pread(file, piece.data(), kPieceBytes, at);
    good = count >= 0;
    text.append(piece.data(), std::max<ssize_t>(count, 0));
  }
  if (file >= 0)
    close(file);
  return good;
}

std::string fingerprint(const std::vector<std::string> &paths) {
  std::string text;
  for (const std::string &path : paths)
    if (!addPieces(path, text))
      return "";
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", (unsigned long long)random::hashName(text.data(), text.size()));
  return digits;
}

} // namespace galvatron
