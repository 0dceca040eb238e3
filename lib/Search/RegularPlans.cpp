//===- RegularPlans.cpp - Plans that are alike throughout -----------------===//
//
// For every schedule: parts of equal length, all layers of one kind, the ends as
// near to it as they can be. Where a stage does not fit, as many of its layers
// as must take a second kind of the same layout that needs less memory. With
// more memory fewer layers do, and none other, so no plan gets slower.
//
// The whole family of interleaved and zero-bubble plans that is searched; for
// GPipe and 1F1B the start of the exact search.
//
//===----------------------------------------------------------------------===//

#include "Candidate.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace galvatron::search {

namespace {
class RegularPlans {
public:
  RegularPlans(const Candidate &candidate, double best, const std::function<bool()> &stopped)
      : candidate(candidate), setting(candidate.setting()), timetable(candidate.shape()), stopped(stopped) {
    found.seconds = best;
    first = 0;
    last = setting.units();
    while (first + 1 < last && role(first) != UnitRole::Layer)
      ++first;
    while (last - 1 > first && role(last - 1) != UnitRole::Layer)
      --last;
  }

  Found run();

private:
  UnitRole role(int unit) const { return setting.problem->units[unit].role; }
  int parts() const { return candidate.shape().parts(); }
  const std::vector<Option> &kinds() const { return candidate.options()[0][setting.typeOf[(first + last) / 2]]; }

