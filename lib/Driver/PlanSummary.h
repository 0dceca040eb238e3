// A plan as a table for people.
#ifndef GALVATRON_DRIVER_PLANSUMMARY_H
#define GALVATRON_DRIVER_PLANSUMMARY_H

#include "galvatron/Search/Model/Plan.h"

#include "llvm/Support/raw_ostream.h"

namespace galvatron {

/// A line for each run of equal layers, with the bytes of a rank once a stage:
///
///   2 stages x 2 ranks, 1f1b, 8 micro-batches of 4 samples; 0.42 s a step predicted
///   stage  layers                             strategy          bytes of a rank
///   0      embed                             tp=2              212.3 MiB
///   0      layers.0 … layers.3 (4)           dp=2 recompute
void printPlanSummary(const search::Plan &plan, llvm::raw_ostream &out);

/// The same in a line: "2 stages x 2 ranks, 1f1b, 8 micro-batches: tp=2 (3), dp=2 | dp=2 recompute".
std::string describePlan(const search::Plan &plan);

/// Why this plan: what each run of layers costs, what lost, the search's notes.
void printPlanReasons(const search::Plan &plan, llvm::raw_ostream &out);

} // namespace galvatron

#endif // GALVATRON_DRIVER_PLANSUMMARY_H
