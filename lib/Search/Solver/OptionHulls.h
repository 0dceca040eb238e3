//===- OptionHulls.h - Hulls of options, made once -------------*- C++ -*-===//
//
// Private to lib/Search. Every candidate of a setting is bounded by the lower hulls
// of its options' seconds against bytes (KnapsackBound.h), and so is every search
// that shares the setting's prices. Options are thousands, points of a hull a dozen.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_OPTIONHULLS_H
#define GALVATRON_SEARCH_SOLVER_OPTIONHULLS_H

#include "KnapsackBound.h"

#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace galvatron::search {

/// Of one setting's options, by all that a hull depends on besides. Thread-safe.
template <typename Key> class OptionHulls {
public:
  using Points = std::vector<std::pair<double, double>>;

  /// The lower hull of the (bytes, seconds) points that `makePoints` gives the first time that `key` is asked for.
  template <typename MakePoints> const Points &find(const Key &key, MakePoints makePoints) {
    {
      std::lock_guard lock(mutex);
      if (auto at = hulls.find(key); at != hulls.end())
        return at->second;
    }
    Points hull = lowerHull(makePoints());
    std::lock_guard lock(mutex);
    return hulls.emplace(key, std::move(hull)).first->second;
  }

private:
  std::mutex mutex;
  std::map<Key, Points> hulls;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_OPTIONHULLS_H
