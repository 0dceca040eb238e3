//===- Ends.h - signals that ask a run to end after the step -----------------------------------===//
//
// SIGTERM, SIGUSR1 and SIGINT to any rank; a second SIGINT ends the process at once. mpirun answers SIGTERM and SIGINT
// by killing its ranks two seconds later, so `launch` blocks them in it: they then stay pending there, for us to see.
//
//===-------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_ENDS_H
#define GALVATRON_RUNTIME_CORE_ENDS_H

#include <cstdint>
#include <string>

namespace galvatron {

/// Why a run ends early: a signal (1 to 3), the time of --max-seconds, or data of the next step that cannot be read. Of
/// several ranks' the largest counts.
inline constexpr int64_t kNoEnd = 0, kTimeIsUp = 1000, kNoData = 2000;

/// From here on signals are heard. Before MPI starts.
void listenForSignals();

/// The signal that came so far, to this process or pending on its parent: 1 … 3, the largest; else kNoEnd.
int64_t signalThatCame();

/// "SIGTERM", "--max-seconds"
std::string endName(int64_t reason);

} // namespace galvatron

#endif
