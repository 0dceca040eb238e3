//===- WatchLines.h - how watchdogs talk to one another: TCP, and nothing of MPI ----------------===//
#ifndef GALVATRON_RUNTIME_CORE_WATCHLINES_H
#define GALVATRON_RUNTIME_CORE_WATCHLINES_H

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron {

/// What each rank tells all others at start, over MPI.
struct WatchPlace {
  static constexpr int kAddresses = 4;
  char host[64];
  int32_t pid, stage, port;
  uint32_t addresses[kAddresses]; // IPv4 of this machine, 0: no more
  uint64_t token;                 // the first rank's is the run's
};

/// All ranks run on one kind of processor, so these are sent as they lie in memory.
struct WatchMessage {
  enum Kind : int32_t {
    Report, // of a rank to the leader
    Echo,   // of the leader
    Left,   // of a rank that follows another leader from now on, as this one was silent
    Failed, // the sender ends all ranks, and has said why
    Done,   // of a rank: it is through; of the leader: all are
    End,    // end at once, with `code`
  };
  static constexpr int kPartners = 8, kLocal = 64;
  uint64_t token = 0;
  Kind kind = Report;
  int32_t rank = 0, waits = 0, code = 0;
  int64_t count = 0; // of a report: grows with the rank's progress
  double idle = 0;   // of an echo: seconds since any rank made progress
  int32_t partners[kPartners] = {-1, -1, -1, -1, -1, -1, -1, -1};
  char states[kLocal] = {}; // of this host's ranks, by their order: T stopped, Z gone, else 0
  char place[360] = {};
};

/// One end of a connection; nothing blocks.
class WatchLine {
public:
  explicit WatchLine(int file = -1) : file(file) {}
  WatchLine(WatchLine &&other) noexcept;
  WatchLine &operator=(WatchLine &&other) noexcept;
  ~WatchLine() { close(); }

  /// Waits for at most a second for each address.
  static WatchLine connect(const WatchPlace &place);

  bool isOpen() const { return file >= 0; }
  int descriptor() const { return file; }
  void close();
  /// What the other side does not take now is lost.
  void send(const WatchMessage &message);
  /// What came since; closes where the other side has. A wrong token is a stranger, who is hung up on.
  std::vector<WatchMessage> receive(uint64_t token);

private:
  int file;
  std::string pending;
};

class WatchListener {
public:
  WatchListener();
  WatchListener(const WatchListener &) = delete;
  ~WatchListener();

  int descriptor() const { return file; }
  /// 0: cannot listen.
  int port() const { return boundPort; }
  /// Closed if nobody called.
  WatchLine accept();

private:
  int file = -1, boundPort = 0;
};

/// Fills host, addresses and pid, and a random token.
WatchPlace ownWatchPlace(int stage, int port);

} // namespace galvatron

#endif
