//===- LengthFit.cpp - Bodies of lengths that do not fit ------------------===//

#include "galvatron/Search/Model/LengthFit.h"

#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/MeasuredBodies.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace galvatron::search {

std::optional<LengthFit> fitLengths(const std::vector<LengthPoint> &points) {
  std::set<double> lengths;
  double tt = 0, tp = 0, pp = 0, t1 = 0, p1 = 0; // of tokens and pairs ÷ measured seconds
  for (const LengthPoint &point : points) {
    if (point.seconds <= 0)
      return std::nullopt;
    lengths.insert(point.seq);
    double tokens = point.samples * point.seq / point.seconds, pairs = tokens * point.seq;
    tt += tokens * tokens, tp += tokens * pairs, pp += pairs * pairs, t1 += tokens, p1 += pairs;
  }
  double determinant = tt * pp - tp * tp;
  if (lengths.size() < 2 || determinant <= 0)
    return std::nullopt;
  LengthFit fit{(t1 * pp - p1 * tp) / determinant, (p1 * tt - t1 * tp) / determinant};
  if (fit.secondsPerPair < 0)
    fit.secondsPerPair = 0, fit.secondsPerToken = t1 / tt;
  else if (fit.secondsPerToken < 0)
    fit.secondsPerToken = 0, fit.secondsPerPair = p1 / pp;
  for (const LengthPoint &point : points)
    fit.residual = std::max(fit.residual, std::abs(fit.seconds(point.samples, point.seq) / point.seconds - 1));
  return fit;
}

using Measured = std::vector<const MeasuredBody *>;

static std::optional<LengthFit> fitOf(const Measured &bodies, double MeasuredBody::*seconds) {
  std::vector<LengthPoint> points;
  for (const MeasuredBody *body : bodies)
    points.push_back({double(body->samples), double(body->seq), body->*seconds});
  return fitLengths(points);
}

/// As `planned` has it, of figures that shorter ones have.
static std::optional<MeasuredBody> extrapolate(const PlannedBody &planned, const Measured &shorter) {
  std::optional<LengthFit> forward = fitOf(shorter, &MeasuredBody::forwardSeconds),
                           backward = fitOf(shorter, &MeasuredBody::backwardSeconds),
                           again = fitOf(shorter, &MeasuredBody::recomputeSeconds);
  if (!forward)
    return std::nullopt;
  MeasuredBody body = *shorter.front(); // its names, and what no length changes
  body.samples = planned.samples, body.seq = planned.seq;
  double samples = double(body.samples), seq = double(body.seq);
  body.forwardSeconds = forward->seconds(samples, seq);
  body.backwardSeconds = backward ? backward->seconds(samples, seq) : 0;
  body.recomputeSeconds = again ? again->seconds(samples, seq) : 0;
  body.weightSeconds = 0;
  body.stateBytes = planned.stateBytes, body.savedBytes = planned.savedBytes, body.scratchBytes = planned.scratchBytes;
  body.isMeasured = false, body.spread = 0, body.repeats = 1;
  body.residual = std::max(forward->residual, backward ? backward->residual : 0);
  body.forwardWork = body.backwardWork = {};
  return body;
}

void extrapolateLengths(MachineProfile &profile) {
  std::erase_if(profile.bodies, [](const MeasuredBody &body) { return !body.isMeasured; });
  std::map<std::tuple<std::string, std::string, Strategy>, Measured> measured;
  for (const MeasuredBody &body : profile.bodies)
    measured[{body.hash, body.precision, bodyStrategy(body.plan)}].push_back(&body);
  std::vector<MeasuredBody> added;
  for (const PlannedBody &planned : profile.planned) {
    if (planned.plan.recompute)
      continue;
    auto found = measured.find({planned.hash, planned.precision, bodyStrategy(planned.plan)});
    if (found == measured.end() || std::any_of(found->second.begin(), found->second.end(),
                                               [&](const MeasuredBody *body) { return body->seq >= planned.seq; }))
      continue;
    if (std::optional<MeasuredBody> body = extrapolate(planned, found->second))
      added.push_back(std::move(*body));
  }
  profile.bodies.insert(profile.bodies.end(), added.begin(), added.end());
}

} // namespace galvatron::search
