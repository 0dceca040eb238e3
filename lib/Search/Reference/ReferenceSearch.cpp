//===- ReferenceSearch.cpp - Best plan under the reference's score --------===//

#include "galvatron/Search/Reference/ReferenceSearch.h"

#include "StageMultisets.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <set>

namespace galvatron::search {

namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// A plan must be better by this much to replace another: below the rounding
/// of sums of a thousand doubles nothing is better.
constexpr double kImprovement = 1e-13;

/// Whole MB, more than any budget where it is absurd.
int wholeMB(double megabytes) { return int(std::min(megabytes, double(1 << 29))); }

bool powerOfTwo(int value) { return value > 0 && (value & (value - 1)) == 0; }

//===----------------------------------------------------------------------===//
// Strategies (GALVATRON.md 4, items 1 and 2)
//===----------------------------------------------------------------------===//

struct Strategies {
  std::vector<ReferenceStrategy> layers, ends;
};

Strategies listStrategies(const ReferenceModel &model, int stages) {
  const ReferenceArguments &a = model.args();
  std::set<ReferenceStrategy> layers, ends;
  int ranks = a.world() / stages;
  for (bool ulysses : {false, true})
    for (int degree = 1; degree <= ranks; degree *= 2)
      for (int cp = 1; degree * cp <= ranks; cp *= 2) {
        ReferenceStrategy s{stages, ulysses ? 1 : degree, ulysses ? degree : 1, cp, ranks / degree / cp};
        if (ranks % (degree * cp) || degree > (ulysses ? a.maxSp : a.maxTp) || cp > a.maxCp ||
            (a.disableTp && s.tp > 1) || (a.disableSp && s.sp > 1) || (a.disableCp && cp > 1) ||
            (a.disableDp && s.dp > 1))
          continue;
        std::set<DpType> types = {model.defaultType(), DpType::Zero3};
        if (s.dp == 1)
          types = {DpType::Ddp};
        else if (a.disableFsdp)
          types.erase(DpType::Zero3);
        for (DpType type : types) {
          s.type = type;
          s.checkpoint = false;
          layers.insert(s);
          if (!(a.disableEndsTp && s.tp > 1) && !(a.disableEndsSp && s.sp > 1))
            ends.insert(s);
          s.checkpoint = true;
          if (!a.disableCheckpoint)
            layers.insert(s);
        }
      }
  return {{layers.begin(), layers.end()}, {ends.begin(), ends.end()}};
}

//===----------------------------------------------------------------------===//
// Tables of one (batch, chunks, stages)
//===----------------------------------------------------------------------===//

struct LayerRow {
  ReferenceStrategy strategy;
  double compute = 0, sync = 0;
  std::vector<int> megabytes; ///< by stage
};

struct EndsRow {
  ReferenceStrategy strategy;
  std::vector<double> compute; ///< by stage, no sync
  std::vector<int> megabytes;  ///< by stage, context included
};

struct Setting {
  int batch = 0, chunks = 0, stages = 0, widest = 1;
  std::vector<int> layersOfStage;
  std::vector<LayerRow> layers;
  std::vector<EndsRow> ends;
};

Result<Setting> makeSetting(const ReferenceModel &model, int batch, int chunks, int stages, bool referenceDivision) {
  const ReferenceArguments &a = model.args();
  Setting setting{batch, chunks, stages, std::max(1, std::min(batch / chunks, a.world() / stages)), {}, {}, {}};
  for (int stage = 0; stage < stages; ++stage)
    setting.layersOfStage.push_back(a.layers / stages + (stage + 1 == stages ? a.layers % stages : 0));
  Strategies strategies = listStrategies(model, stages);
  // A micro-batch that dp does not divide loses samples in the reference's
  // formulas (GALVATRON.md 7.6): such plans are not offered.
  auto offered = [&](const ReferenceStrategy &s) {
    return s.dp <= setting.widest && (referenceDivision || (batch / chunks) % s.dp == 0);
  };
  for (const ReferenceStrategy &s : strategies.layers) {
    if (!offered(s))
      continue;
    Result<SecondsPair> seconds = model.layerSeconds(s, batch, chunks);
    if (!seconds)
      return seconds.error();
    LayerRow row{s, seconds->noSync, seconds->withSync - seconds->noSync, {}};
    for (int stage = 0; stage < stages; ++stage) {
      Result<MegabytePair> memory = model.layerMemory(s, batch, chunks, stage);
      if (!memory)
        return memory.error();
      row.megabytes.push_back(wholeMB(std::ceil(memory->states + memory->activation)));
    }
    setting.layers.push_back(std::move(row));
  }
  for (const ReferenceStrategy &s : strategies.ends) {
    if (!offered(s))
      continue;
    Result<std::vector<SecondsPair>> seconds = model.endsSeconds(s, batch, chunks);
    Result<std::vector<MegabytePair>> memory = model.endsMemory(s, batch, chunks);
    if (!seconds || !memory)
      return seconds ? memory.error() : seconds.error();
    EndsRow row{s, {}, {}};
    for (int stage = 0; stage < stages; ++stage) {
      row.compute.push_back((*seconds)[stage].noSync);
      const MegabytePair &mb = (*memory)[stage];
      row.megabytes.push_back(wholeMB(std::ceil(mb.states + mb.activation + 1024)));
    }
    setting.ends.push_back(std::move(row));
  }
  return setting;
}

//===----------------------------------------------------------------------===//
// Combining stages
//===----------------------------------------------------------------------===//

/// Best choice of one point a stage for the score of 3.3.
class StageCombination {
public:
  StageCombination(const std::vector<std::vector<StagePoint>> &frontiers, const std::vector<double> &ends, int chunks)
      : frontiers(frontiers), ends(ends), chunks(chunks) {}

