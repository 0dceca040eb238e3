// A profile in words.
#ifndef GALVATRON_LIB_PROFILE_SHOW_H
#define GALVATRON_LIB_PROFILE_SHOW_H

#include "galvatron/Search/Model/MachineProfile.h"

#include <string>
#include <vector>

namespace galvatron::profile {

/// What it holds, how old it is at `now` (seconds since 1970), of which machine, and how well it repeated.
std::string describeProfile(const search::MachineProfile &profile, std::int64_t now);

/// The last lines of a measurement.
std::string describeEnd(const search::MachineProfile &profile, const std::string &file, const std::string &cluster);

/// A sentence for each straggler.
std::vector<std::string> describeStragglers(const search::MachineProfile &profile);

} // namespace galvatron::profile

#endif
