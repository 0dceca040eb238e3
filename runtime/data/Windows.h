//===- Windows.h - samples that are windows of a file, or random -----------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_WINDOWS_H
#define GALVATRON_RUNTIME_DATA_WINDOWS_H

#include "runtime/core/Manifest.h"
#include "runtime/data/DataOrder.h"
#include "runtime/data/Samples.h"
#include "runtime/data/TokenFile.h"

#include <optional>

namespace galvatron {

/// Window w of a file is tokens w·sequence … w·sequence + sequence - 1, counted from the order's origin. Sample n is
/// window n modulo the number of windows, through a permutation of this round if shuffled. Without a file, tokens are
/// drawn from (seed, n, position).
class Windows : public Samples {
public:
  Windows(const Manifest &manifest, std::optional<TokenFile> file, const DataOrder &order)
      : manifest(manifest), file(std::move(file)), order(order) {}

  Status check(int64_t first, int64_t count, int rank, int size) const override;
  int64_t numInEpoch() const override { return file ? order.numWindows() : 0; }
  Status read(int64_t number, Sample &sample) const override;

private:
  /// Of a file: the first token of sample n.
  int64_t firstToken(int64_t sample) const;

  const Manifest &manifest;
  std::optional<TokenFile> file;
  DataOrder order;
};

/// The place of `index` in a permutation of 0 … size - 1 drawn from `key`: a Feistel network on the next power of four,
/// walked until it lands below `size`; no table.
int64_t permute(int64_t index, int64_t size, uint64_t key);

} // namespace galvatron

#endif
