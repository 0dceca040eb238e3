//===- Windows.cpp - which tokens each step trains on ------------------------------------------===//
#include "runtime/data/Windows.h"

#include "runtime/api/Documents.h"

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
  // A file that is read in a second or so is checked to its end; of a longer one, what is trained on.
  constexpr int64_t kWholeFile = 1 << 28; // tokens
  int64_t begin = order.origin + first % windows * sequence;
  count *= sequence;
  if (file->numTokens() <= kWholeFile || order.shuffle || begin + count > order.origin + windows * sequence) {
    begin = 0;
    count = file->numTokens();
  }
  int64_t from = begin + count * rank / size, to = begin + count * (rank + 1) / size;
  return file->check(from, to - from);
}

Status Windows::readSample(int64_t sample, int64_t *tokens) const {
  int64_t sequence = manifest.sequence;
  if (file)
    return file->read(firstToken(sample), sequence, tokens);
  random::Stream stream{random::mix(~random::mix(order.seed)), (uint64_t)sample};
  for (int64_t i = 0; i < sequence; ++i)
    tokens[i] = (uint64_t)stream.bits(i) * manifest.vocabulary >> 32;
  return Status::success();
}

Status Windows::fill(gvrt_context &context, const Device &device, char *arena, int64_t firstSample) const {
  std::vector<int64_t> tokens(manifest.sequence), row;
  for (const InputInfo &input : manifest.inputs)
    for (int64_t microBatch = 0; microBatch < manifest.microBatches; ++microBatch) {
      PositionMap map(context.coordinates, microBatch, input.placement.data(), input.shape.size());
      std::vector<int64_t> columns = map.indices(1);
      row.resize(columns.size());
      char *to = arena + input.offset + microBatch * input.bytesPerMicroBatch;
      int64_t rowBytes = columns.size() * sizeof(int64_t);
      for (int64_t b : map.indices(0)) {
        if (Status status = readSample(firstSample + b, tokens.data()); !status.ok())
          return status;
        PackedRow<int64_t> packed(tokens, order.eod);
        for (size_t i = 0; i < columns.size(); ++i) // beyond the sequence lies what pads it
          row[i] = columns[i] < manifest.sequence ? packed.input(input.name)[columns[i]] : 0;
        device.hooks->copyToDevice(&context, to, row.data(), rowBytes);
        to += rowBytes;
      }
    }
  return Status::success();
}

} // namespace galvatron
