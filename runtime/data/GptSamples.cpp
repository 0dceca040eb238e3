//===- GptSamples.cpp - the order of samples that Megatron's GPTDataset has ---------------------===//
#include "runtime/data/GptSamples.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>

namespace galvatron {

static bool parseWeight(const std::string &word, double &weight) {
  auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), weight);
  return error == std::errc() && end == word.data() + word.size();
}

Status DataWords::parse(const std::vector<std::string> &words, DataWords &data, const char *option) {
  data = DataWords();
  size_t numbers = 0;
  double weight;
  for (size_t i = 0; i < words.size(); i += 2)
    numbers += parseWeight(words[i], weight) && !IndexedDataset::exists(words[i]);
  bool isWeighted = words.size() % 2 == 0 && numbers > 0;
  if (isWeighted && numbers < words.size() / 2)
    return Status::error(option, " has a weight before some of its prefixes, but not before all; give each one, as in ",
                         option, " 30 a 70 b, or none");
  for (size_t i = 0; i < words.size(); ++i) {
    if (!isWeighted || i % 2) {
      data.prefixes.push_back(words[i]);
      continue;
    }
    parseWeight(words[i], weight);
    if (!(weight > 0) || !std::isfinite(weight))
      return Status::error(option, " gives ", words[i + 1], " the weight ", words[i],
                           ", but weights are numbers above 0; leave out what is not to be read");
    data.weights.push_back(weight);
  }
  std::error_code ignored;
  for (const std::string &prefix : data.prefixes)
    if (std::filesystem::is_regular_file(prefix, ignored))
      return Status::error(option, " takes one file, or prefixes of indexed data, but the file ", prefix,
                           " stands among several words; write it as indexed data with python -m galvatron.data");
  return Status::success();
}

std::vector<int64_t> splitSequences(const std::vector<double> &shares, int64_t sequences) {
  std::vector<int64_t> bounds = {0};
  double sum = 0;
  for (double share : normalizeWeights(shares)) {
    sum += share;
    bounds.push_back(int64_t(std::nearbyint(sum * double(sequences))));
  }
  return bounds;
}

Status GptSamples::openDataset(const std::string &prefix) {
  Dataset &dataset = datasets.emplace_back();
  Status status = IndexedDataset::open(prefix, request.vocabulary, dataset.data);
  if (status.ok())
    status = dataset.data.checkIndex();
  if (!status.ok())
    return status;
  std::vector<int64_t> bounds = splitSequences(request.split, dataset.data.numSequences());
  dataset.first = bounds[request.share], dataset.last = bounds[request.share + 1];
  if (dataset.first == dataset.last)
    return Status::error("--split leaves nothing of the ", dataset.data.numSequences(), " sequences of ", prefix,
                         request.share ? " to evaluate" : " to train on", "; give that share more");
  return Status::success();
}

/// Of weighted datasets each is ordered for a little more than its share, as Megatron does; of others for one epoch,
/// which is then the weight.
Status GptSamples::planOrders() {
  constexpr double kSurplus = 1 + 0.005;
  bool isWeighted = !request.data.weights.empty(), isAlone = datasets.size() == 1 && !isWeighted;
  bool isOneEpoch = request.samples < 0;
  if (isOneEpoch && isWeighted)
    return Status::error("--eval-batches 0 evaluates each dataset once, so that weights have no effect; leave them out, "
                         "or say how many batches");
  std::vector<double> weights = isWeighted ? normalizeWeights(request.data.weights) : std::vector<double>();
  int64_t sum = 0;
  for (size_t i = 0; i < datasets.size(); ++i) {
    Dataset &dataset = datasets[i];
    int64_t samples = isAlone ? request.samples : -1;
    if (isWeighted)
      samples = std::ceil(std::ceil(double(request.samples) * weights[i]) * kSurplus);
    Status status = GptOrder::plan(
        dataset.data, {dataset.first, dataset.last, samples, request.sequence, request.seed}, dataset.order);
    if (!status.ok())
      return status;
    sum += dataset.order.numSamples();
    if (!isWeighted)
      weights.push_back(dataset.order.numSamples());
  }
  if (isOneEpoch)
    request.samples = sum;
  if (!isWeighted && !isAlone && sum < request.samples)
    return Status::error(request.dataOption, " names datasets of ", sum, " samples of ", request.sequence,
                         " tokens, each read once, but ", request.samples, " are asked for; give weights, as in ",
                         request.dataOption, " 30 a 70 b, or fewer ", request.countOption);
  // Megatron normalizes once more.
  weights = normalizeWeights(weights);
  blend = Blend(weights);
  for (size_t i = 0; i < datasets.size(); ++i)
    datasets[i].weight = weights[i];
  return Status::success();
}

