//===- Device.h - what the core asks of a device library beside Functions.def --------------------===//
//
// The core does not link a device: a stage binary links both, and the core finds the device's symbols at start. So one
// core serves every device, and a device is one shared library.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_DEVICE_H
#define GALVATRON_RUNTIME_CORE_DEVICE_H

#include "runtime/core/Context.h"

namespace galvatron {

struct DeviceHooks {
  /// One line for people: device, libraries, the kernels they chose. Valid for the process' life.
  const char *(*describe)();
  /// The one way to device memory: counts into the context; aligned to a huge page where that can help. Null if
  /// refused.
  void *(*allocate)(gvrt_context *context, int64_t bytes);
  void (*release)(gvrt_context *context, void *memory, int64_t bytes);
  void (*copyToDevice)(gvrt_context *context, void *to, const void *from, int64_t bytes);
  void (*copyToHost)(gvrt_context *context, void *to, const void *from, int64_t bytes);
  /// Waits for everything issued.
  void (*synchronize)(gvrt_context *context);
  /// Makes and frees the communicators of context->groups and the two pipeline directions. Collective.
  void (*connect)(gvrt_context *context);
  void (*disconnect)(gvrt_context *context);
};

/// Functions that the core calls by name.
struct Device {
  const DeviceHooks *hooks;
  gvrt_function squareSum, adamw, sgd, convert;

  /// Finds the device among the loaded libraries; false if there is none.
  static bool find(Device &device);
};

} // namespace galvatron

/// Exported by every device library.
extern "C" const galvatron::DeviceHooks *gvrt_device_hooks(void);

#endif
