//===- DataOrder.cpp - what decides which tokens a step reads, and the place in it --------------===//
#include "runtime/data/DataOrder.h"

#include <vector>

namespace galvatron {
namespace {

std::string describeFile(const DataOrder &data) {
  if (data.isRandom())
    return "random tokens, seed " + std::to_string(data.seed);
  return data.file + ", " + std::to_string(data.tokens) + " tokens in " + std::to_string(data.bytes) + " bytes";
}

std::string describeOrder(const DataOrder &data) {
  return data.shuffle ? "shuffled with seed " + std::to_string(data.seed) : "in the file's order";
}

std::string describeDocuments(const DataOrder &data) {
  return data.eod < 0 ? "rows of one document each" : "documents that end with token " + std::to_string(data.eod);
}

/// What differs, under the word that accepts it.
struct Difference {
  const char *word;
  std::string text;
};

std::vector<Difference> findDifferences(const DataOrder &saved, const DataOrder &now) {
  std::vector<Difference> found;
  auto add = [&](const char *word, const std::string &before, const std::string &after) {
    found.push_back({word, before + ", not " + after});
  };
  bool bothRandom = saved.isRandom() && now.isRandom();
  if (bothRandom ? saved.seed != now.seed
                 : saved.file != now.file || saved.bytes != now.bytes || saved.tokens != now.tokens)
    add("data", describeFile(saved), describeFile(now));
  if (!bothRandom && (saved.shuffle != now.shuffle || (now.shuffle && saved.seed != now.seed)))
    add("shuffle", describeOrder(saved), describeOrder(now));
  if (saved.sequence != now.sequence)
    add("seq", "in sequences of " + std::to_string(saved.sequence), std::to_string(now.sequence) + " tokens");
  if (saved.eod != now.eod)
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
