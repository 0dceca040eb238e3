// The timetables of a program's stages, as plan-memory makes them.
#ifndef GALVATRON_TEST_UNIT_SCHEDULE_TIMETABLES_H
#define GALVATRON_TEST_UNIT_SCHEDULE_TIMETABLES_H

#include "../Reference/Program.h"
#include "galvatron/Schedule/Timetable.h"

#include <gtest/gtest.h>

namespace galvatron {

inline void appendTimetables(reference::Program &program, std::vector<Timetable> &timetables) {
  program.context->printOpOnDiagnostic(false);
  for (auto stage : program.module->getOps<dist::StageOp>()) {
    mlir::FailureOr<Timetable> timetable = buildTimetable(*program.module, stage);
    ASSERT_TRUE(succeeded(timetable));
    planArena(*timetable);
    timetables.push_back(std::move(*timetable));
  }
}

} // namespace galvatron

#endif // GALVATRON_TEST_UNIT_SCHEDULE_TIMETABLES_H
