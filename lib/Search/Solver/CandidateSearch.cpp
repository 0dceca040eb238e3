//===- CandidateSearch.cpp - The best plan of one pipeline shape ----------===//
//
// Stages are joined from the first to the last. Two passes over the joins:
//
// * relaxed: of two joins at the same place the one that is no worse in four
//   numbers stays. They bound the timetable from below (PipelineBound.h), so that the
//   least complete one proves a floor; complete ones are timed exactly on the way;
// * exact: a join goes only when another one is no worse stage by stage, which no
//   timetable can turn around. What the relaxed bound cannot beat is not opened,
//   and after a good plan little is left.
//
//===----------------------------------------------------------------------===//

#include "Candidate.h"

#include <algorithm>
#include <map>

namespace galvatron::search {

namespace {
/// Joins a pass of the exact kind may make before the floor of the relaxed one
/// has to do.
constexpr std::int64_t kExactJoins = 20000;
/// Comparisons of joins that take about as long as making a label.
constexpr std::int64_t kJoinsOfALabel = 64;

/// Stages joined so far.
struct Join {
  PipelineBound::Done done;
  double forward = 0, backward = 0, weight = 0, transfer = 0; ///< of the last stage
  int layout = -1;
  std::int64_t boundary = 0;
  int parent = -1;   ///< join of the stage before
  int parentEnd = 0; ///< layers done there
  const StageTrie *trie = nullptr;
  const TrieNode *node = nullptr;
  int label = -1;
  bool dropped = false; ///< beaten by a later one
};

/// The joins with the same layers done. They keep their numbers, by which later
/// joins name them.
struct Place {
  struct Numbers {
    PipelineBound::Done done;
    int index; ///< in `joins`
  };
  std::vector<Join> joins;
  /// Those not dropped, by layout and size of the boundary value.
  std::map<std::pair<int, std::int64_t>, std::vector<Numbers>> alive;
};

class ExactSearch {
public:
  ExactSearch(const Candidate &candidate, const std::function<bool()> &stopped)
      : candidate(candidate), setting(candidate.setting()), pipeline(candidate.pipeline()),
        timetable(candidate.shape()), stopped(stopped) {}

  Opened run(double best, double reach, std::int64_t labelBudget);

private:
  int layers() const { return setting.layers(); }
  int stages() const { return setting.stages; }
  double micro() const { return setting.microBatches; }

  bool keepLive(double best);
  bool attempt(double best, std::int64_t labelBudget, bool exact);
  void prepare(double best, std::int64_t labelBudget);
  void extendJoin(int stage, int done, int index);
  void addJoin(int stage, int done, const Join &join);
  bool beaten(int stage, Place &place, const Join &join);
  bool noWorseStageByStage(const Join &a, const Join &b, int stage) const;
  void complete(const Join &join);
  double boundOf(const Join &join, int stage, int done) const;
  bool hasRoom(const Join &join, int stage, int done) const;
  StageTrie &trieOf(int stage, int incoming, std::int64_t boundary);
  bool zeroBubble() const { return candidate.shape().schedule == Schedule::ZeroBubble; }
  int inFlight(int stage) const { return timetable.inFlight(stage)[0][0]; }

  const Candidate &candidate;
  const Setting &setting;
  const PipelineBound &pipeline;
  Timetable timetable;
  const std::function<bool()> &stopped;

