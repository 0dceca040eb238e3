//===- GptOrder.cpp - the samples of one dataset as Megatron's GPTDataset orders them -----------===//
#include "runtime/data/GptOrder.h"
#include "runtime/data/NumpyRandom.h"

#include <algorithm>
#include <numeric>

namespace galvatron {

constexpr int64_t kMost = int64_t(1) << 32; // what a table counts

/// Samples of so many tokens: each reads one more than it has.
static int64_t samplesOf(int64_t tokens, int64_t sequence) { return tokens > 0 ? (tokens - 1) / sequence : 0; }

void GptOrder::chooseEpochs() {
  epochs = 1, apart = false;
  if (request.samples < 0)
    return;
  epochs = std::max<int64_t>((request.samples * request.sequence + tokens) / tokens, 1); // tokens + 1, rounded up
  int64_t before = samplesOf((epochs - 1) * tokens, request.sequence);
  constexpr double kShare = 0.8;
  apart = epochs > 1 && request.samples - before < int64_t(kShare * double(samplesOf(tokens, request.sequence)));
}

Status GptOrder::plan(const IndexedDataset &dataset, const Request &request, GptOrder &order) {
  order = GptOrder();
  order.request = request;
  int64_t count = order.numSequences();
  order.tokens = dataset.numTokens(request.first, request.last);
  if (samplesOf(order.tokens, request.sequence) == 0 && (request.samples < 0 || order.tokens < 2))
    return Status::error(dataset.getPrefix(), " has ", order.tokens, " tokens in the ", count,
                         " sequences of the share, but a sample needs ", request.sequence + 1,
                         "; use more data or a larger share in --split");
  if (request.last > kMost)
    return Status::error(dataset.getPrefix(), " has sequences after the ", kMost,
                         " that an order can name; write them as several datasets");
  if (request.samples < kMost)
    order.chooseEpochs();
  order.samples = order.epochs < kMost / count ? samplesOf(order.epochs * order.tokens, request.sequence) : kMost;
  if (request.samples >= kMost || order.samples >= kMost)
    return Status::error(dataset.getPrefix(), " would give ", request.samples, " samples of ", order.epochs,
                         " epochs, and an order of ", count,
                         " sequences each is too long; train on more data or fewer samples");
  return Status::success();
}

int64_t GptOrder::numBytes() const {
  int64_t bytes = samples * (sizeof(Place) + sizeof(uint32_t)) + numEntries() * sizeof(uint32_t);
  return (bytes + alignof(Place) - 1) / alignof(Place) * alignof(Place);
}

void GptOrder::use(std::shared_ptr<const char> newTables) {
  tables = std::move(newTables);
  places = reinterpret_cast<const Place *>(tables.get());
  entries = reinterpret_cast<const uint32_t *>(places + samples);
  shuffled = entries + numEntries();
}

void GptOrder::findPlaces(const IndexedDataset &dataset, const uint32_t *order, Place *found) const {
  int64_t entry = 0, offset = 0;
  for (Place *place = found; place != found + samples; ++place) {
    // There is a token behind each sample, so this ends; sequences without tokens are passed over.
    for (int64_t length; (length = dataset.length(order[entry])) <= offset; ++entry)
      offset -= length;
    *place = {uint32_t(entry), int32_t(offset)};
    offset += request.sequence;
  }
}

void GptOrder::fill(const IndexedDataset &dataset, char *at) const {
  auto *newPlaces = reinterpret_cast<Place *>(at);
  auto *order = reinterpret_cast<uint32_t *>(newPlaces + samples), *numbers = order + numEntries();
  NumpyRandom random(request.seed);
  int64_t count = numSequences();
  for (int64_t i = 0; i < epochs; ++i)
    std::iota(order + i * count, order + (i + 1) * count, uint32_t(request.first));
  int64_t together = (epochs - apart) * count;
  random.shuffle(order, together);
  random.shuffle(order + together, numEntries() - together);
  findPlaces(dataset, order, newPlaces);
  together = apart ? samplesOf((epochs - 1) * tokens, request.sequence) : samples;
  std::iota(numbers, numbers + samples, uint32_t(0));
  random.shuffle(numbers, together);
  random.shuffle(numbers + together, samples - together);
}

} // namespace galvatron
