// A profile as the files that Hetu-Galvatron's search reads.
#ifndef GALVATRON_LIB_PROFILE_EXPORT_H
#define GALVATRON_LIB_PROFILE_EXPORT_H

#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/Result.h"

#include <string>

namespace galvatron::profile {

/// Writes FOLDER/hardware_configs and, of a profile with models, FOLDER/configs. `modelName`: which of several. Returns
/// what is written, for which of the reference's modes that is enough, and what it lacks.
search::Result<std::string> exportReference(const search::MachineProfile &profile, const std::string &folder,
                                            const std::string &modelName);

} // namespace galvatron::profile

#endif
