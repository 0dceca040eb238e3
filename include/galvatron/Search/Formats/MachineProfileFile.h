//===- MachineProfileFile.h - profile.json ----------------------*- C++ -*-===//
//
// Read strictly: a key that is unknown or missing, a figure that is negative,
// infinite or contradicts another one is an error that names it. docs/profiling.md
// has every key.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_MACHINEPROFILEFILE_H
#define GALVATRON_SEARCH_FORMATS_MACHINEPROFILEFILE_H

#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/Result.h"

#include <string>
#include <string_view>

namespace galvatron::search {

Result<MachineProfile> parseMachineProfile(std::string_view json);
/// The file's; the error begins with its path.
Result<MachineProfile> readMachineProfile(const std::string &path);

/// One entry a line.
std::string writeMachineProfile(const MachineProfile &profile);

/// One entry of `collectives`, `kernels` or `overlap`, or some of `layers`, as a journal keeps it: `{"collective":
/// {…}}`.
std::string writeEntry(const MeasuredMessage &message);
std::string writeEntry(const MeasuredKernel &kernel);
std::string writeEntry(const MeasuredOverlap &overlap);
/// Of what was measured at once: `{"layers": [{…}, …]}`.
std::string writeEntry(const std::vector<MeasuredBody> &bodies);
/// Adds such an entry to `profile`, checked as in the file.
Result<bool> addEntry(std::string_view json, MachineProfile &profile);

/// Adds what is not there yet; what is, of the same body, is replaced.
void mergePlanned(const std::vector<PlannedBody> &planned, MachineProfile &profile);

/// cluster.json beside a profile: the profile's cluster, which one may edit, and `"profile": "profile.json"`.
std::string writeClusterOf(const MachineProfile &profile);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_MACHINEPROFILEFILE_H
