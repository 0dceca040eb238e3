// The timetables of a program's stages, as plan-memory makes them.
#ifndef GALVATRON_TEST_UNIT_SCHEDULE_TIMETABLES_H
#define GALVATRON_TEST_UNIT_SCHEDULE_TIMETABLES_H

#include "../Reference/Program.h"
#include "galvatron/Schedule/Timetable.h"
#include "galvatron/Schedule/VerifyTimetable.h"

#include <gtest/gtest.h>

namespace galvatron {

class TimetablesTest : public ::testing::Test {
protected:
  void build(const std::string &program) {
    parsed.emplace(program);
    collect();
  }

  /// The timetables of the parsed program's stages.
  void collect() {
    timetables.clear();
    for (auto stage : parsed->module->getOps<dist::StageOp>()) {
      mlir::FailureOr<Timetable> timetable = buildTimetable(*parsed->module, stage);
      ASSERT_TRUE(succeeded(timetable));
      planArena(*timetable);
      timetables.push_back(std::move(*timetable));
    }
  }

  size_t indexOf(size_t stage, const std::string &name) {
    std::vector<TimetableEntry> &entries = timetables[stage].entries;
    for (size_t index = 0; index < entries.size(); ++index)
      if (entries[index].name == name)
        return index;
    ADD_FAILURE() << "no entry " << name;
    return 0;
  }

  TimetableEntry &find(size_t stage, const std::string &name) {
    return timetables[stage].entries[indexOf(stage, name)];
  }

  /// The action of an entry that is of this kind.
  template <typename Kind> Kind &find(size_t stage, const std::string &name) {
    return std::get<Kind>(find(stage, name).action);
  }

  /// The proof's first complaint with its notes, or nothing.
  std::string complaint() {
    return reference::errorsOf(parsed->context.get(), [&] { (void)verifyTimetables(*parsed->module, timetables); });
  }

  std::optional<reference::Program> parsed;
  std::vector<Timetable> timetables;
};

} // namespace galvatron

#endif // GALVATRON_TEST_UNIT_SCHEDULE_TIMETABLES_H
