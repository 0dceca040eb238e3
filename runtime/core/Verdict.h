//===- Verdict.h - who waits for whom, in words ----------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_VERDICT_H
#define GALVATRON_RUNTIME_CORE_VERDICT_H

#include <string>
#include <vector>

namespace galvatron {

/// What is known of a rank when a deadline passes.
struct RankView {
  std::string place; // as describePlace says it: "rank 3 (stage 1), step 2, …"; told last, if it does not answer
  std::string host;
  int pid = 0;
  bool answers = false;
  bool waits = false;          // for other ranks
  std::vector<int> partners{}; // those it waits for, as far as known
  bool isStopped = false, isGone = false;
};

/// "no rank got on for 600 s (--timeout): rank 0 (stage 0), step 3, receive x, receive from rank 2, waits; missing is
/// rank 2 (stage 1) on host a, process 4711, stopped, last heard at step 3, …". Missing are those that are stopped or
/// gone, else those that do not answer, else those that do not wait, else, as all wait for one another, nobody.
std::string describeDeadline(double seconds, const std::vector<RankView> &ranks);

/// "rank 2 (stage 1) on host a, process 4711, died, last heard at step 3, …"
std::string describeDeath(const RankView &rank);

} // namespace galvatron

#endif
