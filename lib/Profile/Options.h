// Command line of galvatron-profile.
#ifndef GALVATRON_LIB_PROFILE_OPTIONS_H
#define GALVATRON_LIB_PROFILE_OPTIONS_H

#include "galvatron/Options/OptionTable.h"
#include "galvatron/Search/Model/Result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::profile {

struct Options {
  std::string command;   ///< hardware, model, all, export or show
  std::string profile;   ///< of show and export: the file
  std::string model;     ///< of model and all: model.mlir, model.pt, or a prepared folder
  std::string prepare;   ///< folder to prepare the model in, and measure nothing; empty: measure
  std::string format;    ///< of export, or to export in at the end: "reference"; empty: none
  std::string modelName; ///< of export: one of several models; of a profile: the model's name there
  std::string target = "cpu";
  std::string folder = "profile";
  std::string precision;                              ///< fp32 or bf16
  std::int64_t ranks = 0;                             ///< 0: one for each core
  std::int64_t smallest = 4 << 10, largest = 1 << 30; ///< bytes, powers of two
  std::vector<std::string> kinds;                     ///< of profile.json, and "overlap"; empty: all
  double timeLimit = 240;                             ///< seconds
  std::vector<std::int64_t> microBatches = {1, 2, 4}; ///< samples of a replica
  std::vector<std::int64_t> seqs;                     ///< tokens; empty: the model's own
  std::int64_t maxTp = 0;                             ///< 0: as many as there are ranks
  std::int64_t devicesPerNode = 0;                    ///< 0: as the ranks lie on hosts
  bool nvls = false;                                  ///< NCCL may use multicast
  bool allowBusy = false, restart = false, quiet = false;
  bool help = false, version = false;

  bool wants(const std::string &kind) const;
  bool measuresModel() const { return command == "model" || command == "all"; }
  bool measuresHardware() const { return command == "hardware" || command == "all"; }
};

search::Result<Options> parseOptions(const std::vector<std::string> &arguments);
/// What it takes, for people and shells.
const options::Tool &commandLine();

} // namespace galvatron::profile

#endif