  /// Seconds, or infinity when nothing beats `limit`.
  double solve(double limit) {
    std::size_t stages = frontiers.size();
    double best = limit;
    std::vector<std::size_t> choice(stages);
    std::vector<double> noSync(stages), sync(stages);
    for (double tau = 0; tau < kInfinity;) {
      double next = kInfinity, prefix = 0;
      bool possible = true;
      for (std::size_t stage = 0; stage < stages && possible; ++stage) {
        const std::vector<StagePoint> &points = frontiers[stage];
        double room = tau + prefix + ends[stage];
        std::size_t index = 0;
        while (index < points.size() && points[index].sync > room * (1 + 1e-15))
          ++index;
        if (index > 0) // a larger tau allows a cheaper point here
          next = std::min(next, points[index - 1].sync - prefix - ends[stage]);
        possible = index < points.size();
        if (!possible)
          break;
        choice[stage] = index;
        noSync[stage] = points[index].compute + ends[stage];
        sync[stage] = points[index].compute + points[index].sync;
        prefix += noSync[stage];
      }
      if (possible) {
        double seconds = ReferenceModel::iterationSeconds(noSync, sync, chunks);
        if (seconds < best * (1 - kImprovement)) {
          best = seconds;
          chosen = choice;
        }
      }
      if (!(next > tau))
        next = std::nextafter(tau, kInfinity);
      tau = next;
      if (least() + tau >= best)
        break;
    }
    return chosen.empty() ? kInfinity : best;
  }

  std::vector<std::size_t> chosen;

private:
  /// The score without any tail and each stage at its least.
  double least() const {
    std::vector<double> noSync;
    for (std::size_t stage = 0; stage < frontiers.size(); ++stage)
      noSync.push_back(frontiers[stage].front().compute + ends[stage]);
    return ReferenceModel::iterationSeconds(noSync, std::vector<double>(noSync.size(), 0), chunks);
  }

