//===- FileSample.h - a few MiB of a file, spread over it -------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_FILESAMPLE_H
#define GALVATRON_RUNTIME_DATA_FILESAMPLE_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace galvatron {

/// What is looked at to judge what a file holds: all of it up to 4 MiB, else 64 pieces of 64 KiB at even distances, the
/// first and the last bytes among them.
struct FileSample {
  using Bytes = std::vector<unsigned char>;

  std::string path;
  int64_t fileBytes = 0;
  /// Each begins at a multiple of 64 bytes, so that elements of up to 8 bytes are aligned in it. At least one, in
  /// order.
  std::vector<Bytes> pieces;

  static Status read(int descriptor, const std::string &path, int64_t fileBytes, FileSample &sample);

  bool beginsWith(const std::string &bytes, size_t at = 0) const;
  bool endsWith(const std::string &bytes) const;
  /// Byte `at` of the file's beginning; 0 after its end.
  unsigned char byte(size_t at) const { return at < pieces.front().size() ? pieces.front()[at] : 0; }
};

struct OpenFile {
  std::shared_ptr<int> descriptor; // closed with its last owner
  int64_t bytes = 0;
  bool isRegular = false;
};

/// For reading.
Status openFile(const std::string &path, OpenFile &file);

/// `pread` until all is there.
Status readBytes(int descriptor, const std::string &path, int64_t offset, int64_t count, unsigned char *out);

} // namespace galvatron

#endif
