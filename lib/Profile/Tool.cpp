// galvatron-profile: from a command line to ranks, or to words.
#include "galvatron/Profile/Tool.h"

#include "Session.h"
#include "Show.h"
#include "Start.h"

#include "galvatron/Search/Formats/MachineProfileFile.h"

#include "runtime/core/Version.h"

#include <cstdio>
#include <ctime>

namespace galvatron::profile {

static int show(const Options &options) {
  search::Result<search::MachineProfile> profile = search::readMachineProfile(options.profile);
  if (!profile) {
    std::fprintf(stderr, "error: %s\n", profile.error().message.c_str());
    return 1;
  }
  std::fputs(describeProfile(*profile, std::time(nullptr)).c_str(), stdout);
  return 0;
}

int runTool(int argc, char **argv) {
  std::vector<std::string> arguments(argv + (argc > 0), argv + argc);
  search::Result<Options> options = parseOptions(arguments);
  if (!options) {
    std::fprintf(stderr, "error: %s\n", options.error().message.c_str());
    return 1;
  }
  if (options->help || options->version) {
    std::fputs(options->help ? helpText().c_str() : (std::string("galvatron-profile ") + kVersion + "\n").c_str(),
               stdout);
    return 0;
  }
  if (options->command == "show")
    return show(*options);
  return isRank() ? runRank(*options, argc, argv) : startRanks(*options, arguments);
}

} // namespace galvatron::profile
