//===- RegularPlans.cpp - Plans that are alike throughout -----------------===//
//
// For every schedule: parts of equal length, all layers of one kind, the ends as
// near to it as they can be. Where a stage does not fit, as many of its layers
// as must take a second kind of the same layout that needs less memory and is
// slower. With more memory fewer layers do, and none other, so no plan gets
// slower.
//
// The whole family of interleaved and zb-v plans that is searched; for the other
// schedules the start of the exact search.
//
//===----------------------------------------------------------------------===//

#include "Candidate.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <tuple>

namespace galvatron::search {

namespace {
/// How much slower than the best plan one of like parts may be for its layers to be moved from part to part, and moves
/// without becoming better than that.
constexpr double kRefined = 1.05;
constexpr int kMostMoves = 64;

class RegularPlans {
public:
  RegularPlans(const Candidate &candidate, double best, const std::function<bool()> &stopped)
      : candidate(candidate), setting(candidate.setting()), timetable(candidate.shape()), stopped(stopped) {
    found.seconds = best;
    first = 0;
    last = setting.layers();
    while (first + 1 < last && role(first) != LayerRole::Block)
      ++first;
    while (last - 1 > first && role(last - 1) != LayerRole::Block)
      --last;
    for (int stage = 0; stage < setting.stages; ++stage) {
      int most = 0;
      for (const std::vector<int> &counts : timetable.inFlight(stage))
        most = std::max(most, *std::max_element(counts.begin(), counts.end()));
      mostInFlight.push_back(most);
    }
  }

  Found run(bool glance);

private:
  LayerRole role(int layer) const { return setting.problem->layers[layer].role; }
  int parts() const { return candidate.shape().parts(); }
  int stageOf(int part) const { return candidate.shape().stageOf(part); }
  int layerType() const { return setting.typeOf[(first + last) / 2]; }
  const std::vector<Option> &kinds() const { return candidate.options()[0][layerType()]; }
  bool isLayer(int layer) const { return layer >= first && layer < last && setting.typeOf[layer] == layerType(); }

  /// What a stage keeps and takes.
  struct Load {
    std::int64_t state = 0, scratch = 0, layerScratch = 0;
    std::vector<std::int64_t> saved; ///< by chunk, of one micro-batch
    double seconds = 0, tail = 0;
    double passing = 0; ///< of its first chunk, on the way to the next stage and back
  };
  std::int64_t bytes(const Load &load, int stage) const;

  std::vector<std::vector<int>> partings() const;
  std::vector<int> partOfSizes(const std::vector<int> &sizes) const;
  void setParting(const std::vector<int> &partOf);
  void tryKind(int kind, bool smallEnds, bool mix);
  void tryPair(int kind, int other);
  const std::vector<int> &smallerKinds(int kind);
  void refine(double limit);
  bool moveLayers(std::vector<int> &sizes);
  bool mayBeBetter(const Load &load, double onTheWay, double tail) const;
  const Option *nearest(int layer, int stageClass, const Option &kind, bool small) const;
  bool fill(int kind, bool smallEnds);
  void measure();
  std::optional<int> change(int stage, const Option &plain, const Option &smaller, Load &load) const;
  bool shrink(int kind, int smaller);
  void take(int smaller);
  int leastChanges(int stage, const Option &plain, const Option &smaller, std::int64_t missing) const;
  void consider();

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  const std::function<bool()> &stopped;
  int first, last;                                  ///< the layers between the ends
  std::vector<std::vector<int>> layersOf, blocksOf; ///< by stage
  std::vector<Load> loads;                          ///< by stage
  std::vector<std::int64_t> mostInFlight;           ///< by stage: micro-batches that any of its parts keeps at once
  std::vector<int> changes;                         ///< by stage
  Choice choice;
  Found found;
  /// The kinds of layers that `found` has, `other` being the smaller one; -1: none.
  struct Kinds {
    int kind = -1, other = -1;
    bool smallEnds = false;
  };
  Kinds here, ofFound;
  // From when they are asked for: whole models repeat a few questions.
  std::vector<std::optional<std::vector<int>>> smaller; ///< by kind
  std::vector<std::vector<const Option *>> nearestTo;   ///< by kind and whether ends are small: by class and type
};

/// Ways to cut the layers: what does not divide goes to the front, the middle or
/// the end, and the ends of the model may be worth a layer.
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
    result.push_back(partOfSizes(size));
  }
  return result;
}

