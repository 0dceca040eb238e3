// The figures of a cluster file that follow from what was measured, for groups and sizes that were not.
#ifndef GALVATRON_LIB_PROFILE_LINKS_H
#define GALVATRON_LIB_PROFILE_LINKS_H

#include "galvatron/Search/Model/MachineProfile.h"

namespace galvatron::profile {

/// Sets the links of `profile.cluster` from its messages; a link without messages keeps its guess, and is named in
/// `leftOut`.
void deriveLinks(search::MachineProfile &profile);

} // namespace galvatron::profile

#endif
