// Generated kernels of one function that share what they read, or of which one reads what another writes, become
// one kernel of several outputs.
#ifndef GALVATRON_LIB_CONVERSION_LOOPFUSION_H
#define GALVATRON_LIB_CONVERSION_LOOPFUSION_H

#include "dialects/Exec/Exec.h"

namespace galvatron {

/// Fuses the `exec.loops` of a function whose first `numInputs` arguments nothing writes, before its scratch is
/// placed (every scratch buffer is memory of its own). Returns how many loops are gone.
unsigned fuseLoops(exec::FunctionOp function, unsigned numInputs);

} // namespace galvatron

#endif // GALVATRON_LIB_CONVERSION_LOOPFUSION_H
