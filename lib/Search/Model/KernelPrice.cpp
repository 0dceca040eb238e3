//===- KernelPrice.cpp - What one kernel takes ----------------------------===//

#include "galvatron/Search/Model/KernelPrice.h"

#include "galvatron/Search/Model/MachineTables.h"

#include <algorithm>
#include <optional>

namespace galvatron::search {

/// By what was measured of such kernels on this device, a call's cost included; nothing where none was.
static std::optional<double> measuredSeconds(const KernelAmounts &kernel, const MachineTables &tables) {
  const MeasuredCurve &attention = tables.attention(kernel.isBackward);
  // Of shorter sequences than the shortest measured: a part of its time, which is hardly a call's.
  if (kernel.pairs > 0)
    return attention.isEmpty()
               ? std::nullopt
               : std::optional(attention.seconds(kernel.flops) * std::min(1.0, kernel.flops / attention.least()));
  if (kernel.isProduct)
    return tables.products().isEmpty() ? std::nullopt : std::optional(tables.products().seconds(kernel.flops));
  if (tables.elementwise().isEmpty())
    return std::nullopt;
  return tables.elementwise().seconds(kernel.bytes);
}

/// The roofline: arithmetic, the exponentials of attention or memory, whichever takes longest, and its start.
double kernelSeconds(const KernelAmounts &kernel, const DeviceKind &device) {
  std::optional<double> measured = device.tables ? measuredSeconds(kernel, *device.tables) : std::nullopt;
  double rate = device.matmulFlopsPerSecond * (kernel.isProduct ? 1 : kVectorShareOfProducts);
  double most = std::max(kernel.flops / rate, kernel.bytes / device.memoryBytesPerSecond);
  if (kernel.pairs > 0 && device.attentionPairsPerSecond > 0)
    most = std::max(most, kernel.pairs / device.attentionPairsPerSecond);
  // Elementwise work that is bound by its arithmetic is no copy.
  bool isBound = !kernel.isProduct && measured && most > *measured;
  return measured && !isBound ? *measured : most + device.launchSeconds;
}

} // namespace galvatron::search
