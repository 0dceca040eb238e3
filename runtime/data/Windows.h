//===- Windows.h - which tokens each step trains on ------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_WINDOWS_H
#define GALVATRON_RUNTIME_DATA_WINDOWS_H

#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/data/DataOrder.h"
#include "runtime/data/TokenFile.h"

#include <optional>

namespace galvatron {

/// Window w of a file is tokens w·sequence … w·sequence + sequence - 1, counted from the order's origin. Row b of a
/// step is sample n = b + the step's first sample: window n modulo the number of windows, through a permutation of this
/// round if shuffled. Without a file, tokens are drawn from (seed, n, position).
class Windows {
public:
  Windows(const Manifest &manifest, std::optional<TokenFile> file, const DataOrder &order)
      : manifest(manifest), file(std::move(file)), order(order) {}

  /// Whether there are enough tokens, and at least all of samples `first` … `first + count - 1` are in the vocabulary.
  /// Each of `size` ranks reads its share.
  Status check(int64_t first, int64_t count, int rank, int size) const;

  /// Writes this rank's part of a step's inputs, all micro-batches, into the arena; 0 where positions are padded.
  Status fill(gvrt_context &context, const Device &device, char *arena, int64_t firstSample) const;

  const DataOrder &dataOrder() const { return order; }
  /// Of a file: the first token of sample n.
  int64_t firstToken(int64_t sample) const;

private:
  Status readSample(int64_t sample, int64_t *tokens) const;

  const Manifest &manifest;
  std::optional<TokenFile> file;
  DataOrder order;
};

/// The place of `index` in a permutation of 0 … size - 1 drawn from `key`: a Feistel network on the next power of four,
/// walked until it lands below `size`; no table.
int64_t permute(int64_t index, int64_t size, uint64_t key);

} // namespace galvatron

#endif