  const std::vector<std::vector<StagePoint>> &frontiers;
  const std::vector<double> &ends;
  int chunks;
};

//===----------------------------------------------------------------------===//
// Candidates
//===----------------------------------------------------------------------===//

/// A task's strategies, as options per stage.
struct Variant {
  std::shared_ptr<const Setting> setting;
  int bufferTp = 0;  ///< 0: Ulysses only, no buffer
  int degreeCap = 0; ///< of layers and ends
  int bufferMB = 0;
  std::vector<StageMultisets> stages;
};

struct Candidate {
  double bound = 0; ///< lower bound of seconds per sample
  std::shared_ptr<const Variant> variant;
  const EndsRow *ends = nullptr;
};

class Searcher {
public:
  Searcher(const ReferenceModel &model, const ReferenceSearchOptions &options)
      : model(model), options(options), begin(std::chrono::steady_clock::now()) {}

  std::optional<Error> addSetting(int batch, int chunks, int stages, const ReferenceTask *only = nullptr);
  ReferenceSolution run();
  bool stopped() const;

private:
  void addVariant(const std::shared_ptr<const Setting> &setting, int bufferTp, int degreeCap, bool tp, bool sp);
  void addCandidates(const std::shared_ptr<Variant> &variant, const ReferenceStrategy *endsMatch);
  void open(const Candidate &candidate);
  void look(const Candidate &candidate, double slack);
  void explainInfeasible();
  void report(bool force);
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

