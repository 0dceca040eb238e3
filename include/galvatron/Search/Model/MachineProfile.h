//===- MachineProfile.h - What was measured of a machine --------*- C++ -*-===//
//
// The content of profile.json, which galvatron-profile writes and the search
// reads: times of messages and kernels, what they cost each other at once, and
// the machine they were taken on. Formats/MachineProfileFile.h has the file.
//
// Units: bytes, seconds; shares are fractions.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_MACHINEPROFILE_H
#define GALVATRON_SEARCH_MODEL_MACHINEPROFILE_H

#include "galvatron/Search/Model/BodyWork.h"
#include "galvatron/Search/Model/Cluster.h"
#include "galvatron/Search/Model/Strategy.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace galvatron::search {

/// One rank's device when the profile began. 0: not known.
struct MeasuredDevice {
  std::int64_t rank = 0;
  std::string host;
  std::int64_t device = 0; ///< number on its host
  double clockMhz = 0, powerWatts = 0, celsius = 0;
  double gemmShare = 1, copyShare = 1; ///< pace, the median rank's being 1
};

/// A rank that takes more than 5 % longer than the median for the same work.
struct Straggler {
  std::int64_t rank = 0;
  std::string host;
  std::int64_t device = 0;
  double slowerBy = 0; ///< 0.05: takes 5 % longer
};

/// A median time with its spread: interquartile range ÷ median.
struct MeasuredMessage {
  std::string kind;        ///< all_reduce, all_gather, reduce_scatter, all_to_all, send, exchange
  std::int64_t ranks = 0;  ///< of a group; 2 for send and exchange
  std::int64_t stride = 1; ///< between neighbours of a group, or of a pair
  std::int64_t groups = 1; ///< at once
  std::int64_t bytes = 0;  ///< of the whole value as in `Collective`; of a message one way
  double seconds = 0, spread = 0;
  std::int64_t repeats = 1;
};

/// What a kernel worked on; which fields count depends on its kind.
struct KernelShape {
  std::int64_t m = 0, n = 0, k = 0;                                        // gemm
  std::int64_t samples = 0, heads = 0, kvHeads = 0, seq = 0, headSize = 0; // attention, causal
  bool backward = false;
  std::int64_t bytes = 0;  ///< copy, elementwise: read plus written; to and from the host: moved
  std::string layout = {}; ///< gemm: nn, nt (of forward) or tn (of weights' gradients)

  auto operator<=>(const KernelShape &) const = default;
};

struct MeasuredKernel {
  std::string kind;      ///< gemm, attention, copy, elementwise, to_host, from_host
  std::string precision; ///< fp32, bf16
  KernelShape shape;
  double seconds = 0, spread = 0;
  std::int64_t repeats = 1;
};

/// Two kinds of work at once that take equally long alone: time beside the other ÷ time alone.
struct MeasuredOverlap {
  std::string first, second;
  std::int64_t bytes = 0; ///< of the message
  double firstSlowdown = 1, secondSlowdown = 1;
};

/// A layer's body under a strategy. `strategy` is JSON, as in plan.json without dp.
struct MeasuredBody {
  std::string layerType, hash, precision, strategy;
  std::int64_t samples = 1, seq = 1;
  double forwardSeconds = 0, backwardSeconds = 0, weightSeconds = 0, recomputeSeconds = 0, updateSeconds = 0;
  std::int64_t stateBytes = 0, savedBytes = 0, scratchBytes = 0;
  bool isMeasured = true; ///< else extrapolated from other lengths
  double spread = 0;      ///< the larger one of forward's and backward's
  std::int64_t repeats = 1;
  Strategy plan = {};                           ///< `strategy`, read
  double residual = 0;                          ///< of extrapolated figures (LengthFit.h)
  BodyWork forwardWork = {}, backwardWork = {}; ///< without recomputation; empty: not said
};

/// What the compiler plans for one rank, whether the body is measured or not. `strategy` says `recompute`, too.
struct PlannedBody {
  std::string layerType, hash, precision, strategy;
  std::int64_t samples = 1, seq = 1;
  std::int64_t parameterBytes = 0, sharedBytes = 0; ///< parameters in f32; of these what an earlier layer has, too
  std::int64_t stateBytes = 0, savedBytes = 0, scratchBytes = 0;
  Strategy plan = {}; ///< `strategy`, read
};

/// A model whose bodies were measured: which layers it is made of.
struct ProfiledModel {
  struct Unit {
    std::string path, layerType, role;
    std::string hash = {}; ///< of its bodies; empty: not said
  };
  std::string name, hash;
  std::int64_t seq = 1;
  std::vector<Unit> units;
};

struct MachineProfile {
  std::string created; ///< UTC, "2026-01-31T12:00:00Z"
  /// What must be alike for the figures to hold: target, device, libraries, hosts; by name.
  std::map<std::string, std::string> fingerprint;
  std::string precision = "fp32"; ///< of messages' elements and of kernels
  Cluster cluster;
  std::vector<MeasuredDevice> devices; ///< by rank
  std::vector<Straggler> stragglers;
  std::vector<MeasuredMessage> messages;
  std::vector<MeasuredKernel> kernels;
  std::vector<MeasuredOverlap> overlaps;
  std::vector<MeasuredBody> bodies;
  std::vector<PlannedBody> planned;
  std::vector<ProfiledModel> models;
  bool wasBusy = false;             ///< others used the machine meanwhile
  std::vector<std::string> leftOut; ///< asked for and not measured, with the reason

  /// Of the fingerprint, as 16 hexadecimal digits (FNV-1a of "name=value\n" in order).
  std::string fingerprintHash() const;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_MACHINEPROFILE_H
