//===- Update.cpp - gradient norm and parameter update over this rank's pieces -------------===//
#include "runtime/optim/Update.h"

#include <algorithm>
#include <bit>
#include <fnmatch.h>

namespace galvatron {

bool answersFor(const gvrt_context &context, const ParameterInfo &parameter) {
  if (!parameter.counted)
    return false;
  std::vector<bool> used(context.coordinates.size(), false);
  const int64_t *word = parameter.placement.data();
  for (size_t d = 0; d < parameter.shape.size(); ++d)
    for (int64_t subAxes = *word++; subAxes > 0; --subAxes, word += 2)
      if (word[1] >= 0)
        used[meshAxisOf(word[1])] = true;
  if (parameter.shard)
    for (int64_t axis : parameter.shard->axes)
      used[axis] = true;
  for (size_t axis = 0; axis < used.size(); ++axis)
    if (!used[axis] && context.coordinates[axis] != 0)
      return false;
  return true;
}

bool answersForLoss(const gvrt_context &context, const LossInfo &loss) {
  for (size_t axis = 0; axis < context.coordinates.size(); ++axis) {
    bool isPartial =
        std::find(loss.partialAxes.begin(), loss.partialAxes.end(), (int64_t)axis) != loss.partialAxes.end();
    if (!isPartial && context.coordinates[axis] != 0)
      return false;
  }
  return true;
}

double squareSum(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena) {
  double sum = 0;
  for (const ParameterInfo &parameter : manifest.parameters)
    if (parameter.isTrained() && answersFor(context, parameter)) {
      void *buffers[] = {arena + parameter.gradient, &sum};
      device.squareSum(&context, buffers, &parameter.count);
    }
  return sum;
}

double clipScale(double norm, double limit) { return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0; }

bool matches(const std::string &pattern, const std::string &name) {
  return fnmatch(pattern.c_str(), name.c_str(), /*flags=*/0) == 0;
}

double weightDecay(const Options &options, const ParameterInfo &parameter) {
  for (const std::string &pattern : options.noWeightDecay)
    for (const std::string &name : parameter.names)
      if (matches(pattern, name))
        return 0;
  return options.weightDecayOn == "all" || parameter.shape.size() >= 2 ? options.weightDecay : 0;
}

Status fillCopies(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena) {
  for (const ParameterInfo &parameter : manifest.parameters) {
    if (parameter.copy < 0 || parameter.isCopyAlone())
      continue;
    if (!device.convert)
      return Status::error(
          "this program wants copies of its parameters in 16 bits, which its device library cannot make; "
          "compile it again");
    void *buffers[] = {arena + parameter.parameter, arena + parameter.copy};
    int64_t words[] = {GVRT_F32, manifest.copyType(), parameter.count};
    device.convert(&context, buffers, words);
  }
  device.hooks->synchronize(&context);
  return Status::success();
}

void updateParameters(gvrt_context &context, const Device &device, const Manifest &manifest, const Options &options,
                      char *arena, double rate, double scale) {
  auto bits = [](double value) { return std::bit_cast<int64_t>(value); };
  for (const ParameterInfo &parameter : manifest.parameters) {
    if (!parameter.isTrained())
      continue;
    double decay = weightDecay(options, parameter);
    char *value = arena + parameter.parameter, *gradient = arena + parameter.gradient;
    char *copy = parameter.copy < 0 ? nullptr : arena + parameter.copy;
    if (options.optimizer == "adamw") {
      void *buffers[] = {value, gradient, arena + parameter.firstMoment, arena + parameter.secondMoment, copy};
      int64_t words[] = {parameter.count,     manifest.copyType(), bits(scale), bits(rate),    bits(options.beta1),
                         bits(options.beta2), bits(options.eps),   bits(decay), context.update};
      device.adamw(&context, buffers, words);
    } else {
      void *buffers[] = {value, gradient, copy};
      int64_t words[] = {parameter.count, manifest.copyType(), bits(scale), bits(rate), bits(decay)};
      device.sgd(&context, buffers, words);
    }
  }
}

} // namespace galvatron
