// The wants of each kind of parallelism, out of the table of strategies. No pass knows any of them.
#include "galvatron/Placement/Placements.h"

using namespace galvatron;
using plan::DimensionId;

/// Of one dimension; of a flag: what it adds to the wants of another.
static llvm::SmallVector<Preference> getWants(DimensionId id) {
#define WANT(ROLE, WHEN) {AxisRole::ROLE, When::WHEN},
#define STRATEGY_WANTS(NAME, ...)                                                                                      \
  case DimensionId::NAME:                                                                                              \
    return {__VA_ARGS__};
#define STRATEGY_REST(FIELD, NAME, KEY, ORDER, WANTS, ...) STRATEGY_WANTS(NAME, WANTS)
#define STRATEGY_DEGREE(FIELD, NAME, KEY, ORDER, WANTS, ...) STRATEGY_WANTS(NAME, WANTS)
#define STRATEGY_PART(FIELD, NAME, KEY, ORDER, OF, WANTS, ...) STRATEGY_WANTS(NAME, WANTS)
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, WANTS, ...) STRATEGY_WANTS(NAME, WANTS)
  switch (id) {
#include "dialects/Plan/Strategy.def"
  default:
    return {};
  }
#undef STRATEGY_WANTS
#undef WANT
}

llvm::SmallVector<Parallelism> galvatron::getParallelisms(plan::StrategyAttr strategy, const plan::MeshAxes &axes) {
  plan::StrategyValues values = strategy.getValues();
  llvm::SmallVector<Parallelism> rows;
  for (DimensionId id : plan::getRankOrder(/*strided=*/false)) {
    Parallelism &row = rows.emplace_back();
    row.name = plan::kDimensions[int(id)].key;
    row.degree = plan::getOwnDegree(id, values);
    row.meshAxes.assign(axes.of[int(id)].begin(), axes.of[int(id)].end());
    row.wants = getWants(id);
    row.mirrored = id == DimensionId::Cp && row.degree > 1 && CpZigzag(values.cpZigzag) == CpZigzag::Yes;
#define STRATEGY_FLAG(FIELD, NAME, KEY, WORD, CLONE, OF, ...)                                                          \
  if (values.FIELD && id == DimensionId::OF)                                                                           \
    row.wants.append(getWants(DimensionId::NAME));
#include "dialects/Plan/Strategy.def"
  }
  return rows;
}
