//===- Options.h - Command line of galvatron-search -------------*- C++ -*-===//
//
// Private to lib/Search.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_TOOL_OPTIONS_H
#define GALVATRON_SEARCH_TOOL_OPTIONS_H

#include "galvatron/Options/OptionTable.h"

#include "lib/Search/Formats/JsonReader.h"

#include <optional>
#include <string>

namespace galvatron::search {

struct ToolOptions {
  bool help = false, version = false;
  std::string configFile, root;
  std::string modelFile, clusterFile, profileFile, device;
  std::int64_t ranks = 0, memoryBytes = 0, sequence = 0, globalBatch = 0, microBatches = 0;
  std::string costModel = "native"; ///< native or galvatron
  bool supportedOnly = false;       ///< --space=supported
  bool onlySharded = false;         ///< --space=sdp
  bool configured = false;          ///< --space=configured
  std::string evaluateFile, outputFile, format = "auto", traceFile;
  std::string predictFolder; ///< of stage binaries, whose step is predicted; empty: none
  std::string precision;     ///< empty: bf16
  bool explain = false, quiet = false, simulate = false, referenceDivision = false;
  double timeLimitSeconds = 0;
  int threads = 0; ///< 0: as many as the machine has
  /// The reference's arguments given as options, by group.
  Json overrides = Json::object();
};

/// Error: an unknown option, a missing or malformed value, a conflict.
Result<ToolOptions> parseOptions(int argc, char **argv);

/// What it takes, for people and shells.
const options::Tool &commandLine();

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TOOL_OPTIONS_H
