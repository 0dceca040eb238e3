//===- Windows.cpp - samples that are windows of a file, or random -----------------------------===//
#include "runtime/data/Windows.h"

#include "runtime/api/CounterRandom.h"

#include <algorithm>

namespace galvatron {

int64_t permute(int64_t index, int64_t size, uint64_t key) {
  int half = 1; // bits of each half
  while ((int64_t(1) << (2 * half)) < size)
    ++half;
  uint64_t mask = (uint64_t(1) << half) - 1, value = index;
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      uint64_t next = left ^ (random::mix(random::mix(key + round) ^ right) & mask);
      left = right;
      right = next;
    }
    value = left << half | right;
  } while ((int64_t)value >= size);
  return value;
}

int64_t Windows::firstToken(int64_t sample) const {
  int64_t windows = order.numWindows(), round = sample / windows, place = sample % windows;
  int64_t window = order.shuffle ? permute(place, windows, random::mix(order.seed) ^ round) : place;
  return order.origin + window * order.sequence;
}

Status Windows::check(int64_t first, int64_t count, int rank, int size) const {
  if (!file)
    return Status::success();
  int64_t windows = order.numWindows(), batch = manifest.globalBatch, sequence = manifest.sequence;
  if (windows < batch)
    return Status::error(file->getPath(), " has ", file->numTokens(), " tokens, but one batch needs ", batch,
                         " windows of ", sequence, ", ", batch * sequence,
                         " tokens; use a longer file or a smaller --global-batch");
  int64_t tokens = file->numTokens(), from = tokens * rank / size, to = tokens * (rank + 1) / size;
  return isReadWhole(tokens) ? file->check(from, to - from) : tryReading(first, std::min(batch, count), rank, size);
}

Status Windows::read(int64_t number, Sample &sample) const {
  sample = {std::vector<int64_t>(manifest.sequence), {}, {}};
  if (file)
    return file->read(firstToken(number), manifest.sequence, sample.tokens.data());
  random::Stream stream{random::mix(~random::mix(order.seed)), (uint64_t)number};
  for (int64_t i = 0; i < manifest.sequence; ++i)
    sample.tokens[i] = (uint64_t)stream.bits(i) * manifest.vocabulary >> 32;
  return Status::success();
}

} // namespace galvatron
