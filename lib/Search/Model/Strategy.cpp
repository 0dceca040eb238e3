//===- Strategy.cpp - Strategies as rows of the table; schedules ---------===//

#include "galvatron/Search/Model/Strategy.h"

namespace galvatron::search {

std::string_view scheduleName(Schedule schedule) {
  switch (schedule) {
  case Schedule::GPipe:
    return "gpipe";
  case Schedule::OneFOneB:
    return "1f1b";
  case Schedule::Interleaved:
    return "interleaved";
  case Schedule::ZeroBubble:
    return "zb-h1";
  case Schedule::ZeroBubbleV:
    return "zb-v";
  }
  return "";
}

std::optional<Schedule> parseSchedule(std::string_view name) {
  if (name == "pipedream_flush")
    return Schedule::OneFOneB;
  if (name == "zb")
    return Schedule::ZeroBubble;
  for (Schedule schedule :
       {Schedule::GPipe, Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZeroBubble, Schedule::ZeroBubbleV})
    if (name == scheduleName(schedule))
      return schedule;
  return std::nullopt;
}

plan::StrategyValues valuesOf(const Strategy &strategy, int dp) {
  plan::StrategyValues values;
  values.dp = dp;
#define STRATEGY_DEGREE(FIELD, ...) values.FIELD = strategy.FIELD;
#define STRATEGY_PART(FIELD, ...) values.FIELD = strategy.FIELD;
#define STRATEGY_FLAG(FIELD, ...) values.FIELD = strategy.FIELD;
#define STRATEGY_ASKED(FIELD, ...) values.FIELD = strategy.FIELD;
#define STRATEGY_LEVEL(FIELD, ...) values.FIELD = strategy.FIELD;
#define STRATEGY_CHOICE(FIELD, ...) values.FIELD = strategy.FIELD;
#define STRATEGY_SET(FIELD, ...) values.FIELD = strategy.FIELD;
#include "dialects/Plan/Strategy.def"
  return values;
}

Strategy strategyOf(const plan::StrategyValues &values) {
  Strategy strategy;
#define STRATEGY_DEGREE(FIELD, ...) strategy.FIELD = int(values.FIELD);
#define STRATEGY_PART(FIELD, ...) strategy.FIELD = int(values.FIELD);
#define STRATEGY_FLAG(FIELD, ...) strategy.FIELD = values.FIELD != 0;
#define STRATEGY_ASKED(FIELD, ...) strategy.FIELD = values.FIELD != 0;
#define STRATEGY_LEVEL(FIELD, ...) strategy.FIELD = int(values.FIELD);
#define STRATEGY_CHOICE(FIELD, ...) strategy.FIELD = int(values.FIELD);
#define STRATEGY_SET(FIELD, ...) strategy.FIELD = std::uint32_t(values.FIELD);
#include "dialects/Plan/Strategy.def"
  return strategy;
}

std::string describe(const Strategy &strategy, int dp) { return plan::describe(valuesOf(strategy, dp)); }

std::optional<std::string> whyUnsupported(const Strategy &strategy) {
  std::string reason = plan::whyUnsupported(valuesOf(strategy, 1));
  return reason.empty() ? std::nullopt : std::optional(reason);
}

} // namespace galvatron::search
