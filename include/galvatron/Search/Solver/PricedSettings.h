//===- PricedSettings.h - Prices that several searches share -----*- C++ -*-===//
//
// Pricing every strategy of every pipeline degree and number of micro-batches is
// most of what a search of a large cluster does. Searches of one problem that
// differ in memory, extra bytes and the settings asked for share it.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_PRICEDSETTINGS_H
#define GALVATRON_SEARCH_SOLVER_PRICEDSETTINGS_H

#include <memory>

namespace galvatron::search {

/// All searches differ in memory, `extraBytesOfStage` and what of the space says which settings there are. Thread-safe.
class PricedSettings {
public:
  PricedSettings();
  ~PricedSettings();
  PricedSettings(const PricedSettings &) = delete;

  struct Table; ///< private to lib/Search
  Table &getTable() { return *table; }

private:
  std::unique_ptr<Table> table;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_PRICEDSETTINGS_H
