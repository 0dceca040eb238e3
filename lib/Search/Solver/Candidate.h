//===- Candidate.h - One pipeline shape, to be filled -----------*- C++ -*-===//
//
// Private to lib/Search. A candidate is a setting (pipeline degree,
// micro-batches) under one schedule. Two ways to fill it:
//
// * regular plans, for every schedule: parts of equal length, one kind of layer,
//   and a second, smaller one for as many layers of a stage as memory asks for;
// * exact search, for all but interleaved ones: stage borders and the strategy of every
//   unit. Its lower bound of a timetable is below, its steps in
//   CandidateSearch.cpp.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_CANDIDATE_H
#define GALVATRON_SEARCH_SOLVER_CANDIDATE_H

#include "PlanPrice.h"
#include "StageTrie.h"

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

/// How far above its bound a candidate's plans are looked for, pass by pass, as a
/// part of the gap to the best plan.
inline constexpr double kReaches[] = {1.0 / 16, 1.0 / 4, 1.0 / 2, 1};

/// Lower bounds of a step for a pipeline whose stages take, for one micro-batch,
/// `sum` seconds together and whose largest unit takes `largest`; without tails.
///
/// Two paths through a 1F1B timetable, for every stage j (w_j warm-up forwards
/// before its first backward, T_j = f_j + b_j):
///
///   to stage j, then all its micro-batches:      Σ_{i<j} T_i + m T_j
///   down and back up once, then the rest of j:   Σ_i T_i + (m - 1) T_j - w_j f_j
///
/// `forwardShare` is the most that f_j / T_j can be. For GPipe, w_j counts as 0.
double leastPipelineSeconds(const PipelineShape &shape, double sum, double largest, double forwardShare,
                            double weightShare);

class Candidate {
public:
  /// `tiedTensor`: the tp that units with a tied parameter share; 0: none are.
  Candidate(std::shared_ptr<const Setting> setting, const PipelineShape &shape, int tiedTensor);

  const Setting &setting() const { return *base; }
  const PipelineShape &shape() const { return form; }
  int tiedTensor() const { return tied; }
  /// No plan takes less; infinite: none fits.
  double bound() const { return least; }
  /// By bound, and no two alike.
  auto order() const {
    return std::tuple{least, form.stages, form.microBatches, form.schedule, form.virtualStages, tied};
  }
  bool hasExactSearch() const { return form.schedule != Schedule::Interleaved; }
  /// Micro-batches that every stage keeps at least.
  int leastInFlight() const;
  const std::vector<OptionLists> &options() const { return *lists; }
  std::shared_ptr<const std::vector<OptionLists>> sharedOptions() const { return lists; }

  /// The best regular plan below `best`. `glance`: out of few, for a first limit.
  Found tryRegular(double best, bool glance, const std::function<bool()> &stopped) const;
  /// A good plan below `best` of one that has an exact search, with few borders.
  /// Adds what it takes to `work`, at most about kHullWork.
  Found tryHull(double best, std::int64_t &work, const std::function<bool()> &stopped) const;
  /// The best plan below `best`, pass by pass to the part `reach` of the gap, as far
  /// as each needs at most `labelBudget` labels.
  Opened open(double best, double reach, std::int64_t labelBudget, const std::function<bool()> &stopped) const;

private:
  double lowerBound() const;

  std::shared_ptr<const Setting> base;
  PipelineShape form;
  std::shared_ptr<const std::vector<OptionLists>> lists; ///< with equal tp where tied
  int tied = 0;
  double least = 0;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_CANDIDATE_H
