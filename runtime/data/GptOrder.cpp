//===- GptOrder.cpp - the samples of one dataset as Megatron's GPTDataset orders them -----------===//
#include "runtime/data/GptOrder.h"
#include "runtime/data/NumpyRandom.h"

#include <algorithm>
#include <numeric>

namespace galvatron {

constexpr int64_t kMost = int64_t(1) << 32; // what a table counts

/// Samples of so many tokens: each reads one more than it has.
static int64_t samplesOf(int64_t tokens, int64_t sequence) { return tokens > 0 ? (tokens - 1) / sequence : 0; }

void GptOrder::chooseEpochs(const Request &request) {
  epochs = 1, apart = false;
  if (request.samples < 0)
    return;
  epochs = std::max<int64_t>((request.samples * request.sequence + tokens) / tokens, 1); // tokens + 1, rounded up
  int64_t before = samplesOf((epochs - 1) * tokens, request.sequence);
  constexpr double kShare = 0.8;
  apart = epochs > 1 && request.samples - before < int64_t(kShare * double(samplesOf(tokens, request.sequence)));
}

void GptOrder::findPlaces(const IndexedDataset &dataset, int64_t sequence) {
  int64_t entry = 0, offset = 0;
  places.resize(samplesOf(epochs * tokens, sequence));
  for (Place &place : places) {
    // There is a token behind each sample, so this ends; sequences without tokens are passed over.
    for (int64_t length; (length = dataset.length(entries[entry])) <= offset; ++entry)
      offset -= length;
    place = {uint32_t(entry), int32_t(offset)};
    offset += sequence;
  }
}

Status GptOrder::build(const IndexedDataset &dataset, const Request &request, GptOrder &order) {
  order = GptOrder();
  int64_t count = request.last - request.first;
  order.tokens = dataset.numTokens(request.first, request.last);
  if (samplesOf(order.tokens, request.sequence) == 0 && (request.samples < 0 || order.tokens < 2))
    return Status::error(dataset.getPrefix(), " has ", order.tokens, " tokens in the ", count,
                         " sequences of the share, but a sample needs ", request.sequence + 1,
                         "; use more data or a larger share in --split");
  if (request.last > kMost)
    return Status::error(dataset.getPrefix(), " has sequences after the ", kMost,
                         " that an order can name; write them as several datasets");
  if (request.samples < kMost)
    order.chooseEpochs(request);
  if (request.samples >= kMost || order.epochs >= kMost / count ||
      samplesOf(order.epochs * order.tokens, request.sequence) >= kMost)
    return Status::error(dataset.getPrefix(), " would give ", request.samples, " samples of ", order.epochs,
                         " epochs, and an order of ", count,
                         " sequences each is too long; train on more data or fewer samples");
  NumpyRandom random(request.seed);
  order.entries.resize(order.epochs * count);
  for (int64_t i = 0; i < order.epochs; ++i)
    std::iota(&order.entries[i * count], &order.entries[i * count] + count, uint32_t(request.first));
  int64_t together = (order.epochs - order.apart) * count;
  random.shuffle(order.entries.data(), together);
  random.shuffle(order.entries.data() + together, order.entries.size() - together);
  order.findPlaces(dataset, request.sequence);
  int64_t samples = order.places.size();
  together = order.apart ? samplesOf((order.epochs - 1) * order.tokens, request.sequence) : samples;
  order.shuffled.resize(samples);
  std::iota(order.shuffled.begin(), order.shuffled.end(), uint32_t(0));
  random.shuffle(order.shuffled.data(), together);
  random.shuffle(order.shuffled.data() + together, samples - together);
  return Status::success();
}

} // namespace galvatron
