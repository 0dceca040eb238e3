// galvatron-profile: from a command line to ranks, or to words.
#include "galvatron/Profile/Tool.h"

#include "Export.h"
#include "Machine.h"
#include "Prepare.h"
#include "Session.h"
#include "Show.h"
#include "Start.h"

#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Support/Files.h"

#include "runtime/core/Version.h"

#include <algorithm>
#include <chrono>
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

/// Ranks that groups are prepared for where nobody says.
static std::int64_t ranksToPrepare(const Options &options) {
  constexpr std::int64_t kOfANode = 8;
  return options.ranks ? options.ranks : options.prepare.empty() ? usableCores() : kOfANode;
}

static int report(const search::Error &error) {
  std::fprintf(stderr, "error: %s\n", error.message.c_str());
  return 1;
}

/// Compiles the model before any rank starts.
static std::optional<search::Error> prepare(const Options &options) {
  if (!options.measuresModel())
    return std::nullopt;
  return prepareModel(options, ranksToPrepare(options));
}

static int exportProfile(const Options &options) {
  search::Result<search::MachineProfile> profile = search::readMachineProfile(options.profile);
  if (!profile)
    return report(profile.error());
  search::Result<std::string> text = exportReference(*profile, options.folder, options.modelName);
  if (!text)
    return report(text.error());
  std::fputs(text->c_str(), stdout);
  return 0;
}

static int runJob(int argc, char **argv) {
  if (std::optional<int> status = options::printAnswer(commandLine(), argc, argv))
    return *status;
  std::vector<std::string> arguments(argv + (argc > 0), argv + argc);
  search::Result<Options> options = parseOptions(arguments);
  if (!options) {
    std::fprintf(stderr, "error: %s\n", options.error().message.c_str());
    return 1;
  }
  if (options->help || options->version) {
    std::fputs(options->help ? options::helpText(commandLine()).c_str()
                             : (std::string("galvatron-profile ") + kVersion + "\n").c_str(),
               stdout);
    return 0;
  }
  if (options->command == "show")
    return show(*options);
  if (options->command == "export")
    return exportProfile(*options);
  bool isPreparing = !options->prepare.empty();
  if (isRank() && !isPreparing)
    return runRank(*options, argc, argv);
  auto begin = std::chrono::steady_clock::now();
  if (auto error = prepare(*options))
    return report(*error);
  std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  if (isPreparing) {
    if (!options->quiet)
      std::printf("%s is prepared; measure it with galvatron-profile model %s\n", options->prepare.c_str(),
                  options->prepare.c_str());
    return 0;
  }
  // Of the time for all of it, what is left; the last word counts.
  arguments.push_back("--time-limit=" + std::to_string(std::max(1.0, options->timeLimit - spent.count())));
  return startRanks(*options, arguments);
}

int runTool(int argc, char **argv) {
  int code = runJob(argc, argv);
  std::string unwritten;
  if (finishStandardOutput(unwritten))
    return code;
  std::fprintf(stderr, "error: %s\n", unwritten.c_str());
  return 1;
}

} // namespace galvatron::profile
