//===- Samples.h - tokens that steps train on, sample by sample --------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_SAMPLES_H
#define GALVATRON_RUNTIME_DATA_SAMPLES_H

#include "runtime/core/Status.h"

#include <cassert>
#include <cstdint>
#include <vector>

namespace galvatron {

class Host;

struct Sample {
  std::vector<int64_t> tokens; // those of the row, and perhaps one more that the last of them is to predict
  std::vector<int64_t> labels; // what each is to predict, kIgnoredLabel where nothing; empty: the token after it
  std::vector<bool> ends;      // of each, whether it is the last of a document; empty: nothing tells
};

/// Sample n is row n modulo B of step n / B + 1. It depends on data and seed alone, under any plan.
class Samples {
public:
  virtual ~Samples() = default;

  /// Makes the order of what is opened: collective over the ranks of `host`, which make it once; without one it is this
  /// process' own.
  virtual void build([[maybe_unused]] const Host *host) {}
  /// Whether there is enough for samples `first` … `first + count - 1`, and tokens are in the vocabulary: all of them,
  /// of data that would take long to read what is needed first. Each of `size` ranks reads its share.
  virtual Status check(int64_t first, int64_t count, int rank, int size) const = 0;
  /// How many there are when each is taken once; 0: they do not come to an end.
  virtual int64_t numInEpoch() const = 0;
  virtual Status read(int64_t number, Sample &sample) const = 0;
  /// Of a program that reads other data than tokens: what `Manifest::fields[field]` has in this sample.
  virtual Status readField([[maybe_unused]] int64_t number, [[maybe_unused]] size_t field,
                           [[maybe_unused]] char *out) const {
    assert(false && "samples of tokens have no fields");
    return Status::success();
  }

protected:
  /// Whether data of so many tokens are checked to their end, which then takes a second or so; of more, what the first
  /// step reads is, as all is where it is read.
  static bool isReadWhole(int64_t tokens) { return tokens <= int64_t(1) << 28; }
  /// Reads this rank's share of samples `first` … `first + count - 1`, only to check them.
  Status tryReading(int64_t first, int64_t count, int rank, int size) const {
    Sample sample;
    for (int64_t n = count * rank / size; n < count * (rank + 1) / size; ++n)
      if (Status status = read(first + n, sample); !status.ok())
        return status;
    return Status::success();
  }
};

} // namespace galvatron

#endif
