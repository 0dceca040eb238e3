//===- NamedSamples.cpp - samples of named inputs, from a folder or drawn ----------------------===//
#include "runtime/data/NamedSamples.h"

#include "runtime/api/CounterRandom.h"
#include "runtime/data/Windows.h"

#include <algorithm>

namespace galvatron {

Status NamedSamples::check(int64_t first, int64_t count, int rank, int size) const {
  if (!folder)
    return Status::success();
  if (folder->numSamples() < manifest.globalBatch)
    return Status::error("the data have ", folder->numSamples(), " samples, but one batch needs ",
                         manifest.globalBatch, "; give more, or compile for a smaller --global-batch");
  // Each sample once where that takes a moment, else those of the first step.
  bool isWhole = isReadWhole(folder->numBytes());
  int64_t begin = isWhole ? 0 : first, checked = isWhole ? folder->numSamples() : std::min(count, manifest.globalBatch);
  std::vector<char> values;
  for (int64_t n = checked * rank / size; n < checked * (rank + 1) / size; ++n)
    for (size_t i = 0; i < manifest.fields.size(); ++i) {
      values.resize(size_t(manifest.fields[i].numBytes()));
      if (Status status = readField(begin + n, i, values.data()); !status.ok())
        return status;
    }
  return Status::success();
}

Status NamedSamples::read(int64_t, Sample &) const {
  return Status::error("these samples are of named inputs, but the program reads tokens");
}

Status NamedSamples::readField(int64_t number, size_t field, char *out) const {
  if (!folder) {
    data::drawSample(manifest.fields[field], order.seed, number, out);
    return Status::success();
  }
  int64_t size = folder->numSamples(), round = number / size, place = number % size;
  std::string error;
  if (!folder->read(field, order.shuffle ? permute(place, size, random::mix(order.seed) ^ uint64_t(round)) : place, out, error))
    return Status::error(error);
  return Status::success();
}

} // namespace galvatron
