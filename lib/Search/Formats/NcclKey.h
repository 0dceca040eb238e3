//===- NcclKey.h - The key 'nccl' of clusters and plans ---------*- C++ -*-===//
//
// Private to lib/Search.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_NCCLKEY_H
#define GALVATRON_SEARCH_FORMATS_NCCLKEY_H

#include "JsonReader.h"
#include "galvatron/Search/Model/Nccl.h"

namespace galvatron::search {

/// `{"nvls", "max_blocks"}` of a member 'nccl'; `where` begins messages: "cluster". Without the key `fallback`.
std::optional<NcclSettings> readNccl(JsonReader &reader, const std::string &where, std::optional<NcclSettings> fallback,
                                     std::optional<Error> &error);
nlohmann::ordered_json writeNccl(const NcclSettings &nccl);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_NCCLKEY_H