std::vector<int> RegularPlans::partOfSizes(const std::vector<int> &sizes) const {
  std::vector<int> partOf(first, 0);
  for (int part = 0; part < parts(); ++part)
    partOf.insert(partOf.end(), sizes[part], part);
  partOf.resize(setting.layers(), parts() - 1);
  return partOf;
}

const Option *RegularPlans::nearest(int layer, int stageClass, const Option &kind, bool small) const {
  const Option *match = nullptr;
  auto distance = [&](const Option &option) {
    bool other = option.layout != kind.layout;
    double size = small ? double(option.state + option.saved) : 0;
    return std::tuple{other, size, option.strategy != kind.strategy,
                      option.strategy.recompute != kind.strategy.recompute, option.time()};
  };
  for (const Option &option : candidate.options()[stageClass][setting.typeOf[layer]])
    if (!match || distance(option) < distance(*match))
      match = &option;
  return match;
}

/// Everything of one kind. False: some layer has no option.
bool RegularPlans::fill(int kind, bool smallEnds) {
  int type = layerType();
  int types = int(setting.tied.size());
  nearestTo.resize(2 * kinds().size());
  std::vector<const Option *> &known = nearestTo[2 * kind + smallEnds];
  known.resize(candidate.options().size() * types);
  choice.options.resize(setting.layers());
  for (int layer = 0; layer < setting.layers(); ++layer) {
    int stageClass = setting.classOf[stageOf(choice.partOf[layer])];
    const Option *&option = known[stageClass * types + setting.typeOf[layer]];
    if (!option)
      option = setting.typeOf[layer] == type
                   ? &candidate.options()[stageClass][type][kind]
                   : nearest(layer, stageClass, kinds()[kind], smallEnds && role(layer) != LayerRole::Block);
    if (!option)
      return false;
    choice.options[layer] = option;
  }
  return true;
}

std::int64_t RegularPlans::bytes(const Load &load, int stage) const {
  std::int64_t activations = 0;
  for (const std::vector<int> &counts : timetable.inFlight(stage)) {
    std::int64_t sum = 0;
    for (std::size_t chunk = 0; chunk < counts.size(); ++chunk)
      sum += counts[chunk] * load.saved[chunk];
    activations = std::max(activations, sum);
  }
  return setting.extraBytes(stage) + load.state + std::max(load.scratch, load.layerScratch) + activations;
}

/// Every stage with all its layers of one kind.
void RegularPlans::measure() {
  bool split = splitsBackward(candidate.shape().schedule);
  loads.assign(setting.stages, {});
  for (int stage = 0; stage < setting.stages; ++stage) {
    Load &load = loads[stage];
    load.saved.assign(candidate.shape().virtualStages, 0);
    for (int layer : layersOf[stage]) {
      const Option &option = *choice.options[layer];
      int chunk = candidate.shape().chunkOf(choice.partOf[layer]);
      load.state += option.state;
      load.saved[chunk] += option.saved;
      std::int64_t &scratch = isLayer(layer) ? load.layerScratch : load.scratch;
      scratch = std::max(scratch, option.scratch);
      load.seconds += option.time();
      load.tail += option.tail;
      if (isReunited(setting, candidate.shape(), choice.partOf, std::size_t(layer))) {
        load.state -= option.tiedState;
        load.tail -= option.tiedTail;
      }
      if (chunk == 0)
        load.passing += split ? option.forward : option.time();
    }
  }
}

/// Fewer do not free `missing` bytes, as long as a layer is left whose scratch is that of `plain`.
int RegularPlans::leastChanges(int stage, const Option &plain, const Option &smaller, std::int64_t missing) const {
  std::int64_t freed = std::max<std::int64_t>(0, plain.state - smaller.state);
  if (plain.saved > smaller.saved)
    freed += mostInFlight[stage] * (plain.saved - smaller.saved);
  return freed > 0 ? int(std::min<std::int64_t>(missing / freed, std::numeric_limits<int>::max())) : 1;
}

