//===- SmallPlans.cpp - Every plan of a small candidate -------------------===//
//
// For schedules whose stages have several parts, where the exact search's labels
// do not work: what a stage keeps and when it waits depends on all its parts.
// Depth first, layer by layer, each on the part of the one before or on the next,
// under all its options. What is placed so far bounds what comes of it: a timetable
// whose later parts take nothing yet is no longer than the whole one, each stage
// has its micro-batches to do, and all stages together have room for the layers
// left. Of plans that differ in the order of equal layers one is looked at.
//
// Finds the best, unless it takes more than kSmallWork placements.
//
//===----------------------------------------------------------------------===//

#include "Candidate.h"
#include "KnapsackBound.h"

#include <algorithm>

namespace galvatron::search {

namespace {
class SmallPlans {
public:
  SmallPlans(const Candidate &candidate, double best, std::int64_t &work, const std::function<bool()> &stopped)
      : candidate(candidate), setting(candidate.setting()), timetable(candidate.shape()), work(work), stopped(stopped) {
    found.seconds = best;
  }

  Found run() {
    double before = found.seconds;
    makeRest();
    times.assign(shape().parts(), {});
    seconds.assign(setting.stages, 0);
    tails.assign(setting.stages, 0);
    state.assign(setting.stages, 0);
    scratch.assign(setting.stages, 0);
    saved.assign(shape().parts(), 0);
    for (int stage = 0; stage < setting.stages; ++stage)
      state[stage] = setting.extraBytes(stage);
    place(0, 0);
    if (found.seconds >= before)
      return {};
    found.lists = {candidate.sharedOptions()};
    return std::move(found);
  }

private:
  const PipelineShape &shape() const { return candidate.shape(); }

  /// Of the layers from each on: seconds against the memory of all stages.
  void makeRest() {
    rest.assign(setting.layers() + 1, {});
    for (int layer = setting.layers() - 1; layer >= 0; --layer)
      rest[layer] = KnapsackBound::add(rest[layer + 1], candidate.hullOf(setting.typeOf[layer]));
  }

  /// Of what is placed on a stage, but for what is kept where the model's ends share parameters.
  std::int64_t bytesOf(int stage) const {
    std::int64_t most = 0;
    for (const std::vector<int> &counts : timetable.inFlight(stage)) {
      std::int64_t kept = 0;
      for (std::size_t chunk = 0; chunk < counts.size(); ++chunk)
        kept += counts[chunk] * saved[shape().partOf(stage, int(chunk))];
      most = std::max(most, kept);
    }
    return state[stage] + scratch[stage] + most;
  }

  /// Whether what is placed may become a plan that is better.
  bool mayBeBetter(int done, int stage) {
    if (bytesOf(stage) > setting.memoryBudget())
      return false;
    double room = setting.memoryOfAllStages(), sum = 0, tail = *std::max_element(tails.begin(), tails.end());
    for (int each = 0; each < setting.stages; ++each) {
      room -= double(state[each] - setting.extraBytes(each));
      sum += seconds[each];
      if (setting.microBatches * seconds[each] + tail >= found.seconds)
        return false;
    }
    double after = rest[done].at(room);
    if (setting.microBatches * (sum + after) / setting.stages + tail >= found.seconds)
      return false;
    return timetable.secondsWithin(found.seconds - tail, times) + tail < found.seconds;
  }

  void place(int layer, int part) {
    int left = setting.layers() - layer, partsLeft = shape().parts() - 1 - part;
    if (left == 0)
      return complete();
    if (left > partsLeft)
      placeOn(layer, part, /*isFirst=*/layer == 0);
    if (layer > 0 && partsLeft > 0)
      placeOn(layer, part + 1, /*isFirst=*/true);
  }

  void placeOn(int layer, int part, bool isFirst) {
    int type = setting.typeOf[layer], stage = shape().stageOf(part), stageClass = setting.classOf[stage];
    const Option *last = layer ? choice.options.back() : nullptr;
    bool isLike = !isFirst && setting.typeOf[layer - 1] == type;
    for (const Option &option : candidate.options()[stageClass][type]) {
      // Of equal neighbours of one layout the order changes nothing.
      if (isLike && option.layout == last->layout && &option < last)
        continue;
      if (++work > kSmallWork || stopped())
        return;
      PartTimes before = times[part], sent = part ? times[part - 1] : PartTimes();
      std::int64_t stateBefore = state[stage], scratchBefore = scratch[stage], savedBefore = saved[part];
      double secondsBefore = seconds[stage], tailBefore = tails[stage];
      add(option, last, part, isFirst && layer > 0, isMaybeReunited(layer));
      choice.options.push_back(&option);
      choice.partOf.push_back(part);
      if (mayBeBetter(layer + 1, stage))
        place(layer + 1, part);
      choice.options.pop_back();
      choice.partOf.pop_back();
      times[part] = before;
      if (part)
        times[part - 1] = sent;
      state[stage] = stateBefore, scratch[stage] = scratchBefore, saved[part] = savedBefore;
      seconds[stage] = secondsBefore, tails[stage] = tailBefore;
    }
  }

  /// Its tied share may not count.
  bool isMaybeReunited(int layer) const {
    return shape().schedule == Schedule::ZeroBubbleV && setting.tied[setting.typeOf[layer]];
  }

  void add(const Option &option, const Option *last, int part, bool isFirst, bool isReunited) {
    int stage = shape().stageOf(part);
    double moved =
        last ? setting.redistribution(setting.classOf[stage], last->layout, option.layout, last->boundary) : 0;
    if (isFirst)
      times[part - 1].transfer = secondsBetween(setting, shape(), part - 1, *last);
    times[part].forward += option.forward + moved / 2;
    times[part].backward += option.backward + moved / 2;
    times[part].weight += option.weight;
    seconds[stage] += option.time() + moved;
    tails[stage] += option.tail - (isReunited ? option.tiedTail : 0);
    state[stage] += option.state - (isReunited ? option.tiedState : 0);
    scratch[stage] = std::max(scratch[stage], option.scratch);
    saved[part] += option.saved;
  }

  void complete() {
    PlanPrice price = pricePlan(setting, timetable, choice, found.seconds);
    if (price.peak() <= setting.problem->cluster.memoryBytesPerDevice && price.seconds < found.seconds)
      found = {price.seconds, choice.options, choice.partOf, {}};
  }

  const Candidate &candidate;
  const Setting &setting;
  Timetable timetable;
  std::int64_t &work;
  const std::function<bool()> &stopped;
  std::vector<KnapsackBound> rest;
  Choice choice;
  // Of the layers placed.
  std::vector<PartTimes> times;             ///< by part
  std::vector<std::int64_t> saved;          ///< by part, of one micro-batch
  std::vector<double> seconds, tails;       ///< by stage
  std::vector<std::int64_t> state, scratch; ///< by stage
  Found found;
};
} // namespace

bool Candidate::isSmall() const {
  double plans = 1;
  for (int part = 1; part < form.parts(); ++part)
    plans *= double(base->layers() - part) / part; // borders
  for (int type : base->typeOf)
    plans *= double(options()[0][type].size());
  return plans <= kSmallPlans;
}

Found Candidate::trySmall(double best, std::int64_t &work, const std::function<bool()> &stopped) const {
  return SmallPlans(*this, best, work, stopped).run();
}

} // namespace galvatron::search
