//===- TimetableFile.h - timetable.json -------------------------*- C++ -*-===//
//
// What lowering leaves beside plan.json: every stage's entries and buffers, and what bodies do. docs/timetable.md lists
// the keys. Keys with their default (no micro-batch, no bytes, …) are left out, one entry or buffer a line.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_FORMATS_TIMETABLEFILE_H
#define GALVATRON_SEARCH_FORMATS_TIMETABLEFILE_H

#include "galvatron/Search/Model/StepTimetable.h"

#include <cstddef>
#include <string>
#include <string_view>

namespace galvatron::search {

/// Buffers and entries are objects, which people can read and search, up to `mostObjects`; where there are more they
/// are rows of a few numbers each.
std::string writeTimetable(const StepTimetable &timetable, std::size_t mostObjects = 8192);

/// Strict: an unknown key, a wrong type, an index of nothing, a wait for what was not started is an error that names
/// stage, entry and key.
Result<StepTimetable> parseTimetable(std::string_view json);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_FORMATS_TIMETABLEFILE_H