  std::shared_ptr<std::vector<OptionLists>> live; ///< options that may be in a better plan
  std::vector<double> leastTimeOfType;
  std::vector<double> leastAfter; ///< Σ least times of layers from here on
  StageLimits limits;
  std::vector<KnapsackBound> rest;
  std::int64_t made = 0; ///< labels of this attempt
  std::map<TrieKey, std::unique_ptr<StageTrie>> tries;
  std::vector<std::vector<Place>> places; ///< [stages done][layers done]
  bool exact = false;
  std::int64_t joinsMade = 0;
  double leastRelaxed = kInfinity; ///< of the complete joins of a relaxed pass
  Found found;
};

/// Drops options that no plan below `best` can contain: forcing one on a layer
/// and relaxing everything else is already too slow. False: nothing is left.
bool ExactSearch::keepLive(double best) {
  const std::vector<OptionLists> &all = candidate.options();
  double memory = setting.memoryOfAllStages();
  int types = int(all[0].size()), kept = candidate.leastInFlight();
  live = std::make_shared<std::vector<OptionLists>>(all.size(), OptionLists(types));
  for (int type = 0; type < types; ++type) {
    KnapsackBound others; // all layers but one of this type
    for (int each = 0; each < types; ++each) {
      int count = int(std::count(setting.typeOf.begin(), setting.typeOf.end(), each)) - (each == type);
      others = KnapsackBound::add(others, candidate.hullOf(each), count);
    }
    for (std::size_t each = 0; each < all.size(); ++each)
      for (const Option &option : all[each][type]) {
        double sum = option.time() + others.at(memory - double(option.state + option.saved * kept));
        if (sum < kInfinity && pipeline.seconds(sum, option.time()) + option.tail < best)
          (*live)[each][type].push_back(option);
      }
    for (const OptionLists &lists : *live)
      if (lists[type].empty())
        return false;
  }
  leastTimeOfType.assign(types, kInfinity);
  for (const OptionLists &lists : *live)
    for (int type = 0; type < types; ++type)
      for (const Option &option : lists[type])
        leastTimeOfType[type] = std::min(leastTimeOfType[type], option.time());
  leastAfter.assign(layers() + 1, 0);
  for (int layer = layers() - 1; layer >= 0; --layer)
    leastAfter[layer] = leastAfter[layer + 1] + leastTimeOfType[setting.typeOf[layer]];
  return true;
}

StageTrie &ExactSearch::trieOf(int stage, int incoming, std::int64_t boundary) {
  // On the last stage of 1F1B, and without a pipeline, only their sum matters.
  bool split = stages() > 1 && (pipeline.warmUp(stage) > 0 || candidate.shape().schedule != Schedule::OneFOneB);
  TrieKey key{inFlight(stage),
              pipeline.warmUp(stage),
              setting.extraBytes(stage),
              setting.classOf[stage],
              incoming,
              split,
              zeroBubble(),
              boundary};
  std::unique_ptr<StageTrie> &trie = tries[key];
  if (!trie)
    trie = std::make_unique<StageTrie>(setting, (*live)[key.stageClass], leastTimeOfType, key);
  return *trie;
}

/// What a step takes at least when these stages come first.
double ExactSearch::boundOf(const Join &join, int stage, int done) const {
  return pipeline.seconds(join.done, stage + 1, {}, leastAfter[done]);
}

/// Whether the stages left can hold the layers left within the best time.
bool ExactSearch::hasRoom(const Join &join, int stage, int done) const {
  if (zeroBubble())
    return true; // in the bound
  double all = join.done.sum + leastAfter[done];
  return pipeline.heldWithin(limits.best - join.done.tail, stage + 1, join.done.sum, all) >= all * (1 - 1e-12);
}

/// Whether no time of the stages after `a` is worse than after `b`.
bool ExactSearch::noWorseStageByStage(const Join &a, const Join &b, int stage) const {
  const Join *x = &a, *y = &b;
  for (;; --stage) {
    if (x->forward > y->forward || x->backward > y->backward || x->transfer > y->transfer)
      return false;
    if (zeroBubble() && (x->weight > y->weight || x->backward - x->weight > y->backward - y->weight))
      return false;
    if (stage == 0)
      return true;
    x = &places[stage][x->parentEnd].joins[x->parent];
    y = &places[stage][y->parentEnd].joins[y->parent];
    if (x == y)
      return true;
  }
}

/// Whether another join at the same place is no worse; drops those that are no
/// better than this one.
bool ExactSearch::beaten(int stage, Place &place, const Join &join) {
  std::vector<Place::Numbers> &others = place.alive[{join.layout, join.boundary}];
  made += std::int64_t(others.size()) / kJoinsOfALabel;
  for (const Place::Numbers &other : others)
    if (other.done.noWorse(join.done) && (!exact || noWorseStageByStage(place.joins[other.index], join, stage)))
      return true;
  std::erase_if(others, [&](const Place::Numbers &other) {
    return join.done.noWorse(other.done) && (!exact || noWorseStageByStage(join, place.joins[other.index], stage)) &&
           (place.joins[other.index].dropped = true);
  });
  return false;
}

void ExactSearch::addJoin(int stage, int done, const Join &join) {
  double bound = boundOf(join, stage, done);
  Place &place = places[stage + 1][done];
  if (!(bound < limits.best) || !hasRoom(join, stage, done) || beaten(stage, place, join))
    return;
  ++joinsMade;
  place.alive[{join.layout, join.boundary}].push_back({join.done, int(place.joins.size())});
  place.joins.push_back(join);
  if (stage + 1 == stages()) {
    leastRelaxed = std::min(leastRelaxed, bound);
    complete(join);
  }
}

/// Times a complete plan and keeps it if it is the best.
void ExactSearch::complete(const Join &last) {
  std::vector<PartTimes> times(stages());
  const Join *join = &last;
  for (int stage = stages() - 1; stage >= 0; --stage) {
    times[stage] = {join->forward, join->backward, join->weight, join->transfer};
    join = &places[stage][join->parentEnd].joins[join->parent];
  }
  double seconds = timetable.secondsWithin(limits.best - last.done.tail, times) + last.done.tail;
  if (!(seconds < limits.best))
    return;
  limits.best = found.seconds = seconds;
  found.options.assign(layers(), nullptr);
  found.partOf.assign(layers(), 0);
  found.lists = live;
  join = &last;
  int end = layers();
  for (int stage = stages() - 1; stage >= 0; --stage) {
    const TrieNode *node = join->node;
    int label = join->label;
    for (int layer = end - 1; layer >= join->parentEnd; --layer) {
      found.options[layer] = &join->trie->option(*node, label);
      found.partOf[layer] = stage;
      label = node->labels[label].parent;
      node = node->before;
    }
    end = join->parentEnd;
    join = &places[stage][join->parentEnd].joins[join->parent];
  }
}

void ExactSearch::extendJoin(int stage, int done, int index) {
  const Join from = places[stage][done].joins[index];
  if (from.dropped)
    return;
  if (stage && !(boundOf(from, stage - 1, done) < limits.best))
    return;
  StageTrie &trie = trieOf(stage, from.layout, from.boundary);
  const TrieNode *node = trie.root();
  bool last = stage + 1 == stages();
  int most = layers() - (stages() - 1 - stage);
  int even = (layers() + stages() - 1) / stages();
  bool uneven = setting.problem->space.unevenStages;
  if (!uneven)
    most = std::min(most, done + even);
  for (int end = done + 1; end <= most; ++end) {
    node = trie.extend(node, setting.typeOf[end - 1], limits, end);
    if (node->labels.empty())
      break;
    if ((last && end != layers()) || (!uneven && end != most))
      continue;
    for (int label : node->ends) {
      const Label &ending = node->labels[label];
      const Option &option = trie.option(*node, label);
      Join join;
      join.forward = ending.forward;
      join.backward = ending.backward;
      join.weight = ending.weight;
      if (!last) {
        join.transfer = setting.handOver(stage, option.layout, option.boundary);
        join.layout = option.layout;
        join.boundary = option.boundary;
      }
      join.done = pipeline.add(from.done, stage, {ending.forward, ending.backward, ending.tail}, join.transfer);
      join.parent = index;
      join.parentEnd = done;
      join.trie = &trie;
      join.node = node;
      join.label = label;
      addJoin(stage, end, join);
    }
  }
}

void ExactSearch::prepare(double best, std::int64_t labelBudget) {
  made = 0;
  tries.clear();
  limits = {best, leastAfter[0], setting.microBatches, setting.memoryBudget(), labelBudget, &made, nullptr};
  if (stages() > 1)
    return;
  rest.assign(layers() + 1, {});
  std::vector<std::vector<std::pair<double, double>>> hulls; // by type
  for (const std::vector<Option> &options : (*live)[0]) {
    std::vector<std::pair<double, double>> points;
    for (const Option &option : options)
      points.emplace_back(double(option.state + option.saved * inFlight(0)), micro() * option.time() + option.tail);
    hulls.push_back(lowerHull(std::move(points)));
  }
  for (int layer = layers() - 1; layer >= 0; --layer)
    rest[layer] = KnapsackBound::add(rest[layer + 1], hulls[setting.typeOf[layer]]);
  limits.rest = &rest;
}

/// One pass. False: it gave up.
bool ExactSearch::attempt(double best, std::int64_t labelBudget, bool exactly) {
  exact = exactly;
  joinsMade = 0;
  if (!exact) {
    prepare(best, labelBudget);
    leastRelaxed = kInfinity;
  }
  places.assign(stages() + 1, std::vector<Place>(layers() + 1));
  places[0][0].joins.emplace_back();
  for (int stage = 0; stage < stages(); ++stage)
    for (int done = stage; done < layers(); ++done)
      for (int index = 0; index < int(places[stage][done].joins.size()); ++index) {
        if (limits.exhausted() || (exact && joinsMade > kExactJoins) || stopped())
          return false;
        extendJoin(stage, done, index);
      }
  return !limits.exhausted(); // also in the last one
}

Opened ExactSearch::run(double best, double reach, std::int64_t labelBudget) {
  Opened opened;
  opened.floor = best;
  if (!keepLive(best))
    return opened;
  opened.floor = candidate.bound();
  // First for plans close to the bound: most is pruned then, and what is found
  // prunes the rest.
  for (double part : kReaches) {
    if (part > reach)
      break;
    if (best == kInfinity && part < 1)
      continue;
    double limit = part < 1 ? candidate.bound() + part * (best - candidate.bound()) : best;
    if (limit <= opened.floor)
      continue;
    bool whole = attempt(limit, labelBudget, false);
    opened.labels += made;
    best = std::min(best, found.seconds);
    if (!whole)
      break;
    opened.floor = std::max(opened.floor, std::min(limit, leastRelaxed));
    // One stage is one sum: relaxed is exact.
    if (part == 1 && stages() > 1 && leastRelaxed < limits.best && attempt(limits.best, labelBudget, true))
      opened.floor = std::min(limit, found.seconds);
    best = std::min(best, found.seconds);
  }
  opened.found = std::move(found);
  return opened;
}
} // namespace

Opened Candidate::open(double best, double reach, std::int64_t labelBudget,
                       const std::function<bool()> &stopped) const {
  return ExactSearch(*this, stopped).run(best, reach, labelBudget);
}

} // namespace galvatron::search
