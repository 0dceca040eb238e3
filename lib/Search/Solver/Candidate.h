//===- Candidate.h - One pipeline shape, to be filled -----------*- C++ -*-===//
//
// Private to lib/Search. A candidate is a setting (pipeline degree,
// micro-batches) under one schedule. Ways to fill it:
//
// * regular plans, for every schedule: parts of equal length, one kind of layer,
//   and a second, smaller one for as many layers of a stage as memory asks for;
//   where stages have several parts, then layers move from part to part;
// * every plan, where stages have several parts and layers are few (SmallPlans.cpp);
// * exact search, where a stage has one part: stage borders and the strategy of every
//   layer, in CandidateSearch.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_CANDIDATE_H
#define GALVATRON_SEARCH_SOLVER_CANDIDATE_H

#include "galvatron/Search/Solver/PricedSettings.h"

#include "PipelineBound.h"
#include "PlanPrice.h"
#include "StageTrie.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

namespace galvatron::search {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The best filling found, if it beats what was asked for.
struct Found {
  double seconds = kInfinity;
  std::vector<const Option *> options;
  std::vector<int> partOf;
  /// Keeps alive what `options` points at.
  std::shared_ptr<const std::vector<OptionLists>> lists;
};

/// How far an exact search came.
struct Opened {
  Found found;
  /// No plan of the candidate takes less, other than those found.
  double floor = 0;
  std::int64_t labels = 0;
};

/// Work of the plans on the hull, in steps of some nanoseconds.
inline constexpr std::int64_t kHullWork = 4000000;

/// Plans of a candidate up to which all are looked at where there is no exact search, most of them together, and
/// placements that it may take.
inline constexpr double kSmallPlans = 1 << 22;
inline constexpr std::int64_t kSmallWork = 1000000;

/// How far above its bound a candidate's plans are looked for, pass by pass, as a
/// part of the gap to the best plan.
inline constexpr double kReaches[] = {1.0 / 16, 1.0 / 4, 1.0 / 2, 1};

class Candidate {
public:
  /// `tied`: what layers with a tied parameter share; none: there are no such layers.
  Candidate(std::shared_ptr<const Setting> setting, const PipelineShape &shape, std::optional<TiedStrategy> tied);

  const Setting &setting() const { return *base; }
  const PipelineShape &shape() const { return form; }
  const std::optional<TiedStrategy> &tiedStrategy() const { return tied; }
  /// No plan takes less; infinite: none fits.
  double bound() const { return least; }
  /// `seconds` is another lower bound.
  void raiseBound(double seconds) { least = std::max(least, seconds); }
  /// By bound, and no two alike.
  auto order() const {
    return std::tuple{least, form.stages, form.microBatches, form.schedule, form.virtualStages, tied, base->mesh};
  }
  /// Bounds of its timetable, whatever its options.
  const PipelineBound &pipeline() const { return timetableBound; }
  /// The lower hull of (bytes, seconds) of a type's options on any stage, as if it kept `leastInFlight` micro-batches.
  const std::vector<std::pair<double, double>> &hullOf(int type) const;
  bool hasExactSearch() const { return form.virtualStages == 1; }
  /// Micro-batches that every stage keeps at least.
  int leastInFlight() const;
  const std::vector<OptionLists> &options() const { return *lists; }
  std::shared_ptr<const std::vector<OptionLists>> sharedOptions() const { return lists; }

  /// The best regular plan below `best`. `glance`: out of few, for a first limit.
  Found tryRegular(double best, bool glance, const std::function<bool()> &stopped) const;
  /// The best plan below `best` of a small candidate, whatever its schedule: of those that kSmallWork placements come
  /// to. Adds what it takes to `work`.
  Found trySmall(double best, std::int64_t &work, const std::function<bool()> &stopped) const;
  /// Whether its plans are few enough for that.
  bool isSmall() const;
  /// A good plan below `best` of one that has an exact search, with few borders.
  /// Adds what it takes to `work`, at most about kHullWork.
  Found tryHull(double best, std::int64_t &work, const std::function<bool()> &stopped) const;
  /// The best plan below `best`, pass by pass to the part `reach` of the gap, as far
  /// as each needs at most `labelBudget` labels.
  Opened open(double best, double reach, std::int64_t labelBudget, const std::function<bool()> &stopped) const;

private:
  /// Whether layers that share a parameter may be on one stage of several.
  bool mayReunite() const { return form.schedule == Schedule::ZeroBubbleV; }
  PipelineBound makePipelineBound() const;
  double lowerBound() const;

  std::shared_ptr<const Setting> base;
  PipelineShape form;
  std::shared_ptr<const std::vector<OptionLists>> lists; ///< alike where tied
  std::optional<TiedStrategy> tied;
  PipelineBound timetableBound;
  double least = 0;
};

/// The pipeline degrees and numbers of micro-batches that a problem's space offers.
std::vector<std::tuple<int, int, plan::Mesh>> offeredSettings(const Problem &problem);

/// Setting::make, priced the first time that it is asked for, and from then on a copy for `problem`, which outlives it.
Result<Setting> priceSetting(PricedSettings &settings, const Problem &problem, int stages, int microBatches,
                             const plan::Mesh &mesh);

/// The shapes of a setting under the space's schedules, a candidate for each, and for each strategy that tied
/// layers may share.
std::vector<Candidate> candidatesOf(const std::shared_ptr<const Setting> &setting);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_CANDIDATE_H
