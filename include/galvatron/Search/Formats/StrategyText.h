//===- StrategyText.h - One strategy as in plan.json ------------*- C++ -*-===//
#ifndef GALVATRON_SEARCH_FORMATS_STRATEGYTEXT_H
#define GALVATRON_SEARCH_FORMATS_STRATEGYTEXT_H

#include "galvatron/Search/Model/Result.h"
#include "galvatron/Search/Model/Strategy.h"

#include <string>
#include <string_view>

namespace galvatron::search {

/// An object of this project's format, whose degrees are 1 where it does not say them. Errors begin with `where`.
Result<Strategy> parseStrategy(std::string_view json, const std::string &where);
std::string formatStrategy(const Strategy &strategy, int dp);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_STRATEGYTEXT_H
