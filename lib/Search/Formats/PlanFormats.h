//===- PlanFormats.h - Reading of the reference's plans ---------*- C++ -*-===//
//
// Private to lib/Search: the half of plan reading that lives in
// ReferencePlan.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_PLANFORMATS_H
#define GALVATRON_SEARCH_FORMATS_PLANFORMATS_H

#include "JsonReader.h"
#include "galvatron/Search/Formats/PlanFile.h"

namespace galvatron::search {

/// Hetu-Galvatron's flat object against the target's layers. Without layers in
/// the target: embedding, the layers that the lists count, head.
Result<Plan> readReferencePlan(const Json &json, const PlanTarget &target);

/// Both formats say for how many ranks and samples they are, under keys of their
/// own: `reader` complains where the target has other ones.
void expectTargetRanks(JsonReader &reader, const char *key, std::int64_t ranks, const PlanTarget &target);
void expectTargetBatch(JsonReader &reader, const char *key, std::int64_t batch, const PlanTarget &target);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_PLANFORMATS_H
