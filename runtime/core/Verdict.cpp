//===- Verdict.cpp - who waits for whom, in words --------------------------------------------===//
#include "runtime/core/Verdict.h"

#include <algorithm>
#include <sstream>

namespace galvatron {
namespace {

/// The rank, and where it is: "rank 3 (stage 1)" and "step 2, …", of which the second may be empty.
struct Split {
  explicit Split(const std::string &place) {
    size_t comma = place.find(", ");
    rank = place.substr(0, comma);
    where = comma == std::string::npos ? "" : place.substr(comma + 2);
  }
  std::string rank, where;
};

std::string nameOf(const RankView &rank) {
  return Split(rank.place).rank + " on host " + rank.host + ", process " + std::to_string(rank.pid);
}

/// "died", and where it was when it last said so.
std::string describeEnd(const RankView &rank, const std::string &what) {
  std::string where = Split(rank.place).where;
  return nameOf(rank) + ", " + what + (where.empty() ? ", not heard of before" : ", last heard at " + where);
}

std::string describeMissing(const RankView &rank) {
  if (std::string where = Split(rank.place).where; rank.answers)
    return nameOf(rank) + ", busy" + (where.empty() ? "" : " in " + where);
  return describeEnd(rank, rank.isStopped ? "stopped" : rank.isGone ? "gone" : "silent");
}

std::vector<int> findMissing(const std::vector<RankView> &ranks) {
  std::vector<int> ended, silent, busy;
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (ranks[r].isStopped || ranks[r].isGone)
      ended.push_back((int)r);
    else if (!ranks[r].answers)
      silent.push_back((int)r);
    else if (!ranks[r].waits)
      busy.push_back((int)r);
  }
  return !ended.empty() ? ended : !silent.empty() ? silent : busy;
}

/// The first that waits for one of the missing, else the first that waits; -1: none does.
int findWaiting(const std::vector<RankView> &ranks, const std::vector<int> &missing) {
  auto waitsFor = [&](const RankView &rank, int other) {
    return std::find(rank.partners.begin(), rank.partners.end(), other) != rank.partners.end();
  };
  int first = -1;
  for (size_t r = 0; r < ranks.size(); ++r) {
    if (!ranks[r].answers || !ranks[r].waits)
      continue;
    if (std::any_of(missing.begin(), missing.end(), [&](int other) { return waitsFor(ranks[r], other); }))
      return (int)r;
    first = first < 0 ? (int)r : first;
  }
  return first;
}

} // namespace

std::string describeDeadline(double seconds, const std::vector<RankView> &ranks) {
  constexpr size_t kListed = 4;
  std::vector<int> missing = findMissing(ranks);
  int waiting = findWaiting(ranks, missing);
  std::ostringstream text;
  text << "no rank got on for " << seconds << " s (--timeout)";
  if (waiting >= 0)
    text << ": " << ranks[waiting].place << ", waits";
  if (missing.empty())
    text << ", as do all others, for one another";
  for (size_t i = 0; i < std::min(missing.size(), kListed); ++i)
    text << (i ? "; " : waiting >= 0 ? "; missing: " : ": ") << describeMissing(ranks[missing[i]]);
  if (missing.size() > kListed)
    text << " … (" << missing.size() << ")";
  return text.str();
}

std::string describeDeath(const RankView &rank) { return describeEnd(rank, "died"); }

} // namespace galvatron
