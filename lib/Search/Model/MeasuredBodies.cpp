//===- MeasuredBodies.cpp - Prices of bodies that were measured -----------===//

#include "galvatron/Search/Model/MeasuredBodies.h"

#include "galvatron/Search/Model/MachineTables.h"

#include <algorithm>
#include <cmath>

namespace galvatron::search {

Strategy bodyStrategy(Strategy strategy) {
  strategy.zero = 0, strategy.strided = false, strategy.reduceEveryMicroBatch = 0;
  strategy.recompute = false, strategy.values = 0;
  return strategy;
}

std::int64_t bodyGroupRanks(const Collective &collective, const Strategy &strategy) {
  if (!collective.axes.empty()) // of several degrees
    return strategy.modelRanks();
  switch (collective.group) {
  case Group::Tensor:
    return strategy.tp;
  case Group::Ulysses:
    return strategy.ulysses;
  case Group::Context:
    return strategy.cp;
  default:
    return strategy.modelRanks();
  }
}

bool refines(const Strategy &strategy, const Strategy &coarser) {
  bool isFiner = true;
#define STRATEGY_DEGREE(FIELD, ...) isFiner = isFiner && strategy.FIELD % coarser.FIELD == 0;
#define STRATEGY_PART(FIELD, ...) isFiner = isFiner && strategy.FIELD % coarser.FIELD == 0;
#define STRATEGY_FLAG(FIELD, ...) isFiner = isFiner && strategy.FIELD >= coarser.FIELD;
#define STRATEGY_ASKED(FIELD, ...) isFiner = isFiner && strategy.FIELD >= coarser.FIELD;
#define STRATEGY_CHOICE(FIELD, ...) isFiner = isFiner && (!coarser.FIELD || strategy.FIELD == coarser.FIELD);
#include "dialects/Plan/Strategy.def"
  return isFiner;
}

double MeasuredBodies::paceOf(const BodyWork &work, double whole, const DeviceKind &device) const {
  double kernels = priceKernels(work, device).total();
  for (const BodyWork::Message &message : work.messages)
    whole -= double(message.count) * links.seconds(message.kind, message.bytes, plan::GroupShape(message.ranks, 1));
  return kernels > 0 ? std::max(0.0, whole) / kernels : 0;
}

MeasuredBodies::MeasuredBodies(const MachineProfile &profile, LinkModel links, const DeviceKind &device)
    : links(std::move(links)), bodies(std::make_shared<std::vector<MeasuredBody>>(profile.bodies)) {
  // A parameter has 16 bytes of f32 states, and 2 more where bodies read a copy in another type, which updates write.
  double copy = profile.precision == "fp32" ? 0 : 2, seconds = 0, bytes = 0;
  for (const MeasuredBody &body : *bodies) {
    layerTypes.insert(body.layerType);
    if (body.precision != profile.precision)
      continue;
    byLength[{body.hash, bodyStrategy(body.plan)}][body.seq].push_back(&body);
    if (!body.isMeasured)
      continue;
    paces[body.hash][bodyStrategy(body.plan)].push_back({double(body.samples), double(body.seq),
                                                         paceOf(body.forwardWork, body.forwardSeconds, device),
                                                         paceOf(body.backwardWork, body.backwardSeconds, device)});
    if (body.updateSeconds > 0) {
      seconds += body.updateSeconds;
      bytes += double(body.stateBytes) / (16 + copy) * (4 * kUpdatePasses + copy);
    }
  }
  updateRate = seconds > 0 ? bytes / seconds : 0;
}

static double secondsOf(const MeasuredBody &body, BodyPart part) {
  return part == BodyPart::Forward    ? body.forwardSeconds
         : part == BodyPart::Backward ? body.backwardSeconds
                                      : body.recomputeSeconds;
}

/// Of `scale` times the samples and tokens, among neighbours.
double MeasuredBodies::messageSeconds(const BodyQuery &query, double scale) const {
  double seconds = 0;
  for (const BodyQuery::Message &message : query.messages)
    seconds += links.seconds(message.kind, message.bytes * scale, plan::GroupShape(message.ranks, 1));
  return seconds;
}

/// Of fewer samples than any along the first line, but no less than their share of the fewest.
static double secondsOf(const MeasuredCurve &curve, double samples) {
  auto [least, first] = curve.all().front();
  if (samples >= least)
    return curve.seconds(samples);
  double share = first * samples / least;
  if (curve.all().size() == 1)
    return share;
  auto [next, second] = curve.all()[1];
  return std::clamp(first - (second - first) / (next - least) * (least - samples), share, first);
}

/// Compute of the query's samples with the length that `points` have.
MeasuredBodies::AtLength MeasuredBodies::priceAt(const Points &points, double seq, const BodyQuery &query) const {
  MeasuredCurve curve;
  bool areMeasured = true;
  for (const MeasuredBody *body : points) {
    areMeasured = areMeasured && body->isMeasured;
    double whole = secondsOf(*body, query.part);
    double scale = double(body->samples) / query.samples * seq / query.seq;
    if (whole > 0)
      curve.add(double(body->samples), std::max(0.0, whole - messageSeconds(query, scale)));
  }
  if (curve.isEmpty())
    return {};
  curve.finish();
  return {secondsOf(curve, query.samples), areMeasured && curve.covers(query.samples)};
}

std::shared_ptr<const MeasuredBodies> MeasuredBodies::madeFree(std::set<std::string> &estimated) const {
  auto free = std::make_shared<MeasuredBodies>(*this);
  free->notes = &estimated;
  return free;
}

std::string bodyName(const std::string &layerType, const Strategy &strategy) {
  return "'" + layerType + "' with " + describe(bodyStrategy(strategy), 1);
}

/// Which body, and why it is estimated.
static std::string describeEstimate(const BodyQuery &query, PriceSource source) {
  const char *parts[] = {"forward", "backward", "recomputation"};
  std::string text = std::string(parts[int(query.part)]) + " of " + bodyName(query.layerType, query.strategy) + ", " +
                     std::to_string(std::int64_t(query.samples)) + " samples: ";
  if (source == PriceSource::Extrapolated)
    return text + "beyond what was measured";
  if (source == PriceSource::Neighbours)
    return text + "not measured, so kernel by kernel at the pace of the measured strategies that it refines";
  return text + (source == PriceSource::OtherCode
                     ? "its shape or code is not what was measured (hash), so kernel by kernel"
                     : "not measured, so kernel by kernel");
}

BodyPrice MeasuredBodies::price(const BodyQuery &query) const {
  BodyPrice price = find(query);
  if (!isFree() || price.seconds <= 0)
    return price;
  if (price.source == PriceSource::Measured)
    price.seconds = 0;
  else
    notes->insert(describeEstimate(query, price.source));
  return price;
}

/// The greatest pace of strategies that the query's refines, each at its nearest length and number of samples. 0: none
/// has.
double MeasuredBodies::neighboursPace(const BodyQuery &query) const {
  auto ofLayer = paces.find(query.hash);
  // Of what recomputes there are no calls: the caller takes forward's pace.
  if (ofLayer == paces.end() || query.hash.empty() || query.part == BodyPart::Recompute)
    return 0;
  double most = 0;
  for (const auto &[coarser, points] : ofLayer->second) {
    if (!refines(bodyStrategy(query.strategy), coarser))
      continue;
    auto distance = [&](const Pace &pace) {
      return std::pair(std::abs(std::log(pace.seq / query.seq)), std::abs(std::log(pace.samples / query.samples)));
    };
    const Pace &nearest = *std::min_element(points.begin(), points.end(),
                                            [&](const Pace &a, const Pace &b) { return distance(a) < distance(b); });
    most = std::max(most, query.part == BodyPart::Forward ? nearest.forward : nearest.backward);
  }
  return most;
}

BodyPrice MeasuredBodies::find(const BodyQuery &query) const {
  double kernels = query.attentionSeconds + query.otherSeconds;
  auto found = byLength.find({query.hash, bodyStrategy(query.strategy)});
  if (found == byLength.end() || query.hash.empty()) {
    if (double pace = neighboursPace(query); pace > 0)
      return {kernels * pace, PriceSource::Neighbours};
    bool isOther = layerTypes.count(query.layerType) > 0 &&
                   std::none_of(byLength.begin(), byLength.end(),
                                [&](const auto &each) { return each.first.first == query.hash; });
    return {kernels, isOther ? PriceSource::OtherCode : PriceSource::Kernels};
  }
  struct Ratio {
    double seq, measured; // ÷ by kernels
    bool covers;
  };
  std::vector<Ratio> ratios; // by length
  for (const auto &[length, points] : found->second) {
    double seq = double(length), by = seq / query.seq;
    AtLength at = priceAt(points, seq, query);
    if (at.seconds <= 0)
      continue;
    if (seq == query.seq)
      return {at.seconds, at.covers ? PriceSource::Measured : PriceSource::Extrapolated};
    double estimate = query.attentionSeconds * by * by + query.otherSeconds * by;
    if (estimate > 0)
      ratios.push_back({seq, at.seconds / estimate, at.covers});
  }
  if (ratios.empty())
    return {kernels, PriceSource::Kernels};
  auto above = std::find_if(ratios.begin(), ratios.end(), [&](const Ratio &each) { return each.seq >= query.seq; });
  if (above == ratios.begin() || above == ratios.end())
    return {kernels * (above == ratios.end() ? ratios.back() : *above).measured, PriceSource::Extrapolated};
  auto below = std::prev(above);
  double share = (query.seq - below->seq) / (above->seq - below->seq);
  double ratio = below->measured + share * (above->measured - below->measured);
  return {kernels * ratio, below->covers && above->covers ? PriceSource::Measured : PriceSource::Extrapolated};
}

} // namespace galvatron::search