/// How many of a stage's layers have to be `smaller` instead of `plain` for it to
/// fit, with the stage's load then; nothing when all are not enough.
std::optional<int> RegularPlans::change(int stage, const Option &plain, const Option &smaller, Load &load) const {
  const std::vector<int> &layers = blocksOf[stage];
  std::int64_t budget = setting.memoryBudget();
  if (bytes(load, stage) <= budget)
    return 0;
  bool split = splitsBackward(candidate.shape().schedule);
  int count = int(layers.size());
  int least = leastChanges(stage, plain, smaller, bytes(load, stage) - budget);
  for (int changed = 1; changed <= count; ++changed) {
    int chunk = candidate.shape().chunkOf(choice.partOf[layers[changed - 1]]);
    load.layerScratch = std::max(changed < count ? plain.scratch : 0, smaller.scratch);
    load.state += smaller.state - plain.state;
    load.saved[chunk] += smaller.saved - plain.saved;
    load.seconds += smaller.time() - plain.time();
    load.tail += smaller.tail - plain.tail;
    if (chunk == 0)
      load.passing += split ? smaller.forward - plain.forward : smaller.time() - plain.time();
    if ((changed >= least || changed == count) && bytes(load, stage) <= budget)
      return changed;
  }
  return std::nullopt;
}

/// Every stage has its micro-batches to do, after the first has come to it and
/// before the last has gone back; all wait for the longest tail.
bool RegularPlans::mayBeBetter(const Load &load, double onTheWay, double tail) const {
  return onTheWay + setting.microBatches * load.seconds + tail < found.seconds;
}

/// How many layers of each stage have to be of the kind `smaller` for it to fit. False: all are not enough, or it is
/// too slow then.
bool RegularPlans::shrink(int kind, int smaller) {
  int type = layerType();
  double onTheWay = 0, tail = 0;
  changes.assign(setting.stages, 0);
  Load load;
  for (int stage = 0; stage < setting.stages; ++stage) {
    const std::vector<Option> &list = candidate.options()[setting.classOf[stage]][type];
    load = loads[stage];
    std::optional<int> changed = change(stage, list[kind], list[smaller], load);
    tail = std::max(tail, load.tail);
    if (!changed || !mayBeBetter(load, onTheWay, tail))
      return false;
    changes[stage] = *changed;
    onTheWay += load.passing;
  }
  return true;
}

/// Gives every stage as many layers of the kind `smaller` as `shrink` found.
void RegularPlans::take(int smaller) {
  for (int stage = 0; stage < setting.stages; ++stage)
    for (int i = 0; i < changes[stage]; ++i)
      choice.options[blocksOf[stage][i]] = &candidate.options()[setting.classOf[stage]][layerType()][smaller];
}

void RegularPlans::consider() {
  PlanPrice price = pricePlan(setting, timetable, choice, found.seconds);
  if (price.peak() > setting.problem->cluster.memoryBytesPerDevice || !(price.seconds < found.seconds))
    return;
  found = {price.seconds, choice.options, choice.partOf, {}};
  ofFound = here;
}

void RegularPlans::setParting(const std::vector<int> &partOf) {
  choice.partOf = partOf;
  layersOf.assign(setting.stages, {});
  blocksOf.assign(setting.stages, {});
  for (int layer = 0; layer < setting.layers(); ++layer) {
    layersOf[stageOf(partOf[layer])].push_back(layer);
    if (isLayer(layer))
      blocksOf[stageOf(partOf[layer])].push_back(layer);
  }
}

/// `mix`: also layers of two kinds.
void RegularPlans::tryKind(int kind, bool smallEnds, bool mix) {
  if (!fill(kind, smallEnds))
    return;
  here = {kind, -1, smallEnds};
  measure();
  double onTheWay = 0;
  bool fits = true;
  for (int stage = 0; stage < setting.stages; ++stage) {
    // A smaller kind may have the smaller tail.
    if (!mayBeBetter(loads[stage], onTheWay, 0))
      return;
    onTheWay += loads[stage].passing;
    fits = fits && bytes(loads[stage], stage) <= setting.memoryBudget();
  }
  if (fits)
    return consider();
  if (setting.problem->space.uniform || !mix)
    return;
  for (int other : smallerKinds(kind))
    tryPair(kind, other);
}

