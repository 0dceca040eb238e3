//===- NcclKey.cpp - The key 'nccl' of clusters and plans -----------------===//

#include "NcclKey.h"

namespace galvatron::search {

std::optional<NcclSettings> readNccl(JsonReader &reader, const std::string &where, std::optional<NcclSettings> fallback,
                                     std::optional<Error> &error) {
  const Json *member = reader.member("nccl");
  if (!member)
    return fallback;
  JsonReader entry(*member, where + " key 'nccl'");
  NcclSettings nccl;
  nccl.nvls = entry.flag("nvls", nccl.nvls);
  nccl.maxBlocks = entry.integer("max_blocks", nccl.maxBlocks, 1, NcclSettings::kMostBlocks);
  if (auto complaint = entry.finish(); complaint && !error)
    error = complaint;
  return nccl;
}

nlohmann::ordered_json writeNccl(const NcclSettings &nccl) {
  return {{"nvls", nccl.nvls}, {"max_blocks", nccl.maxBlocks}};
}

} // namespace galvatron::search
