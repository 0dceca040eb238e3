//===- ReferenceSearch.h - Best plan under the reference's score -*- C++ -*-===//
//
// The search space, the budget rule and the score are Hetu-Galvatron's
// (GALVATRON.md 3.3, 3.4, 4); the search is not. Where the reference minimises
// a proxy stage by stage over a table of megabytes, this one minimises the
// score itself:
//
// * layers of a stage are alike, so a stage is a multiset of strategies;
// * a stage matters through three sums only: compute c, exposed sync e (with
//   sync minus without) and whole MB. Its undominated (c, e) that fit are
//   enumerated by branch and bound, with the lower convex hull of (MB, c) as
//   the bound;
// * stages are combined exactly: for a tail of at most tau every stage takes
//   its least c, and only the values of tau at which a choice changes matter
//   (raising some c by x to hide x of tail never beats raising tau by x);
// * candidates (batch, chunks, stages, buffer, ends) are visited by their lower
//   bound, and most are never opened.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_REFERENCESEARCH_H
#define GALVATRON_SEARCH_REFERENCE_REFERENCESEARCH_H

#include "galvatron/Search/Reference/ReferenceModel.h"

#include <atomic>
#include <functional>
#include <optional>
#include <string>

namespace galvatron::search {

struct ReferenceProgress {
  double seconds = 0;
  std::size_t opened = 0, total = 0;
  double throughput = 0; ///< best so far, samples per second; 0: none
  std::string best;      ///< "pp 2, chunks 64, batch 64"
};

struct ReferenceSearchOptions {
  std::function<void(const ReferenceProgress &)> progress;
  const std::atomic<bool> *stop = nullptr;
  double timeLimitSeconds = 0;
  /// Also offer data-parallel degrees that do not divide the micro-batch, as
  /// the reference does, pricing them with samples missing. For comparison.
  bool referenceDivision = false;
};

/// One of the reference's tasks, for searching exactly it.
struct ReferenceTask {
  int batch = 0, chunks = 0, stages = 0;
  enum class Mode { TpOnly, SpOnly, Both } mode = Mode::Both;
  int bufferTp = 1;
};

struct ReferenceSolution {
  std::optional<ReferencePlan> plan;
  ReferencePrice price;
  /// Without a plan: one sentence with the smallest budget and what limits.
  std::string reason;
  int smallestMemoryGB = 0; ///< smallest `memory_constraint` that fits; 0: none
  bool interrupted = false;
  double searchSeconds = 0;
  std::size_t candidates = 0, opened = 0, nodes = 0;
};

/// All batches, chunks, stages, buffers and ends that the arguments allow.
/// Error: a measurement that the space needs is missing.
Result<ReferenceSolution> searchReference(const ReferenceModel &model, const ReferenceSearchOptions &options = {});

/// The best plan of one task (feasible plans only).
Result<ReferenceSolution> searchReferenceTask(const ReferenceModel &model, const ReferenceTask &task,
                                              const ReferenceSearchOptions &options = {});

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_REFERENCESEARCH_H
