//===- CudaDevice.cpp - one NVIDIA GPU per rank as a device ------------------------------------------===//
//
// The rank with index i on its machine takes the i-th GPU that CUDA shows, or the one that a scheduler shows to it
// alone; with --share-gpus they start again at the first. What can be wrong with a machine is found in `prepare`,
// before memory is taken.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Report.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/HostCopies.h"
#include "runtime/cuda/Launch.h"
#include "runtime/cuda/Machine.h"
#include "runtime/cuda/Memory.h"
#include "runtime/cuda/NcclSettings.h"
#include "runtime/cuda/StepGraph.h"
#include "runtime/cuda/StepTimes.h"
#include "runtime/cuda/Update.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <sstream>
#include <unistd.h>

namespace galvatron::cuda {
namespace {

std::string place(const gvrt_context *context) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return "rank " + std::to_string(context->rank) + " (stage " + std::to_string(context->stage) + ", " + host + ")";
}

/// The ranks of this machine: the index of this one among them, and the GPUs that CUDA shows to each, by UUID.
struct LocalRanks {
  int index = 0;
  std::vector<std::vector<std::string>> shown;
};

std::string uuidOf(int gpu) {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, gpu) != cudaSuccess)
    return "GPU " + std::to_string(gpu);
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", (unsigned char)properties.uuid.bytes[i]);
    text += (i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "") + std::string(digits);
  }
  return text;
}

/// Collective. `gpus`: how many CUDA shows to this rank.
LocalRanks localRanks(gvrt_context *context, int gpus) {
  MPI_Comm machine;
  Waiting waiting(context->progress, "a collective of all ranks");
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  LocalRanks ranks;
  int count = 0;
  MPI_Comm_rank(machine, &ranks.index);
  MPI_Comm_size(machine, &count);
  std::string mine;
  for (int gpu = 0; gpu < gpus; ++gpu)
    mine += uuidOf(gpu) + "\n";
  int size = (int)mine.size();
  std::vector<int> sizes(count), starts(count, 0);
  MPI_Allgather(&size, 1, MPI_INT, sizes.data(), 1, MPI_INT, machine);
  for (int r = 1; r < count; ++r)
    starts[r] = starts[r - 1] + sizes[r - 1];
  std::string all(starts.back() + sizes.back(), '\0');
  MPI_Allgatherv(mine.data(), size, MPI_CHAR, all.data(), sizes.data(), starts.data(), MPI_CHAR, machine);
  MPI_Comm_free(&machine);
  for (int r = 0; r < count; ++r) {
    std::istringstream lines(all.substr(starts[r], sizes[r]));
    std::vector<std::string> &shown = ranks.shown.emplace_back();
    for (std::string line; std::getline(lines, line);)
      shown.push_back(line);
  }
  return ranks;
}

/// The first calls of CUDA. Fills `machine`.
Status checkMachine(gvrt_context *context, LocalRanks &ranks, Machine &machine) {
  cudaDriverGetVersion(&machine.driver);
  cudaRuntimeGetVersion(&machine.runtime);
  // An error here is told by a count of 0 or by the driver's version.
  if (cudaGetDeviceCount(&machine.gpus) != cudaSuccess)
    machine.gpus = 0;
  ranks = localRanks(context, machine.gpus);
  machine.ranks = (int)ranks.shown.size();
  std::set<std::string> all;
  for (const std::vector<std::string> &shown : ranks.shown)
    all.insert(shown.begin(), shown.end());
  // A rank that is shown none has none, whatever others have.
  if (machine.gpus > 0)
    machine.gpus = (int)all.size();
  return checkMachine(place(context), machine);
}

/// NCCL refuses two ranks of one host that have the same GPU. So ranks that share one name different hosts: the k-th on
/// each GPU says that it is on the k-th. What they exchange then goes through sockets, which needs no room on the GPU.
void nameHost(int index) {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  setenv("NCCL_HOSTID", (std::string(host) + "-" + std::to_string(index)).c_str(), /*replace=*/1);
}

/// That the compiler wrote beside the program.
std::string planFile() {
  std::error_code ignored;
  std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  return program.replace_filename("plan.json");
}

/// Whether the GPU is one that this library's kernels run on, and has the memory that was planned. Makes the context.
Status checkGpu(gvrt_context *context, const Manifest &manifest) {
  State &state = stateOf(context);
  cudaDeviceProp properties;
  GVRT_CUDA(context, cudaGetDeviceProperties(&properties, state.gpu));
  state.multiprocessors = properties.multiProcessorCount;
  state.usedBefore = usedBytes(state.gpu);
  if (cudaError_t code = cudaSetDevice(state.gpu); code != cudaSuccess)
    return Status::error(place(context), " cannot use GPU ", state.gpu, " (", properties.name,
                         "): ", cudaGetErrorString(code));
  size_t free = 0, total = 0;
  GVRT_CUDA(context, cudaMemGetInfo(&free, &total));
  // The context is there by now.
  int64_t used = usedBytes(state.gpu), taken = used < 0 || state.usedBefore < 0 ? -1 : used - state.usedBefore;
  int64_t overhead = overheadBytes(planFile(), context->rank);
  return checkMemory(place(context), state.gpu, properties.name, bytesToCome(manifest.arenaBytes, overhead, taken),
                     free, total);
}

std::string &description() {
  static std::string text = "cuda";
  return text;
}

