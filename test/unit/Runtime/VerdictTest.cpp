// Who is said to wait for whom, and who is missing, of what is known of each rank.
#include "runtime/core/Verdict.h"

#include <gmock/gmock.h>

using namespace galvatron;
using ::testing::HasSubstr;

namespace {

RankView waiting(int rank, const std::string &where, std::vector<int> partners) {
  RankView view{"rank " + std::to_string(rank) + " (stage 0)" + where, "a", 100 + rank};
  view.answers = view.waits = true;
  view.partners = std::move(partners);
  return view;
}

RankView silent(int rank, const std::string &where = "") {
  return {"rank " + std::to_string(rank) + " (stage 1)" + where, "b", 100 + rank};
}

TEST(Verdict, OneThatIsStoppedAndWhoWaitsForIt) {
  RankView stopped = silent(2, ", step 3, forward a");
  stopped.isStopped = true;
  std::string text = describeDeadline(5, {waiting(0, ", step 3, x", {1}), waiting(1, ", step 3, y", {2}), stopped});
  EXPECT_EQ(text,
            "no rank got on for 5 s (--timeout): rank 1 (stage 0), step 3, y, waits; missing: rank 2 (stage 1) on "
            "host b, process 102, stopped, last heard at step 3, forward a");
}

TEST(Verdict, OneThatIsLateIsNotMissingBesideOneThatIsGone) {
  RankView gone = silent(2);
  gone.isGone = true;
  EXPECT_THAT(describeDeadline(5, {waiting(0, "", {1}), silent(1), gone}), HasSubstr("missing: rank 2"));
}

TEST(Verdict, OneThatIsBusyIsMissingWhereAllAnswer) {
  RankView busy = waiting(1, ", step 3, reads", {});
  busy.waits = false;
  EXPECT_THAT(describeDeadline(0.5, {waiting(0, ", step 3", {}), busy}),
              HasSubstr("for 0.5 s (--timeout): rank 0 (stage 0), step 3, waits; missing: rank 1 (stage 0) on host a, "
                        "process 101, busy in step 3, reads"));
}

TEST(Verdict, AllWaitForOneAnother) {
  EXPECT_THAT(describeDeadline(5, {waiting(0, "", {1}), waiting(1, "", {0})}),
              HasSubstr("rank 0 (stage 0), waits, as do all others, for one another"));
}

TEST(Verdict, NobodyWaits) {
  RankView gone = silent(0);
  gone.isGone = true;
  EXPECT_EQ(describeDeadline(5, {gone}),
            "no rank got on for 5 s (--timeout): rank 0 (stage 1) on host b, process 100, gone, not heard of before");
}

TEST(Verdict, ManyAreCounted) {
  std::vector<RankView> ranks{waiting(0, "", {})};
  for (int rank = 1; rank < 10; ++rank)
    ranks.push_back(silent(rank));
  EXPECT_THAT(describeDeadline(5, ranks), HasSubstr("process 104, silent, not heard of before … (9)"));
}

TEST(Verdict, ADeath) {
  EXPECT_EQ(describeDeath(silent(3, ", step 4")),
            "rank 3 (stage 1) on host b, process 103, died, last heard at step 4");
  EXPECT_EQ(describeDeath(silent(3)), "rank 3 (stage 1) on host b, process 103, died, not heard of before");
}

} // namespace
