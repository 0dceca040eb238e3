// What Linux says of the host a rank runs on: /proc, as the runtime's watchdog reads it.
#include "Machine.h"

#include "runtime/core/Processes.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sched.h>
#include <thread>

namespace galvatron::profile {

namespace {

/// Ticks of all cores since the machine started, and of those the idle ones.
struct CpuTicks {
  double all = 0, idle = 0;
};

CpuTicks readTicks() {
  // cpu user nice system idle iowait irq softirq steal guest guest_nice; guests count in user.
  std::ifstream file("/proc/stat");
  std::string word;
  CpuTicks ticks;
  file >> word;
  double value = 0;
  for (int column = 0; column < 8 && file >> value; ++column) {
    ticks.all += value;
    if (column == 3 || column == 4)
      ticks.idle += value;
  }
  return ticks;
}

double countCores() {
  std::ifstream file("/proc/stat");
  double cores = 0;
  for (std::string line; std::getline(file, line);)
    cores += line.starts_with("cpu") && line.size() > 3 && line[3] != ' ';
  return std::max(cores, 1.0);
}

void readMemory(HostFacts &facts) {
  std::ifstream file("/proc/meminfo");
  std::string word;
  std::int64_t kibibytes = 0;
  while (file >> word) {
    if (word == "MemTotal:" && file >> kibibytes)
      facts.memoryBytes = kibibytes * 1024;
    else if (word == "MemAvailable:" && file >> kibibytes)
      facts.availableBytes = kibibytes * 1024;
  }
}

void readProcessor(HostFacts &facts) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    std::size_t colon = line.find(": ");
    if (colon == std::string::npos)
      continue;
    if (line.starts_with("model name") && !facts.device[0])
      line.copy(facts.device, sizeof facts.device - 1, colon + 2);
    if (line.starts_with("cpu MHz"))
      facts.clockMhz = std::max(facts.clockMhz, std::atof(line.c_str() + colon + 2));
  }
}

} // namespace

HostFacts lookAtHost() {
  using namespace std::chrono_literals;
  HostFacts facts;
  std::this_thread::sleep_for(100ms); // ranks that start together sleep together
  CpuTicks before = readTicks();
  std::this_thread::sleep_for(400ms);
  CpuTicks after = readTicks();
  facts.cores = countCores();
  if (after.all > before.all)
    facts.busyCores = facts.cores * std::max(0.0, 1 - (after.idle - before.idle) / (after.all - before.all));
  hostName().copy(facts.host, sizeof facts.host - 1);
  readMemory(facts);
  readProcessor(facts);
  if (!facts.device[0])
    std::strcpy(facts.device, "unknown processor");
  return facts;
}

std::int64_t usableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0)
    return 1;
  return std::max(1, CPU_COUNT(&set));
}

} // namespace galvatron::profile
