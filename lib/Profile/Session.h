// What one rank of a measurement does.
#ifndef GALVATRON_LIB_PROFILE_SESSION_H
#define GALVATRON_LIB_PROFILE_SESSION_H

#include "Options.h"

namespace galvatron::profile {

/// Of a process that a launcher started. Collective; returns the exit code, alike on all ranks.
int runRank(const Options &options, int argc, char **argv);

} // namespace galvatron::profile

#endif
