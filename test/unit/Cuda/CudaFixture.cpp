#include "CudaFixture.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace galvatron::test {

bool hasGpus() {
  int gpus = 0, ranks = 0;
  if (cudaGetDeviceCount(&gpus) != cudaSuccess)
    gpus = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  return gpus >= ranks;
}

Rank::Rank(int devices, gvrt_program wanted, int64_t arenaBytes, int64_t workspaceBytes)
    : program(wanted), hooks(*gvrt_device_hooks()) {
  MPI_Comm_rank(MPI_COMM_WORLD, &context.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &context.ranks);
  context.devices = devices;
  context.stages = context.ranks / devices;
  context.stage = context.rank / devices;
  context.device = context.rank % devices;
  context.coordinates = {context.device};
  context.program = &program;
  std::vector<int> stage(devices);
  std::iota(stage.begin(), stage.end(), context.stage * devices);
  context.groups = {{stage, context.device, MPI_COMM_NULL}, {{context.rank}, 0, MPI_COMM_NULL}};
  manifest.arenaBytes = arenaBytes;
  manifest.workspace = {0, workspaceBytes};
  used = workspaceBytes;
  Status status = hooks.prepare(&context, manifest, options);
  if (!status.ok())
    throw std::runtime_error(status.message);
  arena = static_cast<char *>(hooks.allocate(&context, arenaBytes));
  hooks.connect(&context);
}

Rank::~Rank() {
  hooks.release(&context, arena, manifest.arenaBytes);
  hooks.disconnect(&context);
}

void Rank::start(std::function<void(Manifest &, Options &)> fill) {
  if (fill)
    fill(manifest, options);
  hooks.start(&context, manifest, options, arena);
}

void Rank::step(int64_t number, const std::function<void()> &walk, double rate) {
  context.step = context.update = number;
  auto call = [](void *walk) { (*static_cast<const std::function<void()> *>(walk))(); };
  hooks.run(&context, rate, call, const_cast<std::function<void()> *>(&walk));
}

double Rank::seconds(const std::function<void()> &issue, int repetitions) {
  std::vector<double> times;
  issue();
  for (int i = 0; i < repetitions; ++i) {
    synchronize();
    MPI_Barrier(MPI_COMM_WORLD);
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    cudaStream_t compute = cuda::stateOf(&context).compute;
    cudaEventRecord(begin, compute);
    issue();
    cudaEventRecord(end, compute);
    synchronize();
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin, end);
    times.push_back(milliseconds * 1e-3);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

} // namespace galvatron::test
