//===- Machine.cpp - whether a machine can run a rank, from numbers alone -------------------------------===//
#include "runtime/cuda/Machine.h"
#include "galvatron/Support/Json.h"
#include "runtime/core/Report.h"

#include <algorithm>

namespace galvatron::cuda {

std::string cudaVersion(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

/// NVIDIA numbers drivers on their own.
static std::string driverRemedy(int runtime) {
  return runtime / 1000 == 13 ? "; install NVIDIA's driver 580 or a newer one" : "; install a newer driver";
}

Status checkMachine(const std::string &place, const Machine &machine) {
  const char *remedy =
      "; this program was compiled for cuda: run it where there are GPUs, or compile it with --target=cpu";
  if (machine.driver == 0)
    return Status::error(place, " finds no NVIDIA driver", remedy);
  // Drivers run programs of their own major version, and of older ones.
  if (machine.driver / 1000 < machine.runtime / 1000)
    return Status::error(place, " has a driver for CUDA ", cudaVersion(machine.driver), ", but this program needs one ",
                         "for CUDA ", cudaVersion(machine.runtime), driverRemedy(machine.runtime));
  if (machine.gpus == 0)
    return Status::error(place, " finds no GPU", remedy);
  if (machine.gpus < machine.ranks && !machine.sharesGpus)
    return Status::error(place, " runs with ", machine.ranks, " ranks on a machine with ", machine.gpus,
                         machine.gpus == 1 ? " GPU" : " GPUs",
                         "; each needs one: start fewer there, compile for fewer, or try it out with --share-gpus");
  return Status::success();
}

GpuChoice chooseGpu(const std::vector<std::vector<std::string>> &shown, int index) {
  auto turn = [&](int rank) {
    return std::count(shown.begin(), shown.begin() + rank, shown[rank]) % (int64_t)shown[rank].size();
  };
  GpuChoice choice{(int)turn(index), 0};
  const std::string &mine = shown[index][choice.gpu];
  for (int rank = 0; rank < index; ++rank)
    choice.sharing += shown[rank][turn(rank)] == mine;
  return choice;
}

Status checkShared(const std::string &place, const std::vector<std::vector<std::string>> &shown, int index,
                   bool sharesGpus) {
  GpuChoice choice = chooseGpu(shown, index);
  if (choice.sharing == 0 || sharesGpus)
    return Status::success();
  return Status::error(place, " has the same GPU as another rank of its machine, ", shown[index][choice.gpu],
                       "; show each its own (--gpus-per-task=1, CUDA_VISIBLE_DEVICES), or all the same ones, or try it "
                       "out with --share-gpus");
}

int64_t overheadBytes(const std::string &planFile, int rank) {
  std::string ignored;
  auto plan = readJsonFile(planFile, ignored).value_or(nlohmann::json());
  auto list = plan.is_object() ? plan.find("reserved_bytes_per_rank") : plan.end();
  if (list == plan.end() || !list->is_array() || rank >= (int)list->size() || !(*list)[rank].is_number_integer())
    return 0;
  return (*list)[rank].get<int64_t>();
}

int64_t bytesToCome(int64_t arena, int64_t overhead, int64_t taken) {
  return taken < 0 ? arena : arena + std::max<int64_t>(overhead - taken, 0);
}

Status checkMemory(const std::string &place, int gpu, const std::string &name, int64_t planned, int64_t free,
                   int64_t total) {
  if (free >= planned)
    return Status::success();
  return Status::error(place, " needs ", bytesText(planned), " (", planned, " bytes) on GPU ", gpu, " (", name,
                       "), but only ", bytesText(free), " (", free, " bytes) of its ", bytesText(total),
                       " are free; end what else uses it, or compile with a smaller --memory");
}

CommunicatorBlocks communicatorBlocks(int multiprocessors, int groups, int channels, int most) {
  constexpr int kChannel = 8; // NCCL takes fewer for a group by itself
  int group = std::clamp(multiprocessors / (2 * groups), 1, most);
  return {group, std::clamp((multiprocessors - groups * group) / std::max(channels, 1), 1, kChannel)};
}

} // namespace galvatron::cuda
