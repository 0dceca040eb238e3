//===- UpdateTable.cpp - what one kernel needs to update all parameters -----===//
#include "runtime/optim/UpdateTable.h"
#include "runtime/optim/Update.h"

namespace galvatron {

UpdateTable makeUpdateTable(const gvrt_context &context, const Manifest &manifest, const Options &options,
                            char *arena) {
  UpdateTable table;
  bool moments = options.optimizer == "adamw";
  auto address = [&](int64_t offset) { return offset < 0 ? nullptr : arena + offset; };
  auto add = [&](const ParameterInfo &p) {
    for (int64_t index = 0; index * kUpdateChunk < p.count; ++index)
      table.chunks.push_back({(int32_t)table.tensors.size(), (int32_t)index});
    table.tensors.push_back({reinterpret_cast<float *>(address(p.parameter)),
                             reinterpret_cast<const float *>(address(p.gradient)),
                             reinterpret_cast<float *>(moments ? address(p.firstMoment) : nullptr),
                             reinterpret_cast<float *>(moments ? address(p.secondMoment) : nullptr),
                             reinterpret_cast<uint16_t *>(address(p.copy)), p.count, weightDecay(options, p)});
  };
  for (bool counted : {true, false}) {
    for (const ParameterInfo &parameter : manifest.parameters)
      if (parameter.isTrained() && answersFor(context, parameter) == counted)
        add(parameter);
    if (counted)
      table.counted = table.chunks.size();
  }
  return table;
}

} // namespace galvatron
