//===- Cause.h - why all ranks end, for `launch`, and said once ---------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_CAUSE_H
#define GALVATRON_RUNTIME_CORE_CAUSE_H

#include <string_view>

namespace galvatron {

/// Reads what `launch` passes in the environment. Before there are threads.
void findLaunch();

/// The script's process; 0: it is on another machine, or there is none.
int launchHere();

/// Whether ranks of this machine can know which of them was the first to tell.
bool canClaim();

/// Tells `launch`, where it runs here, why all ranks end: "thread code text", a line of the file that GALVATRON_CAUSE
/// names, of which the first counts. False: another thread's is the first. Such lines are appended whole, so nobody
/// waits for one that was stopped here. From a signal handler, too.
bool tellLauncher(int code, std::string_view text);

/// Whether somebody has told it, so that all ranks are ended now.
bool isCauseTold();

} // namespace galvatron

#endif
