//===- ReferenceProfile.h - Hetu-Galvatron's inputs -------------*- C++ -*-===//
//
// The arguments of Hetu-Galvatron's search and the measurements it reads,
// unchanged: computation and memory profiles of a model, all-reduce, p2p,
// sequence-parallel and overlap files of a cluster. Names, units and derived
// values follow the project's inventory of it (GALVATRON.md 2.2, 2.3, 5).
//
// Nothing here has a silent default: a measurement that is asked for and not
// there is an error that names key, file and what to run to get it.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_REFERENCEPROFILE_H
#define GALVATRON_SEARCH_REFERENCE_REFERENCEPROFILE_H

#include "galvatron/Search/Model/Result.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace galvatron::search {

/// What the reference's search is told (GALVATRON.md 5), with its defaults.
struct ReferenceArguments {
  // model
  std::string modelName;
  std::int64_t hiddenSize = 0;
  int layers = 0;
  std::int64_t sequenceLength = 0;
  // batch
  int minBatch = 8, maxBatch = 8, batchStep = 8;
  int settledBatch = -1, settledChunks = -1;
  // hardware
  int nodes = 1, devicesPerNode = 8;
  int memoryGB = 24; ///< of 1024 MB
  // space
  bool disableDp = false, disableTp = false, disableSp = false, disablePp = false, disableCheckpoint = false,
       disableFsdp = false, disableCp = true, disableEndsTp = false, disableEndsSp = false;
  int maxTp = 8, maxPp = 8, maxSp = 8, maxCp = 8;
  // options
  bool fineGrained = true;
  double costCoefficient = 1.0; ///< debug_costmodel_coe
  // parallel
  std::string defaultDpType = "ddp";   ///< ddp, zero2 or zero3
  std::string pipelineType = "gpipe";  ///< gpipe or pipedream_flush
  std::string mixedPrecision = "bf16"; ///< fp32, fp16 or bf16
  bool asyncGradReduce = true;
  // train
  bool sequenceParallel = true; ///< Megatron-SP
  bool globalMemoryBuffer = true;
  // profile
  std::string timeMode = "static";   ///< static, batch or sequence
  std::string memoryMode = "static"; ///< static or sequence
  /// What raw memory keys were measured under: zero3, the profiler's default, or ddp.
  std::string profileDpType = "zero3";
  std::string modelFolder, hardwareFolder;
  /// Single files, used instead of the folder's file when not empty.
  std::string timeFile, memoryFile, allReduceFile, p2pFile, overlapFile, spTimeFile;
  std::string outputPath; ///< where its plan file would go; empty: nowhere

  int world() const { return nodes * devicesPerNode; }
  bool halfPrecision() const { return mixedPrecision != "fp32"; }
  int bytesPerElement() const { return halfPrecision() ? 2 : 4; }
};

/// Contradictions and values out of range ("disable_pp with max_pp_deg 8" is
/// none; "settle_chunk 3 of settle_bsz 64" is one).
Result<bool> validateArguments(const ReferenceArguments &arguments);

/// Reads the `inputs` object of a reference case, `{"model", "profiles",
/// "hardware", "args"}`, or the same groups at top level, from JSON or YAML.
/// `root` is put before relative folders.
///
/// `overrides`, when given, is a JSON object of groups whose members replace
/// those of the text; with it the text may be empty.
Result<ReferenceArguments> parseReferenceConfig(std::string_view text, const std::string &root,
                                                std::string_view overrides = "");

/// y = slope · x + offset.
struct Line {
  double slope = 0, offset = 0;
  double at(double x) const { return slope * x + offset; }
};

/// Measured times of one collective over n ranks, by message size.
struct MessageTable {
  std::map<double, double> millisecondsOfMB;
  Line line; ///< least squares through all points, ms over MB
  /// A size in the table: its time; any other: the line (the reference's rule).
  double milliseconds(double megabytes) const;
};

/// One degree-indexed table of the memory profile, MB.
struct DegreeTable {
  std::map<int, double> megabytes;
  std::string key, file; ///< for messages
  Result<double> at(int degree) const;
};

struct ReferenceProfile {
  // Computation, ms on one device.
  Line layerForward; ///< over samples: F(x) = slope · x + offset
  Line endsForward;
  // Memory, MB; activations per sample.
  double layerParameterMB = 0; ///< fp32
  DegreeTable layerActivation;
  double checkpointActivation = 0;
  bool hasCheckpoint = false;
  DegreeTable endsStates, endsActivation;   ///< p = 1: both ends
  DegreeTable firstStates, firstActivation; ///< p > 1
  DegreeTable lastStates, lastActivation;   ///< p > 1
  // Hardware.
  double overlap = 1;
  std::map<std::string, double> allReduceCoefficient; ///< "8_1": ms per MB
  std::map<int, double> p2pCoefficient;               ///< ms per MB
  std::map<int, MessageTable> allReduce, allToAll;    ///< by group size
  std::string allReduceFile, p2pFile, overlapFile, spTimeFile, memoryFile, timeFile;

  /// ms per MB of bus traffic among n ranks; adjacent ones or strided over the
  /// world. 0 for one rank.
  Result<double> allReduceMsPerMB(int n, bool adjacent, int world) const;
  Result<double> p2pMsPerMB(int stages) const;
  /// ms of an all-gather that ends with `megabytes` on each of n ranks: half
  /// of an all-reduce.
  Result<double> allGatherMs(int n, double megabytes) const;
  Result<double> allToAllMs(int n, double megabytes) const;
};

/// Reads all files that the arguments name.
Result<ReferenceProfile> loadReferenceProfile(const ReferenceArguments &arguments);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_REFERENCEPROFILE_H
