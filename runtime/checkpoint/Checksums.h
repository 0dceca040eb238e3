//===- Checksums.h - whether a checkpoint's files are as they were saved ----------------------===//
//
//   DIR/checksums.xxh128   a line for each other file, as `xxhsum -H2` writes them; written last
//   DIR/tensors.json       the same hash of each tensor's bytes, by file and name: damage is named by it
//
//===-------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_CHECKSUMS_H
#define GALVATRON_RUNTIME_CHECKPOINT_CHECKSUMS_H

#include "runtime/core/World.h"

#include <vector>

namespace galvatron {

inline constexpr const char *kChecksums = "checksums.xxh128", *kTensors = "tensors.json";

/// After these files were written to `folder` by all ranks: reads back those that are this rank's turn, and hashes
/// them; `hashes` is for `writeChecksums`.
Status hashOwn(const std::string &folder, const std::vector<std::string> &files, int rank, int ranks,
               std::string &hashes);
/// From the hashes of all ranks: the two files above.
Status writeChecksums(const std::string &folder, const std::vector<std::string> &hashes);

/// Whether the checksums of a folder, if it has any, name this file.
bool isInChecksums(const std::string &folder, const std::string &file);

/// Collective: an error that names a file that was changed, cut off or lost since, with its first such tensor; each
/// file is hashed by one rank. `isThere` says whether the folder has checksums at all: without them, success.
/// `required` are files that must have a line.
Status verifyChecksums(const World &world, const std::string &folder, const std::vector<std::string> &required,
                       bool &isThere);

} // namespace galvatron

#endif