  std::vector<std::vector<int>> partings() const;
  void setParting(const std::vector<int> &partOf);
  void tryKind(int kind, bool smallEnds);
  bool mayBeBetter() const;
  const Option *nearest(int unit, int stageClass, const Option &kind, bool small) const;
  bool fill(int kind, bool smallEnds);
  bool shrink(int smaller);
  std::int64_t need(int stage) const;
  void consider();

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  const std::function<bool()> &stopped;
  int first, last;                       ///< the units between the ends
  std::vector<std::vector<int>> unitsOf; ///< by stage
  Choice choice;
  Found found;
};

/// Ways to cut the units: what does not divide goes to the front, the middle or
/// the end, and the ends of the model may be worth a unit.
std::vector<std::vector<int>> RegularPlans::partings() const {
  int count = last - first;
  std::set<std::vector<int>> ways;
  for (int fewer : {0, 1, 2, 3}) { // bit 0: the first part has one less, bit 1: the last
    int missing = (fewer & 1) + (fewer >> 1);
    if (parts() == 1 && fewer)
      continue;
    int base = (count + missing) / parts(), more = (count + missing) % parts();
    for (int where : {0, 1, 2}) {
      std::vector<int> size(parts(), base);
      size.front() -= fewer & 1;
      size.back() -= fewer >> 1;
      int begin = where == 0 ? 0 : where == 1 ? (parts() - more) / 2 : parts() - more;
      for (int i = 0; i < more; ++i)
        ++size[begin + i];
      if (*std::min_element(size.begin(), size.end()) > 0)
        ways.insert(size);
    }
  }
  std::vector<std::vector<int>> result;
  for (const std::vector<int> &size : ways) {
    std::vector<int> partOf(first, 0);
    for (int part = 0; part < parts(); ++part)
      partOf.insert(partOf.end(), size[part], part);
    partOf.resize(setting.units(), parts() - 1);
    result.push_back(std::move(partOf));
  }
  return result;
}

const Option *RegularPlans::nearest(int unit, int stageClass, const Option &kind, bool small) const {
  const Option *match = nullptr;
  auto distance = [&](const Option &option) {
    bool other = option.layout != kind.layout;
    double size = small ? double(option.state + option.saved) : 0;
    return std::tuple{other, size, option.strategy != kind.strategy,
                      option.strategy.recompute != kind.strategy.recompute, option.time()};
  };
  for (const Option &option : candidate.options()[stageClass][setting.typeOf[unit]])
    if (!match || distance(option) < distance(*match))
      match = &option;
  return match;
}

/// Everything of one kind. False: some unit has no option.
bool RegularPlans::fill(int kind, bool smallEnds) {
  int type = setting.typeOf[(first + last) / 2];
  // By unit type and class: whole models repeat a few questions.
  std::vector<std::vector<const Option *>> known(candidate.options().size(),
                                                 std::vector<const Option *>(setting.tied.size(), nullptr));
  choice.options.resize(setting.units());
  for (int unit = 0; unit < setting.units(); ++unit) {
    int stageClass = setting.classOf[choice.partOf[unit] % setting.stages];
    const Option *&option = known[stageClass][setting.typeOf[unit]];
    if (!option)
      option = setting.typeOf[unit] == type
                   ? &candidate.options()[stageClass][type][kind]
                   : nearest(unit, stageClass, kinds()[kind], smallEnds && role(unit) != UnitRole::Layer);
    if (!option)
      return false;
    choice.options[unit] = option;
  }
  return true;
}

std::int64_t RegularPlans::need(int stage) const {
  std::vector<std::int64_t> saved(candidate.shape().virtualStages, 0);
  std::int64_t state = 0, scratch = 0, activations = 0;
  for (int unit : unitsOf[stage]) {
    const Option &option = *choice.options[unit];
    state += option.state;
    scratch = std::max(scratch, option.scratch);
    saved[choice.partOf[unit] / setting.stages] += option.saved;
  }
  for (const std::vector<int> &counts : timetable.inFlight(stage)) {
    std::int64_t bytes = 0;
    for (std::size_t chunk = 0; chunk < counts.size(); ++chunk)
      bytes += counts[chunk] * saved[chunk];
    activations = std::max(activations, bytes);
  }
  return state + scratch + activations;
}

/// Moves layers to the kind `smaller` until every stage fits, or as far as it
/// goes.
bool RegularPlans::shrink(int smaller) {
  int type = setting.typeOf[(first + last) / 2];
  for (int stage = 0; stage < setting.stages; ++stage) {
    const Option &other = candidate.options()[setting.classOf[stage]][type][smaller];
    bool fits = need(stage) <= setting.memoryBudget();
    for (int unit : unitsOf[stage]) {
      if (fits)
        break;
      if (unit < first || unit >= last || setting.typeOf[unit] != type)
        continue;
      choice.options[unit] = &other;
      fits = need(stage) <= setting.memoryBudget();
    }
    if (!fits)
      return false;
  }
  return true;
}

void RegularPlans::consider() {
  PlanPrice price = pricePlan(setting, timetable, choice);
  if (price.peak() > setting.problem->cluster.memoryBytesPerDevice || !(price.seconds < found.seconds))
    return;
  found = {price.seconds, choice.options, choice.partOf, {}};
}

void RegularPlans::setParting(const std::vector<int> &partOf) {
  choice.partOf = partOf;
  unitsOf.assign(setting.stages, {});
  for (int unit = 0; unit < setting.units(); ++unit)
    unitsOf[partOf[unit] % setting.stages].push_back(unit);
}

/// Every stage has its micro-batches to do, after the first has come to it and
/// before the last has gone back.
bool RegularPlans::mayBeBetter() const {
  double onTheWay = 0, seconds = 0;
  bool split = candidate.shape().schedule == Schedule::ZeroBubble;
  for (int stage = 0; stage < setting.stages; ++stage) {
    double busy = 0, passing = 0;
    for (int unit : unitsOf[stage]) {
      const Option &option = *choice.options[unit];
      busy += option.time();
      if (choice.partOf[unit] == stage)
        passing += split ? option.forward : option.time();
    }
    seconds = std::max(seconds, onTheWay + setting.microBatches * busy);
    onTheWay += passing;
  }
  return seconds < found.seconds;
}

void RegularPlans::tryKind(int kind, bool smallEnds) {
  if (!fill(kind, smallEnds) || !mayBeBetter())
    return;
  bool fits = true;
  for (int stage = 0; stage < setting.stages && fits; ++stage)
    fits = need(stage) <= setting.memoryBudget();
  if (fits)
    return consider();
  if (setting.problem->space.uniform)
    return;
  std::vector<const Option *> plain = choice.options;
  const Option &from = kinds()[kind];
  for (int other = 0; other < int(kinds().size()); ++other) {
    const Option &to = kinds()[other];
    if (to.layout != from.layout || to.state + to.saved >= from.state + from.saved || to.forward < from.forward ||
        to.backward < from.backward)
      continue;
    choice.options = plain;
    if (mayBeBetter() && shrink(other) && mayBeBetter())
      consider();
  }
}

Found RegularPlans::run() {
  double before = found.seconds;
  std::vector<std::vector<int>> ways = partings();
  for (const std::vector<int> &partOf : ways) {
    setParting(partOf);
    for (int kind = 0; kind < int(kinds().size()) && !stopped(); ++kind) {
      const Option &option = kinds()[kind];
      // Its layers alone, spread evenly.
      if (setting.microBatches * option.time() * (last - first) / setting.stages < found.seconds)
        for (bool smallEnds : {false, true})
          tryKind(kind, smallEnds);
    }
  }
  if (found.seconds >= before)
    return {};
  found.lists = {candidate.sharedOptions()};
  return std::move(found);
}
} // namespace

Found Candidate::tryRegular(double best, const std::function<bool()> &stopped) const {
  return RegularPlans(*this, best, stopped).run();
}

} // namespace galvatron::search
