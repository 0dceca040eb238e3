// Command line of galvatron-profile.
#ifndef GALVATRON_LIB_PROFILE_OPTIONS_H
#define GALVATRON_LIB_PROFILE_OPTIONS_H

#include "galvatron/Search/Model/Result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::profile {

struct Options {
  std::string command; ///< hardware or show
  std::string profile; ///< of show: the file
  std::string folder = "profile";
  std::string precision = "fp32";
  std::int64_t ranks = 0;                             ///< 0: one for each core
  std::int64_t smallest = 4 << 10, largest = 1 << 30; ///< bytes, powers of two
  std::vector<std::string> kinds;                     ///< of profile.json, and "overlap"; empty: all
  double timeLimit = 240;                             ///< seconds
  std::int64_t devicesPerNode = 0;                    ///< 0: as the ranks lie on hosts
  bool allowBusy = false, restart = false, quiet = false;
  bool help = false, version = false;

  bool wants(const std::string &kind) const;
};

search::Result<Options> parseOptions(const std::vector<std::string> &arguments);
std::string helpText();

} // namespace galvatron::profile

#endif
