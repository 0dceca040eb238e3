// Times the bodies of layers: the programs that `galvatron-opt --bodies` wrote, entry by entry in the order of a step.
#ifndef GALVATRON_LIB_PROFILE_BODIES_H
#define GALVATRON_LIB_PROFILE_BODIES_H

#include "galvatron/Search/Formats/PreparedModel.h"

#include "runtime/core/Device.h"
#include "runtime/core/Watchdog.h"
#include "runtime/core/World.h"

#include <string>
#include <vector>

namespace galvatron::profile {

/// All layer types of a model under one strategy, for one number of samples and one length: what is measured at once.
struct BodyGroup {
  std::string folder; ///< of the libraries
  search::PreparedBodies plain, recomputing;
  std::string precision;
  std::int64_t seq = 1;
  std::vector<search::MeasuredBody> figures; ///< one for each layer; their seconds are still to come
  std::vector<std::int64_t> counts;          ///< of each layer in the model

  /// Of `plain`, and what recomputing takes where that could be built; figures have what is planned already.
  BodyGroup(std::string folder, const search::PreparedModel &model, const search::PreparedBodies &plain,
            const search::PreparedBodies *recomputing);
};

/// Collective: every rank runs the group's programs, as many at once as there are ranks for, and the slowest rank's
/// time counts. Takes about `budget` seconds, and as long as a few steps of these layers where they take longer. An
/// error names the library, and is the same on all ranks.
Status measureBodies(BodyGroup &group, const World &world, Watchdog &watchdog, const Device &device, double budget);

} // namespace galvatron::profile

#endif
