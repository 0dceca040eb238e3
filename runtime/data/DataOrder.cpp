//===- DataOrder.cpp - what decides which tokens a step reads, and the place in it --------------===//
#include "runtime/data/DataOrder.h"

#include <algorithm>
#include <sstream>

namespace galvatron {
namespace {

std::string describeData(const DataOrder &data) {
  if (data.isRandom())
    return "random tokens, seed " + std::to_string(data.seed);
  if (data.datasets.empty())
    return data.file + ", " + std::to_string(data.tokens) + " tokens in " + std::to_string(data.bytes) + " bytes";
  std::ostringstream text;
  for (const DatasetOrder &dataset : data.datasets)
    text << (text.tellp() ? " and " : "") << dataset.name << " of " << dataset.bytes << " bytes, share "
         << dataset.weight;
  return text.str();
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

/// The same files in the same shares.
bool areSameData(const DataOrder &a, const DataOrder &b) {
  if (a.isRandom() && b.isRandom())
    return a.seed == b.seed;
  auto isSame = [](const DatasetOrder &x, const DatasetOrder &y) {
    return x.name == y.name && x.bytes == y.bytes && x.weight == y.weight;
  };
  return a.file == b.file && a.bytes == b.bytes && a.tokens == b.tokens &&
         std::equal(a.datasets.begin(), a.datasets.end(), b.datasets.begin(), b.datasets.end(), isSame);
}

/// What differs, under the word that accepts it.
struct Difference {
  const char *word;
  std::string text;
};

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

std::vector<Difference> findDifferences(const DataOrder &saved, const DataOrder &now) {
  std::vector<Difference> found;
  auto add = [&](const char *word, const std::string &before, const std::string &after) {
    found.push_back({word, before + ", not " + after});
  };
  if (!areSameData(saved, now))
    add("data", describeData(saved), describeData(now));
  if (saved.samples != now.samples)
    add("samples", "samples " + saved.samples, now.samples);
  else if (saved.isWindows())
    findOtherWindows(saved, now, add);
  else
    findOtherOrder(saved, now, add);
  if (saved.sequence != now.sequence)
    add("seq", "in sequences of " + std::to_string(saved.sequence), std::to_string(now.sequence) + " tokens");
  if (saved.eod != now.eod || saved.resets != now.resets)
    add("documents", describeDocuments(saved), describeDocuments(now));
  return found;
}

} // namespace

Status checkSameData(const std::string &checkpoint, const DataOrder &saved, const DataOrder &now,
                     const std::set<std::string> &overrides) {
  std::string words, text;
  bool isAccepted = true;
  for (const Difference &difference : findDifferences(saved, now)) {
    words += (words.empty() ? "" : ",") + std::string(difference.word);
    text += (text.empty() ? "" : "; ") + difference.text;
    isAccepted &= overrides.contains("all") || overrides.contains(difference.word);
  }
  return isAccepted ? Status::success()
                    : Status::error(checkpoint, " was trained on other data than this run would be: on ", text,
                                    "; give it what it had, or pass --override ", words, " to go on at the same token");
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
