// Bytes of the stages of a lowered program, and of the plan that they are noted in rank by rank.
#include "PlanBytes.h"

#include "dialects/Dist/Dist.h"

using namespace mlir;
using namespace galvatron;

static ArrayRef<int64_t> getGroupSizes(dist::StageOp stage) {
  auto sizes = stage->getAttrOfType<DenseI64ArrayAttr>(dist::kGroupSizesAttrName);
  return sizes ? sizes.asArrayRef() : ArrayRef<int64_t>();
}

FailureOr<std::vector<RankBytes>> galvatron::measureStages(ModuleOp lowered, int64_t ranks,
                                                           const search::OverheadBytes &overhead) {
  bool worldIsGroup = llvm::any_of(lowered.getOps<dist::StageOp>(), [&](dist::StageOp stage) {
    return llvm::is_contained(getGroupSizes(stage), ranks);
  });
  std::vector<RankBytes> ofStages;
  for (auto stage : lowered.getOps<dist::StageOp>()) {
    auto bytes = stage->getAttrOfType<IntegerAttr>(dist::kArenaBytesAttrName);
    assert(bytes && "set by plan-memory");
    search::RankCommunicators communicators;
    communicators.groups.assign(getGroupSizes(stage).begin(), getGroupSizes(stage).end());
    if (auto channels = stage->getAttrOfType<IntegerAttr>(dist::kChannelsAttrName))
      communicators.channels = channels.getInt();
    if (auto peers = stage->getAttrOfType<IntegerAttr>(dist::kPeersAttrName))
      communicators.peers = peers.getInt();
    if (auto calls = stage->getAttrOfType<IntegerAttr>(dist::kCallsAttrName))
      communicators.calls = calls.getInt();
    if (auto entries = stage->getAttrOfType<IntegerAttr>(dist::kEntriesAttrName))
      communicators.entries = entries.getInt();
    communicators.isForSums = ranks > 1 && !worldIsGroup;
    ofStages.push_back({bytes.getInt(), overhead.of(communicators, bytes.getInt())});
  }
  return ofStages;
}

void galvatron::setBytes(search::Plan &plan, ArrayRef<RankBytes> ofStages) {
  plan.peakBytesPerRank.clear();
  plan.overheadBytesPerRank.clear();
  for (const RankBytes &bytes : ofStages) {
    plan.peakBytesPerRank.insert(plan.peakBytesPerRank.end(), plan.ranksPerStage(), bytes.arena);
    plan.overheadBytesPerRank.insert(plan.overheadBytesPerRank.end(), plan.ranksPerStage(), bytes.overhead);
  }
}

RankBytes galvatron::getBytes(const search::Plan &plan, int stage) {
  size_t rank = size_t(stage * plan.ranksPerStage());
  if (rank >= plan.peakBytesPerRank.size() || rank >= plan.overheadBytesPerRank.size())
    return {};
  return {plan.peakBytesPerRank[rank], plan.overheadBytesPerRank[rank]};
}

int galvatron::getFullestStage(const search::Plan &plan) {
  int fullest = 0;
  for (int stage = 1; stage < plan.pipeline; ++stage)
    if (getBytes(plan, stage).total() > getBytes(plan, fullest).total())
      fullest = stage;
  return fullest;
}

int64_t galvatron::getMostBytes(const search::Plan &plan) { return getBytes(plan, getFullestStage(plan)).total(); }

int64_t galvatron::getMostEstimated(const search::Plan &plan) {
  int64_t most = 0;
  for (const search::StageMemory &memory : plan.stageMemory)
    most = std::max(most, memory.total());
  return most;
}