/// Whether a layer with `a` never takes longer than one with `b`. A longer backward hides more of the tail.
static bool isNeverSlower(const Option &a, const Option &b) {
  return a.forward <= b.forward && a.backward - a.weight <= b.backward - b.weight && a.backward <= b.backward &&
         a.weight <= b.weight && a.tail + a.time() <= b.tail + b.time();
}

/// Kinds that take less memory than `kind` and are slower in everything, so that needing fewer of them never takes
/// longer; of two of which one is no worse in anything, that one.
const std::vector<int> &RegularPlans::smallerKinds(int kind) {
  smaller.resize(kinds().size());
  std::optional<std::vector<int>> &found = smaller[kind];
  if (found)
    return *found;
  found.emplace();
  const Option &from = kinds()[kind];
  auto isNoWorse = [](const Option &a, const Option &b) {
    return a.state <= b.state && a.saved <= b.saved && a.scratch <= b.scratch && isNeverSlower(a, b);
  };
  for (int other = 0; other < int(kinds().size()); ++other) {
    const Option &to = kinds()[other];
    if (to.layout != from.layout || to.state + to.saved >= from.state + from.saved || !isNeverSlower(from, to) ||
        std::any_of(found->begin(), found->end(), [&](int known) { return isNoWorse(kinds()[known], to); }))
      continue;
    std::erase_if(*found, [&](int known) { return isNoWorse(to, kinds()[known]); });
    found->push_back(other);
  }
  return *found;
}

/// With all layers of `kind`, as many as must take `other`.
void RegularPlans::tryPair(int kind, int other) {
  here.other = other;
  if (!shrink(kind, other))
    return;
  std::vector<const Option *> plain = choice.options;
  take(other);
  consider();
  choice.options = std::move(plain);
}

/// Takes a layer from one part and gives it to another, those between moving on by one, where that is faster.
bool RegularPlans::moveLayers(std::vector<int> &sizes) {
  Kinds kinds = ofFound;
  // An end of the model alone may be a part.
  auto isLeast = [&](int part) {
    bool hasEnd = (part == 0 && first > 0) || (part + 1 == parts() && last < setting.layers());
    return sizes[part] == (hasEnd ? 0 : 1);
  };
  for (int from = 0; from < parts(); ++from)
    for (int to = 0; to < parts() && !stopped(); ++to) {
      if (from == to || isLeast(from))
        continue;
      std::vector<int> moved = sizes;
      --moved[from];
      ++moved[to];
      setParting(partOfSizes(moved));
      double before = found.seconds;
      tryKind(kinds.kind, kinds.smallEnds, /*mix=*/false);
      if (kinds.other >= 0 && here.kind == kinds.kind)
        tryPair(kinds.kind, kinds.other);
      if (found.seconds < before) {
        sizes = std::move(moved);
        return true;
      }
    }
  return false;
}

/// Parts that take unlike times, such as those with an end of the model, want unlike numbers of layers.
void RegularPlans::refine(double limit) {
  std::vector<int> sizes(parts(), 0);
  for (int layer = first; layer < last; ++layer)
    ++sizes[found.partOf[layer]];
  for (int round = 0; round < kMostMoves && moveLayers(sizes);)
    round += found.seconds >= limit;
}

Found RegularPlans::run(bool glance) {
  double before = found.seconds;
  bool refines = !glance && !candidate.hasExactSearch() && setting.problem->space.unevenStages;
  if (refines)
    found.seconds *= kRefined;
  std::vector<std::vector<int>> ways = partings();
  if (glance && !ways.empty())
    ways = {ways[ways.size() / 2]};
  for (const std::vector<int> &partOf : ways) {
    setParting(partOf);
    for (int kind = 0; kind < int(kinds().size()) && !stopped(); ++kind) {
      const Option &option = kinds()[kind];
      // Its layers alone, spread evenly.
      if (setting.microBatches * option.time() * (last - first) / setting.stages < found.seconds)
        for (bool smallEnds : {false, true})
          tryKind(kind, smallEnds, !glance);
    }
  }
  if (refines && !found.partOf.empty())
    refine(before);
  if (found.seconds >= before)
    return {};
  found.lists = {candidate.sharedOptions()};
  return std::move(found);
}
} // namespace

Found Candidate::tryRegular(double best, bool glance, const std::function<bool()> &stopped) const {
  return RegularPlans(*this, best, stopped).run(glance);
}

} // namespace galvatron::search
