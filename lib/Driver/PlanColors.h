// The texts of PlanSummary.h in the colours of the report (python/galvatron/report_page/page.css).
#ifndef GALVATRON_DRIVER_PLANCOLORS_H
#define GALVATRON_DRIVER_PLANCOLORS_H

#include "galvatron/Search/Model/Plan.h"

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/raw_ostream.h"

#include <string>

namespace galvatron {

/// Whether a text goes to `out` in colour: as `--color` says, else on a terminal, but where NO_COLOR is set to anything.
bool isInColor(llvm::raw_ostream &out);

/// With escape sequences of 24-bit colours around the strategies of the plan's layers, in the order in which they first
/// appear, and around the words for what a layer's time goes to. Without these it is `text`.
std::string colorPlanText(llvm::StringRef text, const search::Plan &plan);

} // namespace galvatron

#endif // GALVATRON_DRIVER_PLANCOLORS_H
