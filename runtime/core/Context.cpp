//===- Context.cpp - workspace and failures of a rank --------------------------------------------===//
#include "runtime/core/Context.h"
#include "runtime/core/Check.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace galvatron {

void *Workspace::bytes(size_t bytes) {
  constexpr size_t kAlign = GVRT_BUFFER_ALIGNMENT;
  if (bytes > kLimitBytes)
    throw std::length_error("a kernel asked for " + std::to_string(bytes) + " bytes of workspace");
  if (bytes > capacity) {
    storage.reset();
    storage.reset(new char[bytes + kAlign]);
    capacity = bytes;
  }
  return reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(storage.get()) + kAlign - 1) / kAlign * kAlign);
}

std::string describePlace(const gvrt_context &context) {
  std::ostringstream place;
  place << "rank " << context.rank << " (stage " << context.stage << ")";
  if (context.step > 0)
    place << ", step " << context.step;
  if (context.entry)
    place << ", " << context.entry;
  if (!context.operation)
    return place.str();
  place << ", " << context.operation;
  if (context.operationPeer >= 0)
    place << " rank " << context.operationPeer;
  constexpr size_t kListed = 8;
  if (const Group *group = context.operationGroup)
    for (size_t i = 0; i < std::min(group->ranks.size(), kListed); ++i)
      place << (i ? ", " : " among ranks ") << group->ranks[i];
  if (context.operationGroup && context.operationGroup->ranks.size() > kListed)
    place << " … (" << context.operationGroup->ranks.size() << ")";
  return place.str();
}

void fail(gvrt_context *context, const std::string &text, const char *file, int line) {
  const char *name = std::strrchr(file, '/');
  std::ostringstream message;
  message << describePlace(*context) << ": " << text << " [" << (name ? name + 1 : file) << ":" << line << "]";
  if (context->onFailure)
    context->onFailure(context, message.str());
  throw std::runtime_error(message.str());
}

void failMpi(gvrt_context *context, int code, const char *call, const char *file, int line) {
  char reason[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, reason, &length);
  // Of the call's text, its name.
  fail(context, std::string(reason, length) + " in " + std::string(call, std::strcspn(call, "(")), file, line);
}

} // namespace galvatron
