//===- BodyWork.cpp - What a body calls -----------------------------------===//

#include "galvatron/Search/Model/BodyWork.h"

#include "galvatron/Search/Model/StepTimetable.h"

#include <map>
#include <tuple>

namespace galvatron::search {

KernelAmounts amountsOf(const BodyCall &call) {
  bool isBackward = call.function.find("backward") != std::string::npos;
  return {call.flops, call.bytes, call.pairs, call.isProduct, isBackward};
}

BodyWork workOf(const StepBody &body, const StageTimetable &stage) {
  std::map<std::tuple<double, double, double, bool, bool>, std::int64_t> kernels;
  std::map<std::tuple<CollectiveKind, double, std::int64_t>, std::int64_t> messages;
  for (const BodyCall &call : body.calls) {
    if (call.collective) {
      ++messages[{*call.collective, call.bytes, stage.groups[std::size_t(call.group)].shape.size()}];
    } else if (call.waitsFor < 0) {
      KernelAmounts of = amountsOf(call);
      ++kernels[{of.flops, of.bytes, of.pairs, of.isProduct, of.isBackward}];
    }
  }
  BodyWork work;
  for (const auto &[key, count] : kernels) {
    auto [flops, bytes, pairs, isProduct, isBackward] = key;
    work.kernels.push_back({count, {flops, bytes, pairs, isProduct, isBackward}});
  }
  for (const auto &[key, count] : messages) {
    auto [kind, bytes, ranks] = key;
    work.messages.push_back({kind, count, bytes, ranks});
  }
  return work;
}

KernelSeconds priceKernels(const BodyWork &work, const DeviceKind &device) {
  KernelSeconds seconds;
  for (const auto &[count, amounts] : work.kernels)
    (amounts.pairs > 0 ? seconds.attention : seconds.other) += double(count) * kernelSeconds(amounts, device);
  return seconds;
}

} // namespace galvatron::search