void describeAs(gvrt_context *context) {
  cudaDeviceProp properties;
  int driver = 0, runtime = 0, nccl = 0;
  GVRT_CUDA(context, cudaGetDeviceProperties(&properties, stateOf(context).gpu));
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  ncclGetVersion(&nccl);
  size_t lt = cublasLtGetVersion(), dnn = cudnnGetVersion();
  std::ostringstream text;
  text << "cuda: " << properties.name << " (sm_" << properties.major << properties.minor << ", "
       << bytesText(properties.totalGlobalMem) << "), driver for CUDA " << cudaVersion(driver) << ", CUDA "
       << cudaVersion(runtime) << ", cuBLASLt " << lt / 10000 << "." << lt / 100 % 100 << "." << lt % 100 << ", cuDNN "
       << dnn / 10000 << "." << dnn / 100 % 100 << "." << dnn % 100 << ", NCCL " << nccl / 10000 << "."
       << nccl / 100 % 100 << "." << nccl % 100;
  description() = text.str();
}

const char *describe() { return description().c_str(); }

void openLibraries(gvrt_context *context) {
  State &state = stateOf(context);
  GVRT_CUDA(context, cudaStreamCreateWithFlags(&state.compute, cudaStreamNonBlocking));
  GVRT_CUDA(context, cudaEventCreateWithFlags(&state.idle, cudaEventDisableTiming));
  GVRT_CUDA(context, cudaMallocHost(&state.ticks, sizeof *state.ticks));
  *state.ticks = 0;
  GVRT_CUBLAS(context, cublasLtCreate(&state.cublas));
  GVRT_CUDNN(context, cudnnCreate(&state.cudnn));
  GVRT_CUDNN(context, cudnnSetStream(state.cudnn, state.compute));
}

Status prepare(gvrt_context *context, const Manifest &manifest, const Options &options) {
  // Streams that share a hardware queue wait for one another, which two communicators must not.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*replace=*/0);
  NcclSettings nccl = readNcclSettings(planFile());
  if (Status status = settleNccl(place(context), nccl); !status.ok())
    return status;
  Machine machine{.sharesGpus = options.shareGpus};
  LocalRanks ranks;
  if (Status status = checkMachine(context, ranks, machine); !status.ok())
    return status;
  if (Status status = checkShared(place(context), ranks.shown, ranks.index, options.shareGpus); !status.ok())
    return status;
  GpuChoice choice = chooseGpu(ranks.shown, ranks.index);
  if (machine.ranks > machine.gpus || choice.sharing > 0)
    nameHost(choice.sharing);
  auto *state = new State;
  context->deviceState = state;
  state->gpu = choice.gpu;
  state->maxBlocks = (int)nccl.maxBlocks;
  if (Status status = checkGpu(context, manifest); !status.ok())
    return status;
  openLibraries(context);
  describeAs(context);
  return Status::success();
}

void releaseArena(gvrt_context *context, void *memory, int64_t bytes) {
  if (!context->deviceState)
    return;
  // Nothing may run in it any more, and a graph that captured it must go before the communicators it captured.
  State &state = stateOf(context);
  Waiting waiting(context->progress, "the GPU");
  cudaDeviceSynchronize();
  state.graph.reset();
  state.evaluationGraph.reset();
  state.tracedGraph.reset();
  state.times.reset();
  if (state.update) {
    release(context, state.update->memory, state.update->memoryBytes);
    state.update.reset();
  }
  release(context, memory, bytes);
}

void connectAll(gvrt_context *context) {
  connect(context);
  loadKernels(context);
}

void disconnectAll(gvrt_context *context) {
  auto *state = static_cast<State *>(context->deviceState);
  if (!state)
    return;
  Waiting waiting(context->progress, "the end of NCCL's communicators");
  disconnect(context);
  unloadKernels(*state);
  if (state->cudnn)
    cudnnDestroy(state->cudnn);
  if (state->cublas)
    cublasLtDestroy(state->cublas);
  if (state->idle)
    cudaEventDestroy(state->idle);
  cudaFreeHost(state->ticks);
  if (state->compute)
    cudaStreamDestroy(state->compute);
  context->deviceState = nullptr;
  delete state;
}

void start(gvrt_context *context, const Manifest &manifest, const Options &options, char *arena) {
  State &state = stateOf(context);
  state.workspace = arena + manifest.workspace.offset;
  state.workspaceBytes = manifest.workspace.bytes;
  state.traces = !options.trace.empty();
  startUpdates(context, manifest, options, arena);
}

void copyToDevice(gvrt_context *context, void *to, const void *from, int64_t bytes) {
  // Returns when `from` may be written again if it is pageable; memory of allocateHost is read until the next wait.
  GVRT_CUDA(context, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stateOf(context).compute));
}

void copyToHost(gvrt_context *context, void *to, const void *from, int64_t bytes) {
  synchronize(context);
  GVRT_CUDA(context, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stateOf(context).compute));
  synchronize(context);
}

int64_t bytesInUse(gvrt_context *context) {
  State &state = stateOf(context);
  if (int64_t used = usedBytes(state.gpu); used >= 0 && state.usedBefore >= 0)
    return used - state.usedBefore;
  size_t free = 0, total = 0;
  GVRT_CUDA(context, cudaMemGetInfo(&free, &total));
  return total - free;
}

constexpr DeviceHooks kHooks = {
    .describe = describe,
    .allocate = allocate,
    .release = releaseArena,
    .copyToDevice = copyToDevice,
    .copyToHost = copyToHost,
    .synchronize = synchronize,
    .connect = connectAll,
    .disconnect = disconnectAll,
    .prepare = prepare,
    .start = start,
    .run = run,
    .runOneByOne = runOneByOne,
    .update = update,
    .allocateHost = allocateHost,
    .releaseHost = releaseHost,
    .startCopies = startCopies,
    .areCopied = areCopied,
    .traceNext = traceNext,
    .readTimes = readTimes,
    .bytesInUse = bytesInUse,
};

} // namespace
} // namespace galvatron::cuda

const galvatron::DeviceHooks *gvrt_device_hooks(void) { return &galvatron::cuda::kHooks; }
