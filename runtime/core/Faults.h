//===- Faults.h - a rank that dies takes the others with it, and says why ---------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_FAULTS_H
#define GALVATRON_RUNTIME_CORE_FAULTS_H

#include "runtime/core/Context.h"

namespace galvatron {

/// From now on: a failure of the context, or a fatal signal, prints one line and ends every rank of the world with exit
/// code 1. Without it the others would wait for this one for ever.
void installFaultHandlers(gvrt_context *context);

} // namespace galvatron

#endif
