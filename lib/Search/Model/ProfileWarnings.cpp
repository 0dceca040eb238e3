//===- ProfileWarnings.cpp - Why a profile may not hold here --------------===//

#include "galvatron/Search/Model/ProfileWarnings.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <unistd.h>

namespace galvatron::search {

/// Clocks that differ by more than this share are another machine's, or another setting.
static constexpr double kClockShare = 0.05;

std::map<std::string, std::string> lookAtThisHost() {
  std::map<std::string, std::string> here;
  char host[256] = "";
  if (gethostname(host, sizeof host - 1) == 0 && host[0])
    here["hosts"] = host;
  std::ifstream processor("/proc/cpuinfo");
  for (std::string line; std::getline(processor, line);) {
    std::size_t colon = line.find(": ");
    if (colon == std::string::npos)
      continue;
    if (line.rfind("model name", 0) == 0)
      here.emplace("device", line.substr(colon + 2));
    if (line.rfind("cpu MHz", 0) == 0) {
      std::string &clock = here["clock_mhz"];
      if (std::atof(line.c_str() + colon + 2) > std::atof(clock.c_str()))
        clock = line.substr(colon + 2);
    }
  }
  std::ifstream driver("/proc/driver/nvidia/version");
  if (std::string line; std::getline(driver, line))
    here["driver"] = line;
  here["nccl"] = describeNcclMemory();
  return here;
}

/// Whether a list such as "a, b" has `word`, or is it.
static bool hasWord(const std::string &list, const std::string &word) {
  std::string padded = ", " + list + ", ";
  return padded.find(", " + word + ", ") != std::string::npos;
}

static std::string describeRank(std::int64_t rank, const std::string &host, std::int64_t device) {
  return "rank " + std::to_string(rank) + " (host " + host + ", device " + std::to_string(device) + ")";
}

static std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * share);
  return text;
}

static void compareClocks(const MachineProfile &profile, const std::string &where,
                          const std::map<std::string, std::string> &here, std::vector<std::string> &warnings) {
  double fastest = 0;
  for (const MeasuredDevice &device : profile.devices)
    fastest = std::max(fastest, device.clockMhz);
  for (const MeasuredDevice &device : profile.devices)
    if (device.clockMhz > 0 && device.clockMhz < fastest * (1 - kClockShare))
      warnings.push_back(where + describeRank(device.rank, device.host, device.device) + " ran at " +
                         std::to_string(std::int64_t(device.clockMhz)) + " MHz, the fastest at " +
                         std::to_string(std::int64_t(fastest)) + "; prices are the slowest rank's");
  auto clock = here.find("clock_mhz");
  double own = clock == here.end() ? 0 : std::atof(clock->second.c_str());
  if (own > 0 && fastest > 0 && std::max(own, fastest) > std::min(own, fastest) * (1 + kClockShare))
    warnings.push_back(where + "its devices ran at " + std::to_string(std::int64_t(fastest)) + " MHz, this host at " +
                       std::to_string(std::int64_t(own)) + "; what it predicts holds at those clocks");
}

std::vector<std::string> findWarnings(const MachineProfile &profile, const std::string &file,
                                      const std::map<std::string, std::string> &here) {
  std::vector<std::string> warnings;
  std::string where = "profile '" + file + "': ";
  bool isProcessor = profile.cluster.device.name == "cpu";
  for (const auto &[name, value] : here) {
    auto taken = profile.fingerprint.find(name);
    bool isAbout = name != "clock_mhz" && (isProcessor || name != "device");
    if (isAbout && taken != profile.fingerprint.end() && !hasWord(taken->second, value))
      warnings.push_back(where + "it was taken with " + name + " '" + taken->second + "', but here it is '" + value +
                         "'; what it predicts holds there");
  }
  compareClocks(profile, where, isProcessor ? here : std::map<std::string, std::string>(), warnings);
  for (const Straggler &straggler : profile.stragglers)
    warnings.push_back(where + describeRank(straggler.rank, straggler.host, straggler.device) + " took " +
                       percent(straggler.slowerBy) + " longer than the median; prices are the slowest rank's");
  if (profile.wasBusy)
    warnings.push_back(where + "others used the machine while it was measured (--allow-busy)");
  return warnings;
}

} // namespace galvatron::search
