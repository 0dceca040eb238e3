//===- Speed.cpp - how fast a run is, and how long it takes yet ------------------------------------===//
#include "runtime/core/Speed.h"

#include "galvatron/Support/Json.h"

#include <cmath>
#include <cstdio>

namespace galvatron {

Speed::Speed(const std::string &planFile, int64_t ranks) : ranks(ranks) {
  std::string ignored;
  auto plan = readJsonFile(planFile, ignored).value_or(nlohmann::json());
  auto read = [&](const char *key, double &value) {
    if (plan.is_object() && plan.contains(key) && plan[key].is_number())
      value = plan[key];
  };
  read("model_flops_per_step", flopsPerStep);
  read("peak_flops_per_second", peak);
}

std::optional<double> Speed::teraflops(double seconds) const {
  if (flopsPerStep <= 0 || seconds <= 0)
    return std::nullopt;
  return flopsPerStep / seconds / double(ranks) / 1e12;
}

std::optional<double> Speed::utilization(double seconds) const {
  std::optional<double> rate = teraflops(seconds);
  return rate && peak > 0 ? std::optional(*rate * 1e12 / peak) : std::nullopt;
}

double Remaining::add(int64_t step, int64_t last, double seconds) {
  constexpr double kNew = 0.1;
  mean = ++steps <= 3 ? seconds : mean + kNew * (seconds - mean);
  return mean * double(last - step);
}

std::string durationText(double seconds) {
  auto whole = (long long)std::llround(seconds);
  long long days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60, rest = whole % 60;
  char text[48];
  if (days)
    std::snprintf(text, sizeof text, "%lldd %02lld:%02lld:%02lld", days, hours, minutes, rest);
  else if (hours)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", hours, minutes, rest);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", minutes, rest);
  return text;
}

} // namespace galvatron
