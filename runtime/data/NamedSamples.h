//===- NamedSamples.h - samples of named inputs, from a folder or drawn ------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_NAMEDSAMPLES_H
#define GALVATRON_RUNTIME_DATA_NAMEDSAMPLES_H

#include "galvatron/Support/DataFolder.h"
#include "runtime/core/Manifest.h"
#include "runtime/data/DataOrder.h"
#include "runtime/data/Samples.h"

namespace galvatron {

/// Sample n is that of the folder with number n modulo their number, through a permutation of this round if shuffled.
/// Without a folder it is drawn from (seed, n). A program of tokens reads input_ids and labels of a folder as its
/// forward takes them; where labels are given as what each position is to predict, they are those of the next.
class NamedSamples : public Samples {
public:
  NamedSamples(const Manifest &manifest, std::optional<data::Folder> folder, const DataOrder &order)
      : manifest(manifest), folder(std::move(folder)), order(order) {}

  Status check(int64_t first, int64_t count, int rank, int size) const override;
  int64_t numInEpoch() const override { return folder ? folder->numSamples() : 0; }
  Status read(int64_t number, Sample &sample) const override;
  Status readField(int64_t number, size_t field, char *out) const override;

private:
  const Manifest &manifest;
  std::optional<data::Folder> folder;
  DataOrder order;
};

} // namespace galvatron

#endif
