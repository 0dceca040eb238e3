//===- NcclSettings.cpp - what the plan says of NCCL, against the environment ----------------------------===//
#include "runtime/cuda/NcclSettings.h"

#include "galvatron/Support/Json.h"

#include <algorithm>
#include <cstdlib>

namespace galvatron::cuda {

NcclSettings readNcclSettings(const std::string &planFile) {
  NcclSettings settings;
  std::string ignored;
  auto plan = readJsonFile(planFile, ignored).value_or(nlohmann::json());
  auto own = plan.is_object() ? plan.find("nccl") : plan.end();
  if (own == plan.end() || !own->is_object())
    return settings;
  if (auto nvls = own->find("nvls"); nvls != own->end() && nvls->is_boolean())
    settings.nvls = nvls->get<bool>();
  if (auto blocks = own->find("max_blocks"); blocks != own->end() && blocks->is_number_integer())
    settings.maxBlocks = std::clamp<int64_t>(blocks->get<int64_t>(), 1, settings.maxBlocks);
  return settings;
}

/// As NCCL reads it; nothing of it is left over.
static bool isNumber(const char *text, int64_t value) {
  char *end = nullptr;
  return std::strtoll(text, &end, 0) == value && end != text && *end == 0;
}

Status settleNccl(const std::string &place, const NcclSettings &settings) {
  struct Variable {
    const char *name;
    int64_t wanted;
    std::string set; // empty: NCCL takes what each communicator asks for, and no file can change it
    const char *key;
  };
  const Variable variables[] = {
      {"NCCL_NVLS_ENABLE", settings.nvls, settings.nvls ? "1" : "0", settings.nvls ? "nvls true" : "nvls false"},
      {"NCCL_MAX_CTAS", settings.maxBlocks, "", "max_blocks"},
      {"NCCL_MIN_CTAS", 1, "", "at least one block"},
  };
  for (const Variable &variable : variables) {
    const char *there = std::getenv(variable.name);
    if (there && *there && !isNumber(there, variable.wanted))
      return Status::error(place, " has ", variable.name, "=", there, " in its environment, but this program was planned ",
                           "with ", variable.wanted, " (plan.json, nccl: ", variable.key,
                           "), by which its memory is known; unset it, or compile with another 'nccl' in the cluster file");
    setenv(variable.name, variable.set.c_str(), /*overwrite=*/1);
  }
  return Status::success();
}

} // namespace galvatron::cuda
