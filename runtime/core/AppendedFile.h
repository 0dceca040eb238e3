//===- AppendedFile.h - a file that a run adds to, whatever the disk says ------------------------===//
//
// What a full disk does not take is kept, and tried again with what comes next; a text is there whole or not at all.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_APPENDEDFILE_H
#define GALVATRON_RUNTIME_CORE_APPENDEDFILE_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <optional>

namespace galvatron {

class AppendedFile {
public:
  AppendedFile() = default;
  AppendedFile(const AppendedFile &) = delete;
  ~AppendedFile();

  /// `what` it is, for messages, as "the log"; of a file that is there `bytes` stay, or all of it.
  Status open(const std::string &what, const std::string &path, std::optional<int64_t> bytes);
  bool isOpen() const { return file >= 0; }
  /// What could not be written is given up.
  void close();
  /// Likewise; so many bytes stay.
  Status cut(int64_t bytes);
  /// An error only of the first text that cannot be written, and again once one could.
  Status add(const std::string &text);

private:
  Status write();

  std::string what, path, pending;
  int file = -1;
  bool isFailing = false;
};

} // namespace galvatron

#endif
