//===- PreparedModel.h - bodies.json ----------------------------*- C++ -*-===//
//
// What `galvatron-opt --bodies` leaves for galvatron-profile: of a model cut to
// one layer of each type, a library of its bodies for every strategy and number
// of samples, and what the compiler plans for them.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_PREPAREDMODEL_H
#define GALVATRON_SEARCH_FORMATS_PREPAREDMODEL_H

#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/Result.h"

#include <string>
#include <string_view>
#include <vector>

namespace galvatron::search {

/// The layer that stands for its type.
struct PreparedLayer {
  std::string path, layerType, hash;
  std::vector<std::string> parameters; ///< names, as the library's manifest has them first
  /// Planned, of one rank: parameters, gradients and moments; what backward reads of forward, inputs included; the most
  /// that forward or backward needs while it runs.
  std::int64_t stateBytes = 0, savedBytes = 0, scratchBytes = 0;
  /// Parameters alone, in f32; of these what an earlier layer has, too.
  std::int64_t parameterBytes = 0, sharedBytes = 0;
  BodyWork forwardWork = {}, backwardWork = {};
};

/// One program: all layers under one strategy.
struct PreparedBodies {
  std::string library; ///< file beside bodies.json; empty: planned alone, or not to be built, as `why` says
  std::string why;
  std::string strategy; ///< JSON as in plan.json, without dp
  std::int64_t samples = 1, ranks = 1;
  std::int64_t arenaBytes = 0; ///< of a rank, for all of its layers
  bool recomputes = false;     ///< backward computes forward again
  std::vector<PreparedLayer> layers;
};

struct PreparedModel {
  std::string version; ///< of galvatron-opt
  std::string target, precision;
  ProfiledModel model;
  std::vector<PreparedBodies> bodies;
};

/// What `--bodies` is asked for: all combinations, with and without recomputation.
struct BodiesRequest {
  std::vector<std::int64_t> samples;
  std::vector<std::string> strategies; ///< JSON as in plan.json; what is not said is 1 or off
  std::vector<std::string> planned;    ///< likewise: only the bytes of these, for the first number of samples
};

std::string writePreparedModel(const PreparedModel &model);
Result<PreparedModel> parsePreparedModel(std::string_view json);
std::string writeBodiesRequest(const BodiesRequest &request);
Result<BodiesRequest> parseBodiesRequest(std::string_view json);

/// Ranks of one replica under a strategy as in plan.json; 1 of what is no such strategy.
std::int64_t countStrategyRanks(const std::string &strategy);
/// As `layers` of profile.json has it.
std::string writeBodyStrategy(const Strategy &strategy);
/// For people: "tp 2, sequence_parallel", or "1 rank".
std::string shortenStrategy(const std::string &strategy);
/// A plan of one stage and one micro-batch that gives every layer this strategy, as plan.json.
std::string writeUniformPlan(const std::vector<Layer> &layers, const std::string &strategy, std::int64_t ranks,
                             std::int64_t samples, bool recomputes);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_PREPAREDMODEL_H