  const ReferenceModel &model;
  const ReferenceSearchOptions &options;
  std::chrono::steady_clock::time_point begin;
  double lastReport = 0;
  std::vector<Candidate> candidates;
  ReferenceSolution solution;
  double best = kInfinity; ///< seconds per sample
  // The variant and ends that need the least memory, for infeasible budgets.
  long smallestNeed = std::numeric_limits<long>::max();
  std::string smallestText;
};

bool Searcher::stopped() const {
  return (options.stop && options.stop->load()) ||
         (options.timeLimitSeconds > 0 && seconds() > options.timeLimitSeconds);
}

std::optional<Error> Searcher::addSetting(int batch, int chunks, int stages, const ReferenceTask *only) {
  const ReferenceArguments &a = model.args();
  Result<Setting> made = makeSetting(model, batch, chunks, stages, options.referenceDivision);
  if (!made)
    return made.error();
  auto setting = std::make_shared<const Setting>(std::move(*made));
  int ranks = a.world() / stages;
  int mostTp = std::min(ranks, a.maxTp), leastTp = std::max(1, ranks / setting->widest);
  using Mode = ReferenceTask::Mode;
  if (only) {
    addVariant(setting, only->mode == Mode::SpOnly ? 0 : only->bufferTp, only->bufferTp, only->mode != Mode::SpOnly,
               only->mode != Mode::TpOnly);
    return std::nullopt;
  }
  // "both" contains "TP only" of the same buffer; Ulysses only needs none.
  for (int bufferTp = 1; bufferTp <= mostTp; bufferTp *= 2)
    if (bufferTp >= leastTp)
      addVariant(setting, bufferTp, bufferTp, true, true);
  addVariant(setting, 0, mostTp, false, true);
  return std::nullopt;
}

void Searcher::addVariant(const std::shared_ptr<const Setting> &setting, int bufferTp, int degreeCap, bool tp,
                          bool sp) {
  auto allowed = [&](const ReferenceStrategy &s) {
    return s.degree() <= degreeCap && (tp || s.tp == 1) && (sp || s.sp == 1);
  };
  auto base = std::make_shared<Variant>();
  base->setting = setting;
  base->bufferTp = bufferTp;
  base->degreeCap = degreeCap;
  base->bufferMB = wholeMB(std::floor(model.bufferMB(setting->batch, setting->chunks, setting->stages, bufferTp)));
  auto build = [&](Variant &variant, const std::vector<int> &rows) {
    for (int stage = 0; stage < setting->stages; ++stage) {
      std::vector<LayerOption> layerOptions;
      for (int row : rows) {
        const LayerRow &layer = setting->layers[row];
        layerOptions.push_back({layer.compute, layer.sync, layer.megabytes[stage], row});
      }
      variant.stages.emplace_back(std::move(layerOptions), setting->layersOfStage[stage]);
    }
  };
  std::vector<int> rows;
  for (int row = 0; row < int(setting->layers.size()); ++row)
    if (allowed(setting->layers[row].strategy))
      rows.push_back(row);
  if (rows.empty())
    return;
  if (model.args().fineGrained) {
    build(*base, rows);
    addCandidates(base, nullptr);
    return;
  }
  // Coarse: one strategy for all layers, and for the ends as far as they may.
  for (int row : rows) {
    auto variant = std::make_shared<Variant>(*base);
    build(*variant, {row});
    ReferenceStrategy match = setting->layers[row].strategy;
    match.checkpoint = false;
    addCandidates(variant, &match);
  }
}

void Searcher::addCandidates(const std::shared_ptr<Variant> &variant, const ReferenceStrategy *endsMatch) {
  const Setting &setting = *variant->setting;
  bool matchOffered = endsMatch && std::any_of(setting.ends.begin(), setting.ends.end(),
                                               [&](const EndsRow &row) { return row.strategy == *endsMatch; });
  for (const EndsRow &ends : setting.ends) {
    if (matchOffered && ends.strategy != *endsMatch)
      continue;
    if (ends.strategy.degree() > variant->degreeCap || (!variant->bufferTp && ends.strategy.tp > 1))
      continue;
    std::vector<double> noSync;
    long need = 0;
    int needStage = 0;
    for (int stage = 0; stage < setting.stages; ++stage) {
      const StageMultisets &multisets = variant->stages[stage];
      int budget = model.budgetMB() - ends.megabytes[stage] - variant->bufferMB;
      noSync.push_back(multisets.computeBound(budget) + ends.compute[stage]);
      long wants = multisets.smallestMegabytes() + ends.megabytes[stage] + variant->bufferMB;
      if (wants > need) {
        need = wants;
        needStage = stage;
      }
    }
    if (need < smallestNeed) {
      smallestNeed = need;
      smallestText = "stage " + std::to_string(needStage) + " of " + std::to_string(setting.stages) + ", batch " +
                     std::to_string(setting.batch) + " in " + std::to_string(setting.chunks) + " chunks, ends " +
                     std::to_string(ends.megabytes[needStage]) + " MB, gather buffer " +
                     std::to_string(variant->bufferMB) + " MB, layers " +
                     std::to_string(variant->stages[needStage].smallestMegabytes()) + " MB";
    }
    double bound =
        ReferenceModel::iterationSeconds(noSync, std::vector<double>(noSync.size(), 0), setting.chunks) / setting.batch;
    if (bound < kInfinity)
      candidates.push_back({bound, variant, &ends});
  }
}

void Searcher::open(const Candidate &candidate) {
  ++solution.opened;
  // Without a plan to beat, look near the bound first: each plan found makes
  // the next, wider look cheaper.
  if (!solution.plan)
    for (double slack : {1e-3, 1e-2, 1e-1})
      look(candidate, slack);
  look(candidate, kInfinity);
}

/// The best choice of points whose compute is within `slack` of the bound.
void Searcher::look(const Candidate &candidate, double slack) {
  const Variant &variant = *candidate.variant;
  const Setting &setting = *variant.setting;
  std::vector<double> least;
  std::vector<int> budgets;
  for (int stage = 0; stage < setting.stages; ++stage) {
    budgets.push_back(model.budgetMB() - candidate.ends->megabytes[stage] - variant.bufferMB);
    least.push_back(variant.stages[stage].computeBound(budgets[stage]) + candidate.ends->compute[stage]);
  }
  double limit = best * setting.batch, prefix = 0;
  std::vector<double> none(setting.stages, 0);
  std::vector<std::vector<StagePoint>> frontiers;
  for (int stage = 0; stage < setting.stages; ++stage) {
    auto total = [&](double compute) {
      std::vector<double> noSync = least;
      noSync[stage] = compute;
      return ReferenceModel::iterationSeconds(noSync, none, setting.chunks);
    };
    // The most this stage may take while the others take their least.
    double low = least[stage], high = std::min(low * (1 + slack), limit);
    double most = high;
    for (int step = 0; step < 60 && high - low > 1e-12 * high && total(most) > limit; ++step) {
      double middle = (low + high) / 2;
      (total(middle) < limit ? low : high) = middle;
      most = high;
    }
    // score >= total(least) + slope (c - least) + sync - ends - prefix. A
    // single stage is passed `chunks` times, the first of several once at
    // least; a later one may be overlapped with the first, so count it as free.
    double ends = candidate.ends->compute[stage];
    double slope = setting.stages == 1 ? setting.chunks : stage == 0 ? 1 : 0;
    double sum = limit - total(least[stage]) + slope * (least[stage] - ends) + ends + prefix;
    frontiers.push_back(
        variant.stages[stage].frontier(budgets[stage], {most - ends, slope, sum * (1 + 1e-12)}, solution.nodes));
    if (frontiers.back().empty())
      return;
    prefix += frontiers.back().back().compute + ends;
    // What the next stages may take shrinks with the truth about this one.
    least[stage] = frontiers.back().front().compute + ends;
  }
  StageCombination combination(frontiers, candidate.ends->compute, setting.chunks);
  double found = combination.solve(limit);
  if (found == kInfinity)
    return;
  ReferencePlan plan{model.args().world(),  setting.stages,           setting.batch,   setting.chunks, {},
                     setting.layersOfStage, candidate.ends->strategy, variant.bufferTp};
  for (int stage = 0; stage < setting.stages; ++stage) {
    auto counts = frontiers[stage][combination.chosen[stage]].counts;
    std::sort(counts.begin(), counts.end(), [&](const auto &a, const auto &b) {
      return setting.layers[a.first].strategy.checkpoint > setting.layers[b.first].strategy.checkpoint;
    });
    for (auto [row, count] : counts)
      plan.layers.insert(plan.layers.end(), count, setting.layers[row].strategy);
  }
  best = found / setting.batch;
  solution.plan = std::move(plan);
  report(true);
}

void Searcher::report(bool force) {
  if (!options.progress)
    return;
  double now = seconds();
  if (!force && now - lastReport < 0.2)
    return;
  lastReport = now;
  ReferenceProgress progress{now, solution.opened, candidates.size(), 0, ""};
  if (solution.plan) {
    progress.throughput = 1 / best;
    progress.best = "pp " + std::to_string(solution.plan->stages) + ", chunks " +
                    std::to_string(solution.plan->chunks) + ", batch " + std::to_string(solution.plan->batch);
  }
  options.progress(progress);
}

void Searcher::explainInfeasible() {
  if (smallestNeed == std::numeric_limits<long>::max()) {
    solution.reason = "no strategy is left: the switches, the degree caps and the batch exclude "
                      "every way to use " +
                      std::to_string(model.args().world()) +
                      " devices; raise max_tp_deg or max_pp_deg, or a batch that the devices "
                      "divide";
    return;
  }
  if (smallestNeed >= 1 << 27) {
    solution.reason = "no strategy fits " + std::to_string(model.args().memoryGB) +
                      " GB per device; the smallest plan needs " + std::to_string(smallestNeed) + " MB (" +
                      smallestText + "), more than any device has; take more devices or chunks, or widen the space";
    return;
  }
  // The smallest whole number of GB whose budget holds the need.
  ReferenceArguments arguments = model.args();
  for (arguments.memoryGB = int(smallestNeed / 1024);; ++arguments.memoryGB) {
    ReferenceModel other(arguments, model.measurements());
    if (other.budgetMB() >= smallestNeed)
      break;
  }
  solution.smallestMemoryGB = arguments.memoryGB;
  solution.reason = "no strategy fits " + std::to_string(model.args().memoryGB) + " GB per device (" +
                    std::to_string(model.budgetMB()) + " MB after the overhead); the smallest plan needs " +
                    std::to_string(smallestNeed) + " MB (" + smallestText + "); set memory_constraint to at least " +
                    std::to_string(arguments.memoryGB) + ", or widen the space";
}

ReferenceSolution Searcher::run() {
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate &a, const Candidate &b) { return a.bound < b.bound; });
  solution.candidates = candidates.size();
  solution.interrupted = stopped(); // while they were made
  double patience = seconds() + 1;  // for a first plan
  for (const Candidate &candidate : candidates) {
    if (candidate.bound >= best * (1 - kImprovement))
      break;
    if (stopped() && (solution.plan || seconds() > patience)) {
      solution.interrupted = true;
      break;
    }
    open(candidate);
    report(false);
  }
  if (!solution.plan && !solution.interrupted)
    explainInfeasible();
  if (solution.plan)
    // Every measurement it needs has been read above.
    solution.price = *model.price(*solution.plan);
  report(true);
  solution.searchSeconds = seconds();
  return std::move(solution);
}

