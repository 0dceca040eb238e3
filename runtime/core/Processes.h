//===- Processes.h - what Linux says of other processes of this machine -------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_PROCESSES_H
#define GALVATRON_RUNTIME_CORE_PROCESSES_H

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron {

/// Of /proc/PID/stat.
struct Process {
  int pid = 0, parent = 0;
  char state = 0;    // R, S, D, T (stopped), Z (ended) …; 0: there is none
  int64_t ticks = 0; // of processor time, all its threads
  std::string name;

  static Process read(int pid);
  bool isGone() const { return state == 0 || state == 'Z' || state == 'X'; }
  bool isStopped() const { return state == 'T' || state == 't'; }
};

std::vector<int> childrenOf(int pid);
/// Of its environment as it was started with; "" without.
std::string environmentOf(int pid, const std::string &variable);
bool hasThread(int pid, const std::string &name);

std::string hostName();

/// Bytes that this process has written to files, and read from disks, so far.
int64_t fileBytes();

} // namespace galvatron

#endif
