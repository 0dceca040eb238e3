// Starts the ranks of a measurement as `launch` starts those of a program.
#ifndef GALVATRON_LIB_PROFILE_START_H
#define GALVATRON_LIB_PROFILE_START_H

#include "Options.h"

namespace galvatron::profile {

/// Whether mpirun, srun or another launcher started this process as a rank.
bool isRank();

/// Runs this program's ranks with the same arguments; the exit code of the whole.
int startRanks(const Options &options, const std::vector<std::string> &arguments);

} // namespace galvatron::profile

#endif
