//===- TensorBoard.h - scalars for TensorBoard, without TensorFlow -------------------------------===//
//
// An event file is records of a length, its checksum, an Event and its checksum (TFRecord: "masked" CRC-32C); an Event
// is a message of tensorflow/core/util/event.proto in protobuf's wire format. A file begins with its version; the
// second event says that a session starts at a step, at which readers drop what earlier files have from there on.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_TENSORBOARD_H
#define GALVATRON_RUNTIME_CORE_TENSORBOARD_H

#include "runtime/core/AppendedFile.h"

#include <utility>
#include <vector>

namespace galvatron {

class TensorBoard {
public:
  /// A new file in the folder, which is made, after those that are there by name, as readers take them; `next` is the
  /// first step of this run.
  Status open(const std::string &folder, int64_t next);
  bool isOpen() const { return file.isOpen(); }
  /// Values as f32. An error only of the first that cannot be written, and again once one could.
  Status add(int64_t step, const std::vector<std::pair<const char *, double>> &scalars);
  /// Steps from `next` on are done again.
  Status goBack(int64_t next);

private:
  std::string folder;
  AppendedFile file;
};

/// CRC-32C (Castagnoli) of bytes, masked as TFRecord has it: rotated right by 15 bits, plus 0xa282ead8.
uint32_t maskedChecksum(const std::string &bytes);

} // namespace galvatron

#endif
