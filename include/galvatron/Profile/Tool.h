// galvatron-profile: measures a machine, so that plans are priced by what it does.
#ifndef GALVATRON_PROFILE_TOOL_H
#define GALVATRON_PROFILE_TOOL_H

namespace galvatron::profile {

/// Runs the tool and returns its exit code: 0, 1 an error, 130 interrupted. Started by itself it starts its ranks under
/// mpirun; where a launcher started it, it is one of them.
int runTool(int argc, char **argv);

} // namespace galvatron::profile

#endif
