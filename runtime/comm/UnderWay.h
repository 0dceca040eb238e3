//===- UnderWay.h - handles of what is under way ------------------===//
#ifndef GALVATRON_RUNTIME_COMM_UNDERWAY_H
#define GALVATRON_RUNTIME_COMM_UNDERWAY_H

#include "runtime/core/Check.h"

namespace galvatron {

/// What `handle` stands for from now on; it must be free.
inline UnderWay &startUnderWay(gvrt_context *context, int64_t handle) {
  if (handle >= (int64_t)context->underWay.size())
    context->underWay.resize(handle + 1);
  UnderWay &started = context->underWay[handle];
  GVRT_CHECK(context, started.requests.empty(),
             "expects handle " << handle << " to be waited for before it is used again");
  started = {};
  return started;
}

} // namespace galvatron

#endif
