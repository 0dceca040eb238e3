//===- PricedSettings.cpp - Prices that several searches share ------------===//

#include "galvatron/Search/Solver/PricedSettings.h"

#include "Candidate.h"

#include <mutex>

namespace galvatron::search {

struct PricedSettings::Table {
  std::mutex mutex;
  /// By pipeline degree, number of micro-batches and order of ranks.
  std::map<std::tuple<int, int, plan::Mesh>, std::unique_ptr<const Result<Setting>>> priced;
};

PricedSettings::PricedSettings() : table(std::make_unique<Table>()) {}
PricedSettings::~PricedSettings() = default;

Result<Setting> priceSetting(PricedSettings &settings, const Problem &problem, int stages, int microBatches,
                             const plan::Mesh &mesh) {
  PricedSettings::Table &table = settings.getTable();
  std::tuple key(stages, microBatches, mesh);
  const Result<Setting> *known = nullptr;
  {
    std::lock_guard lock(table.mutex);
    if (auto at = table.priced.find(key); at != table.priced.end())
      known = at->second.get();
  }
  if (!known) {
    auto made = std::make_unique<const Result<Setting>>(Setting::make(problem, stages, microBatches, mesh));
    std::lock_guard lock(table.mutex);
    known = table.priced.emplace(std::move(key), std::move(made)).first->second.get();
  }
  Result<Setting> copy = *known;
  if (copy)
    copy->problem = &problem;
  return copy;
}

} // namespace galvatron::search
