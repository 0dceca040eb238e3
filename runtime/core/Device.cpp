//===- Device.cpp - finds the device library that a stage was linked with ------------------------===//
#include "runtime/core/Device.h"

#include <dlfcn.h>

namespace galvatron {

template <typename Function> static bool lookUp(const char *name, Function &function) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

bool Device::find(Device &device) {
  const DeviceHooks *(*hooks)() = nullptr;
  if (!lookUp("gvrt_device_hooks", hooks))
    return false;
  device.hooks = hooks();
  lookUp("gvrt_convert", device.convert);
  bool drivenByHost = lookUp("gvrt_square_sum", device.squareSum) && lookUp("gvrt_adamw", device.adamw) &&
                      lookUp("gvrt_sgd", device.sgd);
  return drivenByHost || device.hooks->update;
}

} // namespace galvatron
