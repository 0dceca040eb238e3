//===- Communicators.h - one communicator for each set of ranks ------------------------------------===//
#ifndef GALVATRON_RUNTIME_COMM_COMMUNICATORS_H
#define GALVATRON_RUNTIME_COMM_COMMUNICATORS_H

#include "runtime/core/Context.h"

namespace galvatron {

/// Gives every group of the context its communicator, and the context its two pipeline communicators. Collective over
/// the world.
void connect(gvrt_context *context);
void disconnect(gvrt_context *context);

} // namespace galvatron

#endif
