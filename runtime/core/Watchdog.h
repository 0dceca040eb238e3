//===- Watchdog.h - no wait without a deadline, no rank that dies unnamed ---------------------===//
//
// A thread on each rank, which talks to the others over TCP, so that it can when MPI waits. One of them leads: the
// first rank, or where that one is silent the next. The others tell it how far they are, several times in a deadline,
// and it tells them that it is there:
//
//   rank 0 (leads)  ◀── report: count, waits or not, place ──  ranks 1 … N - 1
//                   ── echo: seconds since any rank got on ──▶
//
// Progress is an entry, a collective or one of its parts, bytes written to files, and processor time where the main
// thread does not wait for others. If no rank has any for the deadline, the leader says who waits and who is missing,
// and ends all. It also names a rank that dies. Where several would speak, as one may lead that another takes for dead,
// the first that tells `launch` does (Cause.h). Until MPI has started nothing is known of other machines; a rank then
// looks at those of its own in /proc, and has kStartGrace more.
//
// A rank also ends when what started it is gone, mpirun or `launch`.
//
//===-------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_WATCHDOG_H
#define GALVATRON_RUNTIME_CORE_WATCHDOG_H

#include "runtime/core/Progress.h"
#include "runtime/core/Verdict.h"
#include "runtime/core/WatchLines.h"
#include "runtime/core/World.h"

#include <chrono>
#include <ctime>
#include <map>
#include <mutex>
#include <thread>

namespace galvatron {

class Watchdog {
public:
  /// `deadline` in seconds, 0: none. Before MPI starts, whose start is waited for.
  Watchdog(Progress &progress, double deadline);
  Watchdog(const Watchdog &) = delete;
  /// Once MPI is through: waits for the others' ends, with the deadline.
  ~Watchdog();

  /// Collective. From now on the ranks watch one another.
  void connect(const World &world, int stage);
  /// What a rank does now, for messages; null: no more.
  void watch(const gvrt_context *context);

  /// This rank is about to end all others and has said why; from a signal handler, too.
  static void silence();

private:
  using Clock = std::chrono::steady_clock;
  struct Member {
    WatchLine line;
    WatchMessage last; // its last report
    Clock::time_point heard;
    bool hasReported = false, isDone = false;
  };

  void run();
  void sleepUntilSomething();
  void endIfOrphaned();
  /// What this rank has to tell.
  WatchMessage report(WatchMessage::Kind kind);
  /// What the main thread waits for that others do; null: it does not.
  const char *waitsFor() const;
  /// Whether this rank did, in the seconds since it was last asked.
  bool gotOn(double seconds);
  /// Seconds from one look to the next.
  double interval() const;
  void lookAtStart();
  std::string describeStart();
  bool siblingsGetOn();
  /// `isDue`: it is time for reports, else only what came is read.
  void tick(bool isDue);
  void lead(bool isDue);
  void hear(int rank, const WatchMessage &message);
  void follow(bool isDue);
  void lookForDead();
  bool isThrough();
  bool continueLauncher();
  /// Says it, and ends all ranks with this code; returns where another rank has said why, and does.
  void endAll(int code, const std::string &message);
  void tellEvent(int code, const std::string &message);
  RankView view(int rank) const;
  bool isLeader() const { return leader == rank; }
  bool isLocal(int other) const { return places[other].host == std::string(places[rank].host); }

  Progress &progress;
  const double deadline;
  const int launcher;  // our parent
  const double period; // seconds between reports
  std::mutex guard;    // of the context, and of what `connect` fills
  const gvrt_context *context = nullptr;
  std::vector<WatchPlace> places; // by rank; empty until connected
  int rank = 0;
  bool isFinishing = false; // this rank is through

  // Of the thread alone.
  WatchListener listener;
  int leader = 0;
  bool isLeaderTried = false;
  WatchLine toLeader;
  Clock::time_point heardOfLeader;
  std::map<int, Member> members;                 // of a leader: who has reported
  std::vector<WatchLine> callers;                // who has not yet said which rank it is
  std::map<int, Clock::time_point> lost;         // whose line broke without a word, and when
  std::map<int, int64_t> ticksOf;                // of siblings, while MPI starts
  double idle = 0;                               // seconds since any rank got on, as far as known
  int64_t own = 0, beatsSeen = 0, bytesSeen = 0; // this rank's count, and what it was made of
  clockid_t mainClock = 0;                       // processor time of the thread that made this
  double processorSeen = 0, mainSeen = 0;
  bool isTold = false, isOver = false, isLauncherContinued = false;
  Clock::time_point connectedAt, toldAt;
  std::thread thread;
};

/// While it lives, a watchdog tells what this rank does.
class Watched {
public:
  Watched(Watchdog &watchdog, const gvrt_context &context) : watchdog(watchdog) { watchdog.watch(&context); }
  ~Watched() { watchdog.watch(nullptr); }
  Watched(const Watched &) = delete;

private:
  Watchdog &watchdog;
};

} // namespace galvatron

#endif
