//===- Context.cpp - workspace and failures of a rank --------------------------------------------===//
#include "runtime/core/Context.h"
#include "runtime/core/Check.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace galvatron {

void *Workspace::bytes(size_t bytes) {
  constexpr size_t kAlign = 64;
  if (bytes > kLimitBytes)
    throw std::length_error("a kernel asked for " + std::to_string(bytes) + " bytes of workspace");
  if (bytes > capacity) {
    storage.reset();
    storage.reset(new char[bytes + kAlign]);
    capacity = bytes;
  }
  return reinterpret_cast<void *>((reinterpret_cast<uintptr_t>(storage.get()) + kAlign - 1) / kAlign * kAlign);
}

void fail(gvrt_context *context, const std::string &text, const char *file, int line) {
  const char *name = std::strrchr(file, '/');
  std::ostringstream message;
  message << "rank " << context->rank << " (stage " << context->stage << ")";
  if (context->step > 0)
    message << ", step " << context->step;
  if (context->entry)
    message << ", " << context->entry;
  message << ": " << text << " [" << (name ? name + 1 : file) << ":" << line << "]";
  if (context->onFailure)
    context->onFailure(context, message.str());
  throw std::runtime_error(message.str());
}

void failMpi(gvrt_context *context, int code, const char *call, const char *file, int line) {
  char reason[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, reason, &length);
  fail(context, std::string(reason, length) + " in " + call, file, line);
}

} // namespace galvatron
