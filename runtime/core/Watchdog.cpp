//===- Watchdog.cpp - no wait without a deadline, no rank that dies unnamed -------------------===//
#include "runtime/core/Watchdog.h"
#include "runtime/core/Cause.h"
#include "runtime/core/Check.h"
#include "runtime/core/Events.h"
#include "runtime/core/ExitCode.h"
#include "runtime/core/Processes.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <future>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace galvatron {
namespace {

constexpr const char *kStarting = "gvrt-starting", *kWatching = "gvrt-watching"; // names of the thread
constexpr double kStartGrace = 10;                                               // seconds
// In which who said why all end, or the launcher that sees a rank die, must have ended them; seconds.
constexpr double kForOther = 15;

/// What a signal handler may touch.
std::atomic<bool> isSilenced{false}, isSilenceTold{false};
int wakeUp = -1;

double processorSeconds(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

double secondsBetween(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Open MPI's forks from its main thread, for which alone the death of a parent's thread means the parent's.
bool isOpenMpi(const std::string &name) {
  return name == "mpirun" || name == "orterun" || name == "orted" || name == "prterun" || name == "prted";
}

int startedRank(int pid) {
  std::string text = environmentOf(pid, "OMPI_COMM_WORLD_RANK");
  return text.empty() ? -1 : std::atoi(text.c_str());
}

/// Without the streams of the main thread, which may hang with one of them.
void print(const std::string &line) {
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) {
    // Nobody left to tell.
  }
}

/// False: another rank has said why all end, and sees to it.
bool say(int code, const std::string &text) {
  bool isFirst = tellLauncher(code, text);
  if (isFirst)
    print("error: " + text + "\n");
  return isFirst;
}

} // namespace

Watchdog::Watchdog(Progress &progress, double deadline)
    : progress(progress), deadline(deadline), launcher(getppid()),
      period(deadline > 0 ? std::clamp(deadline / 20, 0.02, 1.0) : 1.0) {
  pthread_getcpuclockid(pthread_self(), &mainClock);
  wakeUp = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (isOpenMpi(Process::read(launcher).name))
    prctl(PR_SET_PDEATHSIG, SIGKILL);
  // Signals are for the main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Watchdog::~Watchdog() {
  {
    std::lock_guard<std::mutex> lock(guard);
    isFinishing = true;
  }
  eventfd_write(wakeUp, 1);
  thread.join();
  close(wakeUp);
  wakeUp = -1;
}

void Watchdog::connect(const World &world, int stage) {
  std::vector<WatchPlace> all = world.gather(ownWatchPlace(stage, listener.port()));
  std::lock_guard<std::mutex> lock(guard);
  rank = world.rank();
  places = std::move(all);
  eventfd_write(wakeUp, 1);
}

void Watchdog::watch(const gvrt_context *newContext) {
  std::lock_guard<std::mutex> lock(guard);
  context = newContext;
}

void Watchdog::silence() {
  isSilenced = true;
  if (wakeUp < 0 || eventfd_write(wakeUp, 1) != 0)
    return;
  for (int i = 0; i < 20 && !isSilenceTold; ++i) {
    timespec moment = {0, 10'000'000};
    nanosleep(&moment, nullptr);
  }
}

//===----------------------------------------------------------------------===//
// The thread
//===----------------------------------------------------------------------===//

void Watchdog::run() {
  pthread_setname_np(pthread_self(), kStarting);
  Clock::time_point before = Clock::now();
  while (!isOver) {
    sleepUntilSomething();
    std::lock_guard<std::mutex> lock(guard);
    Clock::time_point now = Clock::now();
    double seconds = secondsBetween(before, now);
    bool isDue = seconds >= interval();
    if (isDue) {
      endIfOrphaned();
      before = now;
      // Time in which this process was stopped is nobody's.
      idle = gotOn(seconds) ? 0 : idle + std::min(seconds, 2 * period);
    }
    if (!places.empty())
      tick(isDue);
    else if (isFinishing)
      isOver = true;
    else if (isDue && deadline > 0)
      lookAtStart();
  }
}

double Watchdog::interval() const {
  constexpr double kSoon = 0.05; // while somebody is lost or ends
  return lost.empty() && !isFinishing ? period : std::min(period, kSoon);
}

void Watchdog::sleepUntilSomething() {
  std::vector<pollfd> files = {{wakeUp, POLLIN, 0}, {listener.descriptor(), POLLIN, 0}};
  if (toLeader.isOpen())
    files.push_back({toLeader.descriptor(), POLLIN, 0});
  for (const WatchLine &line : callers)
    files.push_back({line.descriptor(), POLLIN, 0});
  for (auto &[other, member] : members)
    if (member.line.isOpen())
      files.push_back({member.line.descriptor(), POLLIN, 0});
  double seconds;
  {
    std::lock_guard<std::mutex> lock(guard);
    seconds = interval();
  }
  poll(files.data(), files.size(), (int)(seconds * 1000) + 1);
  eventfd_t ignored;
  eventfd_read(wakeUp, &ignored);
}

void Watchdog::endIfOrphaned() {
  if (getppid() != launcher)
    _exit(kFailed);
  if (launchHere() && Process::read(launchHere()).isGone()) {
    if (isOpenMpi(Process::read(launcher).name)) // not who takes in orphans
      kill(launcher, SIGKILL);
    _exit(kFailed);
  }
}

const char *Watchdog::waitsFor() const {
  if (const char *waits = progress.waitsFor(); waits || !context)
    return waits;
  return context->operation ? context->operation : context->progress.waitsFor();
}

bool Watchdog::gotOn(double seconds) {
  const char *waits = waitsFor();
  int64_t beats = progress.count() + (context ? context->progress.count() : 0);
  int64_t bytes = fileBytes();
  double processor = processorSeconds(CLOCK_PROCESS_CPUTIME_ID) - processorSeconds(CLOCK_THREAD_CPUTIME_ID);
  // Of a period below it a thread that idles is taken for one that waits.
  constexpr double kShareOfCore = 0.02;
  // The main thread idles only where it is blocked, however small the share that a full machine leaves it.
  double main = processorSeconds(mainClock);
  bool works = !waits && (main != mainSeen || processor - processorSeen >= kShareOfCore * seconds);
  mainSeen = main;
  bool result = beats != beatsSeen || bytes != bytesSeen || works;
  beatsSeen = beats, bytesSeen = bytes, processorSeen = processor;
  own += result;
  return result;
}

WatchMessage Watchdog::report(WatchMessage::Kind kind) {
  WatchMessage message;
  message.token = places[0].token;
  message.kind = kind;
  message.rank = rank;
  message.count = own;
  message.idle = idle;
  const char *waits = waitsFor();
  std::string place = "rank " + std::to_string(rank) + " (stage " + std::to_string(places[rank].stage) + ")";
  if (context)
    place = describePlace(*context);
  if (waits && !(context && waits == context->operation)) // a call by its name alone
    place += ", " + std::string(waits, std::strcspn(waits, "("));
  message.waits = waits != nullptr;
  std::snprintf(message.place, sizeof message.place, "%s", place.c_str());
  int partners = 0;
  if (const Group *group = context && context->operation ? context->operationGroup : nullptr)
    for (int other : group->ranks)
      if (other != rank && partners < WatchMessage::kPartners)
        message.partners[partners++] = other;
  if (context && context->operation && context->operationPeer >= 0)
    message.partners[0] = context->operationPeer;
  // Costs a file each, so only when it may be asked for.
  if (idle < deadline / 2 && lost.empty())
    return message;
  int local = 0;
  for (size_t other = 0; other < places.size() && local < WatchMessage::kLocal; ++other) {
    if (!isLocal(other))
      continue;
    Process process = Process::read(places[other].pid);
    message.states[local++] = process.isGone() ? 'Z' : process.isStopped() ? 'T' : 0;
  }
  return message;
}

//===----------------------------------------------------------------------===//
// While MPI starts
//===----------------------------------------------------------------------===//

/// Those of this machine that are not yet where we are.
bool Watchdog::siblingsGetOn() {
  bool result = false;
  for (int pid : childrenOf(launcher)) {
    Process sibling = Process::read(pid);
    if (sibling.isStopped() || sibling.isGone() || hasThread(pid, kStarting))
      continue;
    auto [found, isNew] = ticksOf.insert({pid, sibling.ticks});
    result |= isNew || found->second != sibling.ticks;
    found->second = sibling.ticks;
  }
  return result;
}

void Watchdog::lookAtStart() {
  if (siblingsGetOn())
    idle = 0;
  if (idle < deadline + kStartGrace)
    return;
  if (!isTold)
    endAll(kDeadline, describeStart()); // without `launch` each of them
  else if (secondsBetween(toldAt, Clock::now()) > kForOther)
    _exit(kDeadline);
}

std::string Watchdog::describeStart() {
  int self = startedRank(getpid());
  std::string missing;
  for (int pid : childrenOf(launcher)) {
    Process sibling = Process::read(pid);
    int other = startedRank(pid);
    bool waits = !sibling.isStopped() && !sibling.isGone() && hasThread(pid, kStarting);
    if (!waits && other >= 0)
      missing += (missing.empty() ? "" : "; ") + ("rank " + std::to_string(other)) + " on host " + hostName() +
                 ", process " + std::to_string(pid) + (sibling.isStopped() ? ", stopped in " : ", in ") + "its start";
  }
  std::ostringstream text;
  const char *waits = progress.waitsFor();
  text << "no rank got on for " << deadline + kStartGrace << " s (--timeout " << deadline << ", and " << kStartGrace
       << " while MPI starts): rank " << self << ", " << (waits ? waits : "before MPI_Init")
       << ", waits; missing: " << (missing.empty() ? "ranks of other hosts" : missing);
  return text.str();
}

//===----------------------------------------------------------------------===//
// Leading and following
//===----------------------------------------------------------------------===//

void Watchdog::tick(bool isDue) {
  if (connectedAt == Clock::time_point()) {
    connectedAt = heardOfLeader = Clock::now();
    pthread_setname_np(pthread_self(), kWatching);
    idle = 0;
  }
  if (isSilenced && !isTold) {
    isTold = true;
    toldAt = Clock::now();
    WatchMessage failed = report(WatchMessage::Failed);
    toLeader.send(failed);
    for (auto &[other, member] : members)
      member.line.send(failed);
    isSilenceTold = true;
  }
  if (!isLeader())
    follow(isDue);
  if (isLeader())
    lead(isDue);
  lookForDead();
  if (isDue && isFinishing && isThrough())
    isOver = true;
}

RankView Watchdog::view(int other) const {
  RankView result;
  result.host = places[other].host;
  result.pid = places[other].pid;
  result.place = "rank " + std::to_string(other) + " (stage " + std::to_string(places[other].stage) + ")";
  auto found = members.find(other);
  if (found != members.end() && found->second.hasReported) {
    const WatchMessage &last = found->second.last;
    result.place = last.place;
    result.waits = last.waits;
    // Several reports were due since.
    result.answers =
        found->second.line.isOpen() && secondsBetween(found->second.heard, Clock::now()) < std::max(4 * period, 1.0);
    for (int partner : last.partners)
      if (partner >= 0)
        result.partners.push_back(partner);
  }
  // As the ranks of its machine see it, we or others.
  int index = 0;
  for (int before = 0; before < other; ++before)
    index += places[before].host == result.host;
  if (isLocal(other)) {
    Process process = Process::read(result.pid);
    result.isStopped = process.isStopped(), result.isGone = process.isGone();
  } else if (index < WatchMessage::kLocal) {
    for (const auto &[witness, member] : members)
      if (places[witness].host == result.host && witness != other &&
          secondsBetween(member.heard, Clock::now()) < 4 * period)
        result.isStopped |= member.last.states[index] == 'T', result.isGone |= member.last.states[index] == 'Z';
  }
  result.answers &= !result.isStopped && !result.isGone;
  return result;
}

void Watchdog::hear(int other, const WatchMessage &message) {
  Member &member = members[other];
  if (message.kind == WatchMessage::Failed) {
    isTold = true, toldAt = Clock::now();
    for (auto &[also, listening] : members)
      listening.line.send(message);
  }
  if (message.kind == WatchMessage::Done && !member.isDone)
    member.isDone = true, idle = 0;
  if (message.kind == WatchMessage::Left) {
    members.erase(other);
    return;
  }
  if (member.hasReported && member.last.count != message.count)
    idle = 0;
  member.last = message;
  member.heard = Clock::now();
  member.hasReported = true;
  lost.erase(other);
}

void Watchdog::lead(bool isDue) {
  uint64_t token = places[0].token;
  while (true) {
    WatchLine line = listener.accept();
    if (!line.isOpen())
      break;
    callers.push_back(std::move(line));
  }
  for (WatchLine &line : callers) {
    std::vector<WatchMessage> messages = line.receive(token);
    if (messages.empty())
      continue;
    int other = messages[0].rank;
    if (other < 0 || other >= (int)places.size() || other == rank)
      continue;
    members[other].line = std::move(line);
    for (const WatchMessage &message : messages)
      hear(other, message);
  }
  std::erase_if(callers, [](const WatchLine &line) { return !line.isOpen(); });
  for (int other = 0; other < (int)places.size(); ++other) {
    auto found = members.find(other);
    if (found == members.end() || !found->second.line.isOpen())
      continue;
    std::vector<WatchMessage> messages = found->second.line.receive(token);
    bool isLost = !found->second.line.isOpen() && !found->second.isDone;
    for (const WatchMessage &message : messages) {
      hear(other, message);
      isLost &= message.kind == WatchMessage::Report;
    }
    if (isLost)
      lost.insert({other, Clock::now()});
  }
  if (!isDue)
    return;
  hear(rank, report(WatchMessage::Report));
  if (deadline > 0 && idle >= deadline && !continueLauncher()) {
    std::vector<RankView> views;
    for (int other = 0; other < (int)places.size(); ++other)
      views.push_back(view(other));
    views[rank].answers = true;
    endAll(kDeadline, describeDeadline(deadline, views));
  }
  WatchMessage echo = report(WatchMessage::Echo);
  for (auto &[other, member] : members)
    member.line.send(echo);
}

void Watchdog::follow(bool isDue) {
  // A leader that is stopped is soon replaced, so that the deadline is kept; one that is slow is not.
  double patience = deadline > 0 ? std::clamp(deadline / 2, 1.0, 60.0) : 60;
  if (!toLeader.isOpen() || secondsBetween(heardOfLeader, Clock::now()) > patience) {
    if (isLeaderTried) {
      toLeader.send(report(WatchMessage::Left));
      leader = (leader + 1) % (int)places.size();
    }
    toLeader.close();
    isLeaderTried = true;
    heardOfLeader = Clock::now();
    if (isLeader())
      return;
    toLeader = WatchLine::connect(places[leader]);
    toLeader.send(report(WatchMessage::Report)); // who calls
  }
  bool wasOpen = toLeader.isOpen();
  for (const WatchMessage &message : toLeader.receive(places[0].token)) {
    if (message.rank != leader && message.kind == WatchMessage::Echo)
      toLeader.close(); // an address that several machines have
    heardOfLeader = Clock::now();
    if (message.kind == WatchMessage::Echo)
      idle = std::min(idle, message.idle), members[leader].last = message, members[leader].hasReported = true;
    if (message.kind == WatchMessage::Failed)
      isTold = true, toldAt = Clock::now();
    if (message.kind == WatchMessage::End)
      _exit(message.code);
    if (message.kind == WatchMessage::Done)
      isOver = true;
  }
  // One that was never heard of may have been through before we came: of a short run.
  if (wasOpen && !toLeader.isOpen() && !isOver && !isFinishing && members[leader].hasReported)
    lost.insert({leader, Clock::now()});
  if (isDue)
    toLeader.send(report(isFinishing ? WatchMessage::Done : WatchMessage::Report));
}

/// A line that breaks is a process that ended, or a network that did; who was about to say why has done so by now.
void Watchdog::lookForDead() {
  constexpr double kConfirmed = 0.1; // seconds
  if (isTold && secondsBetween(toldAt, Clock::now()) > kForOther)
    endAll(kFailed, "");
  // Who leads may be the one that died, and the launcher ends all soon.
  if (isTold || !(isLeader() || canClaim()))
    return;
  for (const auto &[other, since] : lost) {
    if (secondsBetween(since, Clock::now()) < kConfirmed ||
        (isLocal(other) && !Process::read(places[other].pid).isGone()))
      continue;
    // The launcher ends all others now, and us.
    say(kFailed, describeDeath(view(other)));
    isTold = true, toldAt = Clock::now();
    return;
  }
}

/// Nobody leaves before all others are through, so that one who hangs is noticed.
bool Watchdog::isThrough() {
  if (isOver || isTold || places.size() == 1)
    return true;
  if (!isLeader())
    return false;
  constexpr double kForCallers = 2; // seconds: of a run that was very short
  bool mayCome = secondsBetween(connectedAt, Clock::now()) < kForCallers;
  size_t done = 0;
  for (const auto &[other, member] : members)
    if (other != rank)
      done += member.isDone || (!member.line.isOpen() && lost.empty());
  if (done < members.size() - 1 || (mayCome && members.size() < places.size()))
    return false;
  for (auto &[other, member] : members)
    member.line.send(report(WatchMessage::Done));
  return true;
}

/// On a disk that hangs, too, for a moment at most.
void Watchdog::tellEvent(int code, const std::string &message) {
  if (!context)
    return;
  constexpr auto kMoment = std::chrono::seconds(2);
  std::promise<void> told;
  std::future<void> isTold = told.get_future();
  std::thread([own = context, code, message, told = std::move(told)]() mutable {
    writeEvent(*own, "timeout", own->step, {{"code", (int64_t)code}, {"reason", message}});
    told.set_value();
  }).detach();
  isTold.wait_for(kMoment);
}

void Watchdog::endAll(int code, const std::string &message) {
  if (isTold)
    code = kFailed;
  else if (say(code, message))
    tellEvent(code, message);
  else {
    isTold = true, toldAt = Clock::now();
    return;
  }
  if (!places.empty()) {
    WatchMessage end = report(WatchMessage::End);
    end.code = code;
    for (auto &[other, member] : members)
      member.line.send(end);
  }
  // One that is stopped cannot end its other ranks.
  if (Process::read(launcher).isStopped())
    kill(launcher, SIGKILL);
  _exit(code);
}

/// All wait for what started them in the end, and it may be stopped. It then goes on, once, and the deadline begins
/// anew.
bool Watchdog::continueLauncher() {
  Process process = Process::read(launcher);
  if (isLauncherContinued || !process.isStopped())
    return false;
  isLauncherContinued = true;
  idle = 0;
  kill(launcher, SIGCONT);
  print("warning: " + process.name + ", process " + std::to_string(launcher) +
        ", was stopped, and goes on, as all ranks wait for it\n");
  return true;
}

} // namespace galvatron
