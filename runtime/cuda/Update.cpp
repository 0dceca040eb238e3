//===- Update.cpp - loss, gradient norm and all parameters' update on the GPU -------------------===//
//
// Sums of ranks are gathered, not reduced, and added in the order of ranks on every one of them: all get the same bits,
// and a rank whose sum is not finite can be named.
//
//===----------------------------------------------------------------------------------------------------------------===//
#include "runtime/cuda/Update.h"
#include "runtime/cuda/Communication.h"
#include "runtime/cuda/HostCopies.h"
#include "runtime/cuda/Memory.h"
#include "runtime/optim/Update.h"

#include <cmath>

namespace galvatron::cuda {

/// The pieces of the plan's device memory, each aligned to 256 bytes.
template <typename Visit> static int64_t layOut(UpdatePlan &plan, const UpdateTable &table, int ranks, Visit place) {
  int64_t offset = 0;
  auto piece = [&](auto *&pointer, int64_t count) {
    place(pointer, offset);
    offset += (count * (int64_t)sizeof *pointer + 255) / 256 * 256;
  };
  piece(plan.scalars, 1);
  piece(plan.verdict, 1);
  piece(plan.own, 1);
  piece(plan.all, ranks);
  piece(plan.partials, table.counted);
  piece(plan.losses, plan.numLosses);
  piece(plan.totals, plan.numTotals);
  piece(plan.tensors, table.tensors.size());
  piece(plan.chunks, table.chunks.size());
  return offset;
}

UpdatePlan::~UpdatePlan() {
  cudaFreeHost(hostScalars);
  cudaFreeHost(hostAll);
}

void startUpdates(gvrt_context *context, const Manifest &manifest, const Options &options, char *arena) {
  State &state = stateOf(context);
  UpdateTable table = makeUpdateTable(*context, manifest, options, arena);
  state.update = std::make_unique<UpdatePlan>();
  UpdatePlan &plan = *state.update;
  plan.rule = {options.optimizer == "adamw",
               manifest.copyType() == GVRT_F16,
               options.beta1,
               options.beta2,
               options.eps,
               options.clipGrad};
  plan.numChunks = table.chunks.size();
  plan.numCounted = table.counted;
  std::vector<LossTerm> losses;
  for (const LossInfo &loss : manifest.losses)
    losses.push_back({reinterpret_cast<const float *>(arena + loss.offset), answersForLoss(*context, loss)});
  plan.numLosses = (int64_t)losses.size();

  std::vector<const float *> totals;
  for (const TotalInfo &total : manifest.totals)
    totals.push_back(reinterpret_cast<const float *>(arena + total.offset));
  plan.numTotals = (int64_t)totals.size();

  plan.memoryBytes = layOut(plan, table, context->ranks, [](auto *&, int64_t) {});
  plan.memory = static_cast<char *>(allocate(context, plan.memoryBytes));
  GVRT_CHECK(context, plan.memory, "cannot allocate " << plan.memoryBytes << " bytes for the optimizer's tables");
  layOut(plan, table, context->ranks, [&](auto *&pointer, int64_t offset) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(plan.memory + offset);
  });
  auto upload = [&](void *to, const auto &list) {
    if (list.empty())
      return;
    GVRT_CUDA(context, cudaMemcpy(to, list.data(), list.size() * sizeof list[0], cudaMemcpyHostToDevice));
  };
  upload(plan.tensors, table.tensors);
  upload(plan.chunks, table.chunks);
  upload(plan.losses, losses);
  upload(plan.totals, totals);
  GVRT_CUDA(context, cudaMallocHost(&plan.hostScalars, sizeof(StepScalars)));
  GVRT_CUDA(context, cudaMallocHost(&plan.hostAll, context->ranks * sizeof(RankSums)));
  state.scalars = plan.scalars;
}

void setScalars(gvrt_context *context, double rate) {
  UpdatePlan &plan = *stateOf(context).update;
  double update = (double)context->update;
  *plan.hostScalars = {context->step, rate, 1 - std::pow(plan.rule.beta1, update),
                       1 - std::pow(plan.rule.beta2, update), context->lossScale};
  GVRT_CUDA(context, cudaMemcpyAsync(plan.scalars, plan.hostScalars, sizeof(StepScalars), cudaMemcpyHostToDevice,
                                     stateOf(context).compute));
}

std::vector<StepSums> update(gvrt_context *context) {
  State &state = stateOf(context);
  UpdatePlan &plan = *state.update;
  context->entry = "the captured step or its update";
  launchSquares(state.compute, plan);
  launchOwnSums(state.compute, plan, (double)context->peakBytes, (double)context->wantedEnd);
  GVRT_CUDA(context, cudaGetLastError());
  const RankSums *all = plan.own;
  if (ncclComm_t world = state.communication->world) {
    GVRT_NCCL(context, ncclAllGather(plan.own, plan.all, sizeof(RankSums), ncclInt8, world, state.compute));
    all = plan.all;
  } else {
    GVRT_CUDA(context, cudaMemcpyAsync(plan.all, plan.own, sizeof(RankSums), cudaMemcpyDeviceToDevice, state.compute));
  }
  launchVerdict(state.compute, plan, context->ranks);
  GVRT_CUDA(context, cudaMemcpyAsync(plan.hostAll, all, context->ranks * sizeof(RankSums), cudaMemcpyDeviceToHost,
                                     state.compute));
  GVRT_CUDA(context, cudaEventRecord(state.idle, state.compute));
  letUpdateWaitForCopies(context);
  launchUpdate(state.compute, plan);
  GVRT_CUDA(context, cudaGetLastError());
  // While the update runs the next step's tokens are read and its graph is launched after it.
  waitFor(context, state.idle);
  context->entry = nullptr;
  std::vector<StepSums> sums;
  for (int rank = 0; rank < context->ranks; ++rank)
    sums.push_back({plan.hostAll[rank].loss, plan.hostAll[rank].squares, plan.hostAll[rank].labels,
                    (int64_t)plan.hostAll[rank].peakBytes, (int64_t)plan.hostAll[rank].wantedEnd});
  return sums;
}

} // namespace galvatron::cuda
