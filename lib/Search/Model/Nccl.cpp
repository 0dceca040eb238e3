//===- Nccl.cpp - How GPUs run NCCL ---------------------------------------===//

#include "galvatron/Search/Model/Nccl.h"

#include "galvatron/Search/Model/Plan.h"

namespace galvatron::search {

std::optional<Error> recordNccl(const Cluster &cluster, Plan &plan) {
  if (!plan.nccl)
    plan.nccl = cluster.nccl;
  else if (plan.nccl->nvls && !(cluster.nccl && cluster.nccl->nvls))
    return Error{"plan key 'nccl' has nvls true, but the cluster has not; give one with --cluster that has, with a "
                 "profile taken with --nvls on, or set it to false"};
  return std::nullopt;
}

} // namespace galvatron::search
