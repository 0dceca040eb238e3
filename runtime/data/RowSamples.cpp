//===- RowSamples.cpp - whole sequences in rows, for fine-tuning --------------------------------===//
#include "runtime/data/RowSamples.h"
#include "runtime/api/CounterRandom.h"
#include "runtime/api/Documents.h"
#include "runtime/data/Windows.h"

#include <algorithm>

namespace galvatron {

template <typename Visit> void RowSamples::forPackedRows(Visit visit) const {
  int64_t used = request.sequence + 1; // tokens of the last row; no room before the first
  for (size_t i = 0; i < request.data.size(); ++i)
    for (int64_t j = 0; j < datasets[i].numSequences(); ++j) {
      int64_t length = datasets[i].length(j);
      if (used + length > request.sequence) {
        visit(bounds[i] + j);
        used = 0;
      }
      used += length;
    }
}

Status RowSamples::open(const Request &request, RowSamples &samples) {
  samples = RowSamples();
  samples.request = request;
  if (samples.hasLabels() && request.labels.size() != request.data.size())
    return Status::error(request.labelsOption, " names ", request.labels.size(), " datasets, but ", request.dataOption,
                         " ", request.data.size(), "; give one of labels for each");
  for (const std::vector<std::string> *prefixes : {&request.data, &request.labels})
    for (const std::string &prefix : *prefixes) {
      bool areLabels = prefixes == &request.labels;
      IndexedDataset &dataset = samples.datasets.emplace_back();
      Status status = IndexedDataset::open(prefix, request.vocabulary, dataset, areLabels);
      if (status.ok())
        status = dataset.checkIndex();
      if (!status.ok())
        return std::move(status).about(areLabels ? request.labelsOption : request.dataOption);
    }
  for (size_t i = 0; i < request.labels.size(); ++i)
    if (Status status = samples.checkLabels(i).about(request.labelsOption); !status.ok())
      return status;
  samples.bounds = {0};
  for (size_t i = 0; i < request.data.size(); ++i)
    samples.bounds.push_back(samples.bounds.back() + samples.datasets[i].numSequences());
  if (!request.arePacked) {
    samples.count = samples.bounds.back();
    return Status::success();
  }
  if (Status status = samples.checkLengths().about(request.dataOption); !status.ok())
    return status;
  samples.forPackedRows([&](int64_t) { ++samples.count; });
  return Status::success();
}

Status RowSamples::checkLabels(size_t number) const {
  const IndexedDataset &data = datasets[number], &labels = datasets[request.data.size() + number];
  if (data.numSequences() != labels.numSequences())
    return Status::error(labels.getPrefix(), " has labels for ", labels.numSequences(), " sequences, but ",
                         data.getPrefix(), " has ", data.numSequences(), "; write both in one go");
  for (int64_t i = 0; i < data.numSequences(); ++i)
    if (data.length(i) != labels.length(i))
      return Status::error(labels.getPrefix(), " has ", labels.length(i), " labels for sequence ", i, ", but ",
                           data.getPrefix(), " has ", data.length(i), " tokens there; write both in one go");
  return Status::success();
}

Status RowSamples::checkLengths() const {
  for (size_t i = 0; i < request.data.size(); ++i)
    for (int64_t j = 0; j < datasets[i].numSequences(); ++j)
      if (int64_t length = datasets[i].length(j); length > request.sequence)
        return Status::error(datasets[i].getPrefix(), ": sequence ", j, " has ", length,
                             " tokens, more than a packed row of ", request.sequence,
                             " holds; cut it before, or take --samples row, which does");
  return Status::success();
}

void RowSamples::build(const Host *host) {
  if (!request.arePacked)
    return;
  auto fill = [&](char *table) {
    auto *row = reinterpret_cast<int64_t *>(table);
    forPackedRows([&](int64_t first) { *row++ = first; });
    *row = bounds.back();
  };
  int64_t bytes = (count + 1) * sizeof(int64_t);
  std::shared_ptr<const char> table = host ? host->makeTable(bytes, fill) : makeOwnTable(bytes, fill);
  packed = {table, reinterpret_cast<const int64_t *>(table.get())};
}

Status RowSamples::check(int64_t first, int64_t count, int rank, int size) const {
  if (numRows() < request.batch)
    return Status::error(request.data.front(), request.data.size() > 1 ? " and others make " : " makes ", numRows(),
                         " rows, but one batch needs ", request.batch, "; use more data or a smaller --global-batch");
  int64_t tokens = 0;
  for (const IndexedDataset &dataset : datasets)
    tokens += dataset.numTokens(0, dataset.numSequences());
  if (isReadWhole(tokens)) {
    for (const IndexedDataset &dataset : datasets) {
      int64_t sequences = dataset.numSequences();
      if (Status status = dataset.checkTokens(sequences * rank / size, sequences * (rank + 1) / size); !status.ok())
        return status;
    }
    return Status::success();
  }
  return tryReading(first, std::min(request.batch, count), rank, size);
}

RowSamples::Place RowSamples::find(int64_t sequence) const {
  size_t dataset = std::upper_bound(bounds.begin(), bounds.end(), sequence) - bounds.begin() - 1;
  return {dataset, sequence - bounds[dataset]};
}

Status RowSamples::read(int64_t number, Sample &sample) const {
  int64_t place = number % numRows();
  if (request.shuffle)
    place = permute(place, numRows(), random::mix(request.seed) ^ (number / numRows()));
  sample.tokens.assign(request.sequence, request.padToken);
  sample.labels.assign(request.sequence, kIgnoredLabel);
  sample.ends.assign(request.sequence, false);
  int64_t begin = 0;
  for (int64_t i = firstOf(place); i < firstOf(place + 1); ++i) {
    Place at = find(i);
    int64_t count = std::min(datasets[at.dataset].length(at.sequence), request.sequence - begin);
    if (count == 0)
      continue;
    if (Status status = readSequence(at, begin, count, sample); !status.ok())
      return status;
    begin += count;
    sample.ends[begin - 1] = true;
  }
  return Status::success();
}

Status RowSamples::readSequence(const Place &place, int64_t begin, int64_t count, Sample &sample) const {
  const IndexedDataset &data = datasets[place.dataset];
  if (Status status = data.read(place.sequence, 0, count, &sample.tokens[begin]); !status.ok())
    return status;
  // What a position predicts is the value at the next token.
  if (!hasLabels()) {
    std::copy_n(sample.tokens.begin() + begin + 1, count - 1, sample.labels.begin() + begin);
    return Status::success();
  }
  const IndexedDataset &labels = datasets[request.data.size() + place.dataset];
  return labels.read(place.sequence, 1, count - 1, &sample.labels[begin]);
}

std::string RowSamples::describe() const {
  std::string text;
  for (size_t i = 0; i < datasets.size(); ++i) {
    const IndexedDataset &data = datasets[i];
    text += (i ? "\n            " : "") + data.getPrefix() + ": " + std::to_string(data.numSequences()) +
            " sequences, " + std::to_string(data.numTokens(0, data.numSequences())) +
            (i < request.data.size() ? " tokens" : " labels") + " of type " + data.type();
  }
  return text + "\n            in " + std::to_string(numRows()) + (request.arePacked ? " packed rows" : " rows") +
         (request.shuffle ? ", shuffled" : "");
}

} // namespace galvatron
