//===- Explain.h - Reasons as text ------------------------------*- C++ -*-===//
//
// Private to lib/Search.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_TOOL_EXPLAIN_H
#define GALVATRON_SEARCH_TOOL_EXPLAIN_H

#include "galvatron/Search/Reference/ReferenceSearch.h"
#include "galvatron/Search/Solver/Solver.h"

#include <string>

namespace galvatron::search {

/// A table of runs of equal layers with causes, runners-up and the notes.
std::string explainText(const Plan &plan);

std::string explainReference(const ReferenceModel &model, const ReferenceSolution &solution);

/// Searches again with 10 % more memory and with 10 % faster links and notes
/// what that gains. Left out when the search itself took `spent` > 10 s.
void addWhatMoreBuys(const Problem &problem, Plan &plan, double spent, const SolveOptions &searched);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TOOL_EXPLAIN_H
