//===- KernelPrice.h - What one kernel takes --------------------*- C++ -*-===//
//
// The one rule by which search and simulation price a kernel: what a profile
// measured of its kind, else the roofline of the device's rates.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_KERNELPRICE_H
#define GALVATRON_SEARCH_MODEL_KERNELPRICE_H

#include "galvatron/Search/Model/Cluster.h"

namespace galvatron::search {

/// What one kernel computes and moves on one device.
struct KernelAmounts {
  double flops = 0, bytes = 0;
  /// Of attention: queries and keys that meet, as many as forward would take the time of.
  double pairs = 0;
  bool isProduct = false;  ///< runs at the rate of matrix products
  bool isBackward = false; ///< of attention's
};

/// Seconds, the kernel's start included.
double kernelSeconds(const KernelAmounts &kernel, const DeviceKind &device);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_KERNELPRICE_H
