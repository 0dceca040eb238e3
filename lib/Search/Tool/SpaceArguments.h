//===- SpaceArguments.h - Arguments that narrow the native search *- C++ -*-===//
//
// The reference's arguments in terms of the native space. Profiles bring those of
// GALVATRON.md 5 with its defaults; for a model given by its shape only what is
// said counts.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_TOOL_SPACEARGUMENTS_H
#define GALVATRON_SEARCH_TOOL_SPACEARGUMENTS_H

#include "Options.h"
#include "galvatron/Search/Model/Problem.h"

#include <vector>

namespace galvatron::search {

/// The batches that min_bsz, max_bsz and bsz_scale ask for.
std::vector<std::int64_t> batchRange(std::int64_t low, std::int64_t high, std::int64_t step);

/// --space and --micro-batches.
void restrictSpace(const ToolOptions &options, SearchSpace &space);

/// The reference's arguments that make sense without its profiles, but for those of
/// parallelism_info. `batches`: those of a range, where one is given.
std::optional<Error> applyArguments(const ToolOptions &options, SearchSpace &space, std::vector<std::int64_t> &batches);

/// parallelism_info: what is said of schedule and gradients narrows the space; what
/// is not said is free.
std::optional<Error> restrictParallelism(const Json &group, SearchSpace &space);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TOOL_SPACEARGUMENTS_H
