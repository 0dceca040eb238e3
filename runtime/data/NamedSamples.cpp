//===- NamedSamples.cpp - samples of named inputs, from a folder or drawn ----------------------===//
#include "runtime/data/NamedSamples.h"

#include "runtime/api/CounterRandom.h"
#include "runtime/api/Documents.h"
#include "runtime/data/Windows.h"

#include <algorithm>

namespace galvatron {

Status NamedSamples::check(int64_t first, int64_t count, int rank, int size) const {
  if (!folder)
    return Status::success();
  if (folder->numSamples() < manifest.globalBatch)
    return Status::error("the data have ", folder->numSamples(), " samples, but one batch needs ", manifest.globalBatch,
                         "; give more, or compile for a smaller --global-batch");
  // Each sample once where that takes a moment, else those of the first step.
  bool isWhole = isReadWhole(folder->numBytes());
  int64_t begin = isWhole ? 0 : first, checked = isWhole ? folder->numSamples() : std::min(count, manifest.globalBatch);
  std::vector<char> values;
  for (int64_t n = checked * rank / size; n < checked * (rank + 1) / size; ++n)
    for (size_t i = 0; i < folder->getFields().size(); ++i) {
      values.resize(size_t(folder->getFields()[i].numBytes()));
      if (Status status = readField(begin + n, i, values.data()); !status.ok())
        return status;
    }
  return Status::success();
}

Status NamedSamples::read(int64_t number, Sample &sample) const {
  size_t length = size_t(manifest.sequence);
  sample = {std::vector<int64_t>(length), std::vector<int64_t>(length), {}};
  Status status = readField(number, 0, reinterpret_cast<char *>(sample.tokens.data()));
  if (status.ok())
    status = readField(number, 1, reinterpret_cast<char *>(sample.labels.data()));
  if (manifest.ignoredLabel) {
    sample.labels.erase(sample.labels.begin());
    sample.labels.push_back(kIgnoredLabel);
  }
  sample.tokens.push_back(0); // whatever it is, labels are given
  return status;
}

Status NamedSamples::readField(int64_t number, size_t field, char *out) const {
  if (!folder) {
    data::drawSample(manifest.fields[field], order.seed, number, out);
    return Status::success();
  }
  int64_t size = folder->numSamples(), round = number / size, place = number % size;
  std::string error;
  if (!folder->read(field, order.shuffle ? permute(place, size, random::mix(order.seed) ^ uint64_t(round)) : place, out,
                    error))
    return Status::error(error);
  return Status::success();
}

} // namespace galvatron
