//===- Resume.cpp - whether a run may go on from a checkpoint ------------------------------------------===//
#include "runtime/checkpoint/Resume.h"

#include <algorithm>

namespace galvatron {

ModelIdentity identify(const Catalog &catalog) {
  ModelIdentity identity;
  std::vector<std::string> lines;
  for (const Catalog::Entry &entry : catalog.entries()) {
    lines.push_back(entry.name + " " + shapeText(entry.shape) + "\n");
    identity.elements += entry.numElements();
  }
  identity.tensors = (int64_t)lines.size();
  std::sort(lines.begin(), lines.end()); // the order is the plan's
  std::string text;
  for (const std::string &line : lines)
    text += line;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", (unsigned long long)random::hashName(text.data(), text.size()));
  identity.hash = digits;
  return identity;
}

static std::string describe(const ModelIdentity &model) {
  return std::to_string(model.elements) + " elements in " + std::to_string(model.tensors) + " parameters (" +
         model.hash + ")";
}

std::vector<Difference> findOtherModel(const TrainingState &saved, const TrainingState &now) {
  if (saved.model.hash.empty() || saved.model.hash == now.model.hash)
    return {};
  return {{"model", "a model of " + describe(saved.model) + ", not " + describe(now.model)}};
}

/// The option by whose value another one counts or not; where that differs, it alone is told.
static std::string parentOf(const std::string &flag) {
  static const std::map<std::string, std::string> parents = {
      {"--betas", "--optimizer"},
      {"--eps", "--optimizer"},
      {"--loss-scale-window", "--loss-scale"},
      {"--min-lr", "--lr-schedule"},
      {"--steps", "--lr-schedule"},
      {"--wsd-decay", "--lr-schedule"},
      {"--wsd-decay-steps", "--lr-schedule"},
      {"--weight-decay-on", "--weight-decay"},
      {"--no-weight-decay", "--weight-decay"}};
  auto found = parents.find(flag);
  return found == parents.end() ? "" : found->second;
}

std::vector<Difference> findDifferences(const TrainingState &saved, const TrainingState &now) {
  std::vector<Difference> found;
  auto compare = [&](const std::string &word, const std::string &what, const std::string &before,
                     const std::string &after) {
    if (before != after)
      found.push_back({word, what + " " + before + ", not " + after});
  };
  if (saved.data && now.data)
    found = findDifferences(*saved.data, *now.data);
  if (!found.empty())
    found[0].text = "on " + found[0].text;
  if (saved.globalBatch)
    compare("batch", "global batch", std::to_string(saved.globalBatch), std::to_string(now.globalBatch));
  if (!saved.precision.empty())
    compare("precision", "precision", saved.precision, now.precision);
  if (saved.settings.empty())
    return found;
  compare("seed", "--seed", std::to_string(saved.seed), std::to_string(now.seed));
  std::set<std::string> flags;
  for (const auto *settings : {&saved.settings, &now.settings})
    for (const auto &[flag, value] : *settings)
      flags.insert(flag);
  auto valueOf = [](const TrainingState &state, const std::string &flag) {
    auto found = state.settings.find(flag);
    return found == state.settings.end() ? std::string("unset") : found->second;
  };
  for (const std::string &flag : flags) {
    if (flag == "--loss-scale" && saved.precision != now.precision)
      continue; // it comes with fp16
    std::string parent = parentOf(flag);
    bool isInBoth = saved.settings.contains(flag) && now.settings.contains(flag);
    if (isInBoth || valueOf(saved, parent) == valueOf(now, parent))
      compare(flag.substr(2), flag, valueOf(saved, flag), valueOf(now, flag));
  }
  return found;
}

Status checkDifferences(const std::string &checkpoint, const std::vector<Difference> &differences,
                        const std::set<std::string> &overrides, int64_t step, TrainingState &now) {
  std::string words, text;
  bool isAccepted = true;
  for (const Difference &difference : differences) {
    words += (words.empty() ? "" : ",") + difference.word;
    text += (text.empty() ? "" : "; ") + difference.text;
    isAccepted &= accepts(overrides, difference);
  }
  if (!isAccepted)
    return Status::error(checkpoint, " was trained otherwise than this run would be: ", text,
                         "; give it what it had, or pass --override ", words, " to go on all the same");
  for (const Difference &difference : differences)
    now.overridden.push_back({step, difference.word, difference.text});
  return Status::success();
}

} // namespace galvatron
