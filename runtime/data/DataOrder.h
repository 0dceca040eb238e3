//===- DataOrder.h - what decides which tokens a step reads, and the place in it ---------------===//
//
// A run that goes on from a checkpoint has to read what the first one would have read next. So a checkpoint says what
// its data was, a difference is an error unless it is meant, and the place is then the same token, not the same window.
//
//===--------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_DATAORDER_H
#define GALVATRON_RUNTIME_DATA_DATAORDER_H

#include "runtime/core/Status.h"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace galvatron {

/// One of the datasets of indexed data, and how its samples were ordered.
struct DatasetOrder {
  std::string name;                             // without its folder, which may move
  int64_t bytes = 0, sequences = 0, tokens = 0; // of PREFIX.bin; of its share
  double weight = 1;                            // of all samples
  int64_t epochs = 1;                           // shuffled together, but for the last where it is apart
  bool isLastApart = false;
  std::string contents; // `fingerprint` of both files; empty in old checkpoints

  bool operator==(const DatasetOrder &) const = default;
};

struct DataOrder {
  std::string samples = "windows"; // as --samples names it
  std::string file;                // without its folder, which may move; empty: random tokens
  int64_t bytes = 0, tokens = 0;
  std::string contents; // `fingerprint` of the file; empty in old checkpoints
  int64_t sequence = 1;
  /// Window 0 begins at this token: below `sequence`, and 0 but for a run that went on with longer sequences from a
  /// place that is no whole number of them.
  int64_t origin = 0;
  bool shuffle = false;
  uint64_t seed = 0;
  int64_t eod = -1;    // a token without a label, with which documents end where these are kept apart; -1: none
  bool resets = false; // documents are kept apart: those of `eod`, else of the index
  std::vector<DatasetOrder> datasets; // of indexed data, labels after them; then `seed` is that of their order
  std::string split;                  // as --split names it; empty: all is training data

  bool isRandom() const { return file.empty() && datasets.empty(); }
  bool isWindows() const { return samples == "windows"; }
  /// Of one file or one folder, not of datasets with an index.
  bool isPlain() const { return isWindows() || samples == "folder"; }
  int64_t numWindows() const { return tokens > origin ? (tokens - origin) / sequence : 0; }
};

/// What differs between a checkpoint's run and this one, under the word of --override that accepts it.
struct Difference {
  std::string word, text;
};

/// The words are: "shuffle" (order of windows), "seq" (sequence), "data" (files with their sizes and
/// weights), "documents" (eod, resets), "samples", "split", "data-seed" and "train-samples" (epochs of each dataset).
std::vector<Difference> findDifferences(const DataOrder &saved, const DataOrder &now);

/// Whether --override has the word, or "all".
bool accepts(const std::set<std::string> &overrides, const Difference &difference);

/// Moves `now` to where `saved` stopped after `samples` windows: sets its origin, returns its next sample. In whole
/// rounds and tokens of the round: after 48 windows of 64 tokens, window 24 of 128, which begins at token 3072 as well.
/// After the end of a shorter file one goes round. Samples other than windows are counted: as many tokens are left out
/// as were trained on.
int64_t goOn(const DataOrder &saved, int64_t samples, DataOrder &now);

} // namespace galvatron

#endif
