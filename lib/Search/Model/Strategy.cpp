//===- Strategy.cpp - Names of strategies; what the lowering runs ---------===//

#include "galvatron/Search/Model/Strategy.h"

#include <bit>

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
    return "zb";
  }
  return "";
}

std::optional<Schedule> parseSchedule(std::string_view name) {
  if (name == "pipedream_flush")
    return Schedule::OneFOneB;
  for (Schedule schedule : {Schedule::GPipe, Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZeroBubble})
    if (name == scheduleName(schedule))
      return schedule;
  return std::nullopt;
}

std::string describe(const Strategy &strategy, int dp) {
  std::string text;
  auto add = [&](const std::string &word) { text += (text.empty() ? "" : " ") + word; };
  auto degree = [&](const char *name, int value) {
    if (value > 1)
      add(name + ("=" + std::to_string(value)));
  };
  degree("dp", dp);
  degree("cp", strategy.cp);
  degree("tp", strategy.tp);
  degree("ulysses", strategy.ulysses);
  degree("ep", strategy.ep);
  if (strategy.sequenceParallel)
    add("sp");
  if (strategy.zero)
    add("zero" + std::to_string(strategy.zero));
  if (strategy.recompute)
    add("recompute");
  if (strategy.strided)
    add("strided");
  if (strategy.values)
    add("recompute-" + std::to_string(std::popcount(strategy.values)) + "-values");
  return text.empty() ? "one device" : text;
}

namespace {
/// One row per key of a plan's strategy that the lowering cannot run yet. When
/// a pass learns one, its row goes.
struct Unsupported {
  const char *key;
  bool (*asked)(const Strategy &);
  const char *remedy;
};

const Unsupported kUnsupported[] = {
    {"ulysses", [](const Strategy &s) { return s.ulysses > 1; }, "use tp, or ulysses 1"},
    {"cp", [](const Strategy &s) { return s.cp > 1; }, "use tp or dp, and cp 1"},
    {"ep", [](const Strategy &s) { return s.ep > 1; }, "use ep 1"},
    {"sequence_parallel", [](const Strategy &s) { return s.sequenceParallel; },
     "use plain tp (sequence_parallel false)"},
    {"strided", [](const Strategy &s) { return s.strided; }, "use consecutive tensor groups (strided false)"},
    {"recompute_values", [](const Strategy &s) { return s.values != 0; }, "use recompute true or false"},
    {"zero", [](const Strategy &s) { return s.zero > 0; },
     "use zero 0 (the reference's default_dp_type ddp and dp_types_enc 0)"},
};
} // namespace

std::optional<std::string> whyUnsupported(const Strategy &strategy) {
  for (const Unsupported &row : kUnsupported)
    if (row.asked(strategy))
      return std::string("'") + row.key + "' is not supported by the lowering yet; " + row.remedy;
  return std::nullopt;
}

std::optional<std::string> whyUnsupported(Schedule schedule) {
  if (schedule == Schedule::GPipe || schedule == Schedule::OneFOneB)
    return std::nullopt;
  return "'schedule' " + std::string(scheduleName(schedule)) +
         " is not supported by the lowering yet; use gpipe or 1f1b";
}

} // namespace galvatron::search
