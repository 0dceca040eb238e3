//===- BodyWork.h - What a body calls ---------------------------*- C++ -*-===//
//
// Kernels and messages of a layer's body, equal ones counted: what the body
// would take by the prices of its kernels. A profile keeps it with what the body
// took, so that both can be compared where neither program nor compiler is.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_BODYWORK_H
#define GALVATRON_SEARCH_MODEL_BODYWORK_H

#include "galvatron/Search/Model/KernelPrice.h"
#include "galvatron/Search/Model/Problem.h"

#include <cstdint>
#include <vector>

namespace galvatron::search {

struct BodyCall;
struct StageTimetable;
struct StepBody;

/// Of one rank, forward or backward.
struct BodyWork {
  struct Kernel {
    std::int64_t count = 1;
    KernelAmounts amounts = {}; ///< of one
  };
  struct Message {
    CollectiveKind kind = CollectiveKind::AllReduce;
    std::int64_t count = 1;
    double bytes = 0; ///< of one, as in `Collective`
    std::int64_t ranks = 1;
  };
  std::vector<Kernel> kernels;
  std::vector<Message> messages;

  bool isEmpty() const { return kernels.empty() && messages.empty(); }
};

/// Of a call that is a kernel: neither collective nor wait.
KernelAmounts amountsOf(const BodyCall &call);

/// Of a body that `stage` runs.
BodyWork workOf(const StepBody &body, const StageTimetable &stage);

/// Seconds of kernels by their prices: attention's, and all others'.
struct KernelSeconds {
  double attention = 0, other = 0;
  double total() const { return attention + other; }
};
KernelSeconds priceKernels(const BodyWork &work, const DeviceKind &device);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_BODYWORK_H
