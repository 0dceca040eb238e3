//===- TimetableFile.h - timetable.json -------------------------*- C++ -*-===//
//
// What lowering leaves beside plan.json: every stage's entries and buffers, and what bodies do. docs/timetable.md lists
// the keys. Keys with their default (no micro-batch, no bytes, …) are left out, one entry or buffer a line.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_TIMETABLEFILE_H
#define GALVATRON_SEARCH_FORMATS_TIMETABLEFILE_H

#include "galvatron/Search/Model/StepTimetable.h"

#include <string>
#include <string_view>

namespace galvatron::search {

std::string writeTimetable(const StepTimetable &timetable);

/// Strict: an unknown key, a wrong type, an index of nothing, a wait for what was not started is an error that names
/// stage, entry and key.
Result<StepTimetable> parseTimetable(std::string_view json);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_TIMETABLEFILE_H
