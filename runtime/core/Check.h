//===- Check.h - one form for every failure in a running step --------------===//
//
// A failed check composes "rank 3 (stage 1), step 2, forward model.layers.0 micro-batch 0, all_reduce among ranks 2, 3:
// <text> [Collectives.cpp:41]" and hands it to the context's failure handler, which ends all ranks (in tests: throws).
// Nothing here exits or prints.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_CHECK_H
#define GALVATRON_RUNTIME_CORE_CHECK_H

#include "runtime/core/Context.h"

#include <sstream>

namespace galvatron {

/// Where a rank is, as messages begin: "rank 3 (stage 1), step 2, …", without what does not apply.
std::string describePlace(const gvrt_context &context);

/// While it lives, messages name what is communicated: a collective's group once that is read, or one rank.
class Operation {
public:
  Operation(gvrt_context *context, const char *name, int peer = -1) : context(context) {
    context->operationGroup = nullptr;
    context->operationPeer = peer;
    context->operation = name;
  }
  ~Operation() { context->operation = nullptr; }
  Operation(const Operation &) = delete;
  Operation &operator=(const Operation &) = delete;

private:
  gvrt_context *context;
};

[[noreturn]] void fail(gvrt_context *context, const std::string &text, const char *file, int line);
[[noreturn]] void failMpi(gvrt_context *context, int code, const char *call, const char *file, int line);

} // namespace galvatron

/// GVRT_FAIL(context, "expects " << a << ", but got " << b)
#define GVRT_FAIL(context, text)                                                                                       \
  do {                                                                                                                 \
    std::ostringstream gvrtText;                                                                                       \
    gvrtText << text;                                                                                                  \
    ::galvatron::fail(context, gvrtText.str(), __FILE__, __LINE__);                                                    \
  } while (false)

#define GVRT_CHECK(context, condition, text)                                                                           \
  do {                                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                                     \
      GVRT_FAIL(context, text);                                                                                        \
  } while (false)

/// Meanwhile this rank waits for others, as its watchdog sees it.
#define GVRT_MPI(context, call)                                                                                        \
  do {                                                                                                                 \
    ::galvatron::Waiting gvrtWaiting((context)->progress, #call);                                                      \
    if (int gvrtCode = (call); gvrtCode != MPI_SUCCESS) [[unlikely]]                                                   \
      ::galvatron::failMpi(context, gvrtCode, #call, __FILE__, __LINE__);                                              \
  } while (false)

#endif