std::vector<int> batches(const ReferenceArguments &a) {
  if (a.settledBatch > 0)
    return {a.settledBatch};
  std::vector<int> list;
  for (int batch = std::max(a.minBatch, a.batchStep); batch <= a.maxBatch; batch += a.batchStep)
    list.push_back(batch);
  return list;
}
} // namespace

Result<ReferenceSolution> searchReference(const ReferenceModel &model, const ReferenceSearchOptions &options) {
  const ReferenceArguments &a = model.args();
  Searcher searcher(model, options);
  std::vector<int> tried = batches(a);
  if (tried.empty())
    return Error{"no batch lies between min_bsz " + std::to_string(a.minBatch) + " and max_bsz " +
                 std::to_string(a.maxBatch) + " in steps of bsz_scale " + std::to_string(a.batchStep)};
  if (a.settledChunks > 0)
    std::erase_if(tried, [&](int batch) { return batch % a.settledChunks != 0; });
  if (tried.empty())
    return Error{"settle_chunk " + std::to_string(a.settledChunks) +
                 " divides none of the batches from min_bsz to max_bsz; choose another step or number"};
  for (int batch : tried)
    for (int chunks = 1; chunks <= batch && !searcher.stopped(); ++chunks) {
      if (batch % chunks || (a.settledChunks > 0 && chunks != a.settledChunks))
        continue;
      for (int stages = 1; stages <= std::min({chunks, a.layers, a.maxPp, a.world()}); stages *= 2)
        if (a.world() % stages == 0 && (stages == 1 || !a.disablePp))
          if (auto error = searcher.addSetting(batch, chunks, stages))
            return *error;
    }
  return searcher.run();
}

Result<ReferenceSolution> searchReferenceTask(const ReferenceModel &model, const ReferenceTask &task,
                                              const ReferenceSearchOptions &options) {
  const ReferenceArguments &a = model.args();
  if (task.batch < 1 || task.chunks < 1 || task.batch % task.chunks || task.stages < 1 || a.world() % task.stages ||
      task.stages > a.layers || !powerOfTwo(task.bufferTp))
    return Error{"expects a task whose chunks divide its batch and whose stages divide the "
                 "devices"};
  Searcher searcher(model, options);
  if (auto error = searcher.addSetting(task.batch, task.chunks, task.stages, &task))
    return *error;
  return searcher.run();
}

} // namespace galvatron::search
