//===- DataOrder.cpp - what decides which tokens a step reads, and the place in it --------------===//
#include "runtime/data/DataOrder.h"

#include <algorithm>
#include <charconv>
#include <sstream>

namespace galvatron {
namespace {

/// As short as it reads back.
std::string numberText(double value) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, value).ptr);
}

std::string describeDataset(const DatasetOrder &dataset, bool withContents) {
  return dataset.name + " of " + std::to_string(dataset.bytes) + " bytes, share " + numberText(dataset.weight) +
         (withContents ? ", contents " + dataset.contents : "");
}

std::string describeData(const DataOrder &data, bool withContents) {
  if (data.isRandom())
    return "random tokens, seed " + std::to_string(data.seed);
  if (data.datasets.empty())
    return data.file + ", " + std::to_string(data.tokens) + " tokens in " + std::to_string(data.bytes) + " bytes" +
           (withContents ? ", contents " + data.contents : "");
  std::string text;
  for (const DatasetOrder &dataset : data.datasets)
    text += (text.empty() ? "" : " and ") + describeDataset(dataset, withContents);
  return text;
}

/// What of a dataset was read, by its split.
std::string describeShares(const DataOrder &data) {
  std::string text = data.split.empty() ? "without --split" : "--split " + data.split;
  for (const DatasetOrder &dataset : data.datasets)
    text += ", " + std::to_string(dataset.sequences) + " sequences of " + dataset.name;
  return text;
}

std::string describeEpochs(const DataOrder &data) {
  std::string text;
  for (const DatasetOrder &dataset : data.datasets)
    text += (text.empty() ? "" : " and ") + std::to_string(dataset.epochs) + " epochs of " + dataset.name +
            (dataset.isLastApart ? ", the last apart" : "");
  return text;
}

std::string describeOrder(const DataOrder &data) {
  return data.shuffle ? "shuffled with seed " + std::to_string(data.seed) : "in the file's order";
}

std::string describeDocuments(const DataOrder &data) {
  if (data.eod < 0)
    return data.resets ? "documents of the index" : "rows of one document each";
  return (data.resets ? "documents that end with token " : "rows without labels at token ") + std::to_string(data.eod);
}

/// A file is known by its contents; where one of both does not say them, by its name.
template <typename T> bool isSameFile(const T &a, const T &b, const std::string &nameOfA, const std::string &nameOfB) {
  bool areKnown = !a.contents.empty() && !b.contents.empty();
  return a.bytes == b.bytes && (areKnown ? a.contents == b.contents : nameOfA == nameOfB);
}

bool isSameDataset(const DatasetOrder &a, const DatasetOrder &b) {
  return isSameFile(a, b, a.name, b.name) && a.weight == b.weight;
}

/// The same files in the same shares.
bool areSameData(const DataOrder &a, const DataOrder &b) {
  if (a.isRandom() || b.isRandom())
    return a.isRandom() && b.isRandom() && a.seed == b.seed;
  return isSameFile(a, b, a.file, b.file) && a.tokens == b.tokens &&
         std::equal(a.datasets.begin(), a.datasets.end(), b.datasets.begin(), b.datasets.end(), isSameDataset);
}

/// What of both to tell: of blends of as many datasets only those that differ; contents where nothing else does.
void describeOtherData(const DataOrder &saved, const DataOrder &now, std::string &before, std::string &after) {
  DataOrder a = saved, b = now;
  if (saved.datasets.size() == now.datasets.size() && !saved.datasets.empty()) {
    a.datasets.clear(), b.datasets.clear();
    for (size_t i = 0; i < saved.datasets.size(); ++i)
      if (!isSameDataset(saved.datasets[i], now.datasets[i])) {
        a.datasets.push_back(saved.datasets[i]);
        b.datasets.push_back(now.datasets[i]);
      }
  }
  bool looksAlike = describeData(a, false) == describeData(b, false);
  before = describeData(a, looksAlike);
  after = describeData(b, looksAlike);
}

template <typename Add> void findOtherWindows(const DataOrder &saved, const DataOrder &now, const Add &add) {
  bool bothRandom = saved.isRandom() && now.isRandom();
  if (!bothRandom && (saved.shuffle != now.shuffle || (now.shuffle && saved.seed != now.seed)))
    add("shuffle", describeOrder(saved), describeOrder(now));
}

/// Of indexed data: what would order the same datasets otherwise. Of rows, --shuffle.
template <typename Add> void findOtherOrder(const DataOrder &saved, const DataOrder &now, const Add &add) {
  bool areShuffled = now.samples == "gpt" || (saved.shuffle && now.shuffle);
  if (saved.shuffle != now.shuffle)
    add("shuffle", describeOrder(saved), describeOrder(now));
  if (saved.seed != now.seed && areShuffled)
    add("data-seed", "ordered by --data-seed " + std::to_string(saved.seed), std::to_string(now.seed));
  auto differ = [&](auto member) {
    return !std::equal(saved.datasets.begin(), saved.datasets.end(), now.datasets.begin(), now.datasets.end(),
                       [&](const DatasetOrder &a, const DatasetOrder &b) { return member(a) == member(b); });
  };
  bool areNamed = saved.datasets.size() != now.datasets.size(); // then "data" says so
  if (!areNamed && differ([](const DatasetOrder &d) { return std::pair(d.sequences, d.tokens); }))
    add("split", describeShares(saved), describeShares(now));
  if (!areNamed && differ([](const DatasetOrder &d) { return std::pair(d.epochs, d.isLastApart); }))
    add("train-samples", describeEpochs(saved), describeEpochs(now));
}

} // namespace

std::vector<Difference> findDifferences(const DataOrder &saved, const DataOrder &now) {
  std::vector<Difference> found;
  auto add = [&](const char *word, const std::string &before, const std::string &after) {
    found.push_back({word, before + ", not " + after});
  };
  if (!areSameData(saved, now)) {
    std::string before, after;
    describeOtherData(saved, now, before, after);
    add("data", before, after);
  }
  if (saved.samples != now.samples)
    add("samples", "samples " + saved.samples, now.samples);
  else if (saved.isPlain())
    findOtherWindows(saved, now, add);
  else
    findOtherOrder(saved, now, add);
  if (saved.sequence != now.sequence)
    add("seq", "in sequences of " + std::to_string(saved.sequence), std::to_string(now.sequence) + " tokens");
  if (saved.eod != now.eod || saved.resets != now.resets)
    add("documents", describeDocuments(saved), describeDocuments(now));
  return found;
}

bool accepts(const std::set<std::string> &overrides, const Difference &difference) {
  bool isByOption =
      difference.word == "documents" && (overrides.contains("eod") || overrides.contains("reset-at-documents"));
  return isByOption || overrides.contains("all") || overrides.contains(difference.word);
}

int64_t goOn(const DataOrder &saved, int64_t samples, DataOrder &now) {
  if (!saved.isWindows() || !now.isWindows())
    return (samples * saved.sequence + now.sequence - 1) / now.sequence;
  int64_t windows = saved.isRandom() ? 0 : saved.numWindows();
  int64_t rounds = windows > 0 ? samples / windows : 0;
  int64_t place = saved.origin + (samples - rounds * windows) * saved.sequence; // tokens of the round
  if (now.isRandom())
    return rounds * windows * saved.sequence / now.sequence + (place + now.sequence - 1) / now.sequence;
  now.origin = place % now.sequence;
  if (place / now.sequence >= now.numWindows())
    now.origin = 0;
  return rounds * now.numWindows() + place / now.sequence;
}

} // namespace galvatron