Status GptSamples::open(const Request &request, GptSamples &samples) {
  samples = GptSamples();
  samples.request = request;
  for (const std::string &prefix : request.data.prefixes)
    if (Status status = samples.openDataset(prefix); !status.ok())
      return status;
  return samples.planOrders();
}

void GptSamples::build(const Host *host) {
  std::vector<int64_t> begins = {0}; // of each dataset's tables in one
  for (const Dataset &dataset : datasets)
    begins.push_back(begins.back() + dataset.order.numBytes());
  auto fill = [&](char *tables) {
    for (size_t i = 0; i < datasets.size(); ++i)
      datasets[i].order.fill(datasets[i].data, tables + begins[i]);
  };
  std::shared_ptr<const char> tables =
      host ? host->makeTable(begins.back(), fill) : makeOwnTable(begins.back(), fill);
  for (size_t i = 0; i < datasets.size(); ++i)
    datasets[i].order.use({tables, tables.get() + begins[i]});
}

Status GptSamples::check(int64_t first, int64_t count, int rank, int size) const {
  if (first + count > request.samples)
    return Status::error("samples ", first, " to ", first + count - 1,
                         " are to be trained on, but the order is made for ", request.samples,
                         "; pass --train-samples ", first + count, " or more, or fewer --steps");
  int64_t tokens = 0;
  for (const Dataset &dataset : datasets)
    tokens += dataset.order.numTokens();
  if (isReadWhole(tokens)) {
    for (const Dataset &dataset : datasets) {
      int64_t sequences = dataset.last - dataset.first;
      Status status = dataset.data.checkTokens(dataset.first + sequences * rank / size,
                                               dataset.first + sequences * (rank + 1) / size);
      if (!status.ok())
        return status;
    }
    return Status::success();
  }
  return tryReading(first, std::min(request.batch, count), rank, size);
}

Status GptSamples::read(int64_t number, Sample &sample) const {
  // Only a run that left out samples goes beyond the last: then round.
  Blend::Place place = blend.place(number % request.samples);
  return readPieces(datasets[place.dataset], place.sample, sample);
}

Status GptSamples::readPieces(const Dataset &dataset, int64_t number, Sample &sample) const {
  // A dataset is only taken where it has given no more than its share, so it gives less than that and one.
  assert(number < dataset.order.numSamples());
  GptOrder::Place place = dataset.order.place(number);
  int64_t needed = request.sequence + 1, offset = place.offset;
  sample.labels.clear();
  sample.tokens.resize(needed);
  sample.ends.assign(needed, false);
  for (uint32_t entry = place.entry; needed > 0; ++entry, offset = 0) {
    int64_t sequence = dataset.order.sequenceAt(entry);
    int64_t left = dataset.data.length(sequence) - offset, count = std::min(needed, left);
    int64_t *to = sample.tokens.data() + sample.tokens.size() - needed;
    if (Status status = dataset.data.read(sequence, offset, count, to); !status.ok())
      return status;
    needed -= count;
    if (count == left && count > 0)
      sample.ends[sample.tokens.size() - needed - 1] = true;
  }
  return Status::success();
}

std::string GptSamples::describe() const {
  std::string text;
  for (const Dataset &dataset : datasets) {
    char line[160];
    // The samples that it gives are less than one away from its weight of all.
    double samples = dataset.weight * double(request.samples);
    double epochs = samples * double(request.sequence) / double(dataset.order.numTokens());
    std::snprintf(line, sizeof line, ": %lld sequences, %lld tokens of type %s, share %.4g, %.3g epochs",
                  (long long)(dataset.last - dataset.first), (long long)dataset.order.numTokens(),
                  dataset.data.type().c_str(), dataset.weight, epochs);
    text += (text.empty() ? "" : "\n            ") + dataset.data.getPrefix() + line;
  }
  return text;
}

} // namespace galvatron
