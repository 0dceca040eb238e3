// Programs whose timetables are right, for tests that spoil them in one place.
#ifndef GALVATRON_TEST_UNIT_EQUIVALENCE_SPOILTTIMETABLES_H
#define GALVATRON_TEST_UNIT_EQUIVALENCE_SPOILTTIMETABLES_H

#include "TrainedPlan.h"

#include "galvatron/Schedule/VerifyTimetable.h"

namespace galvatron::reference {

class SpoiltTimetables : public ::testing::Test {
protected:
  /// Two stages of four devices, two micro-batches; all layers have one strategy.
  void build(const std::string &file, const plan::StrategyValues &strategy) {
    LayerwisePlan plan;
    plan.stages = 2;
    plan.devices = 4;
    plan.microBatches = 2;
    plan.schedule = "1f1b";
    plan.stageOf = {0, 0, 1, 1};
    plan.strategies.assign(4, strategy);
    build(file, plan);
  }
  void build(const std::string &file, const LayerwisePlan &plan) {
    staged = nullptr;
    lowered = nullptr;
    model.emplace(file);
    staged = model->stage(plan);
    ASSERT_TRUE(staged);
    lowered = TrainedModel::lower(*staged, timetables);
    ASSERT_EQ(int64_t(timetables.size()), plan.stages);
  }

  /// What the executor says of the program as it is now: the first error, with its notes; else how it differs from one
  /// device.
  std::string complaint() {
    Training training;
    std::string text = errorsOf(model->context(), [&] { training = model->train(*staged, timetables); });
    return text.empty() ? model->differenceOf(training) : text;
  }
  /// What the proof says of it.
  std::string proofComplaint() {
    return errorsOf(model->context(), [&] { (void)verifyTimetables(*lowered, timetables); });
  }

  size_t indexOf(size_t stage, const std::string &name) {
    std::vector<TimetableEntry> &entries = timetables[stage].entries;
    auto found = llvm::find_if(entries, [&](const TimetableEntry &entry) { return entry.name == name; });
    EXPECT_NE(found, entries.end()) << name;
    return found - entries.begin();
  }
  template <typename Kind> Kind &find(size_t stage, const std::string &name) {
    return *timetables[stage].entries[indexOf(stage, name)].getIf<Kind>();
  }
  Buffer &bufferOf(size_t stage, BufferReference reference) { return timetables[stage].buffers[reference.buffer]; }

  void moveLives(size_t stage, size_t from, int by) {
    for (Buffer &buffer : timetables[stage].buffers)
      for (int64_t *at : {&buffer.first, &buffer.last})
        *at += *at >= int64_t(from) ? by : 0;
  }
  void removeAt(size_t stage, size_t index) {
    timetables[stage].entries.erase(timetables[stage].entries.begin() + index);
    moveLives(stage, index + 1, -1);
    // What was used last by the last entry.
    for (Buffer &buffer : timetables[stage].buffers)
      buffer.last = std::min(buffer.last, int64_t(timetables[stage].entries.size()) - 1);
  }
  void remove(size_t stage, const std::string &name) { removeAt(stage, indexOf(stage, name)); }
  void insert(size_t stage, size_t index, TimetableEntry entry) {
    timetables[stage].entries.insert(timetables[stage].entries.begin() + index, std::move(entry));
    moveLives(stage, index, 1);
  }
  /// Moves an entry before another.
  void move(size_t stage, const std::string &name, const std::string &before) {
    size_t from = indexOf(stage, name);
    TimetableEntry entry = timetables[stage].entries[from];
    removeAt(stage, from);
    insert(stage, indexOf(stage, before), entry);
  }

  std::optional<TrainedModel> model;
  mlir::OwningOpRef<mlir::ModuleOp> staged, lowered;
  std::vector<Timetable> timetables;
};

} // namespace galvatron::reference

#endif // GALVATRON_TEST_UNIT_EQUIVALENCE_SPOILTTIMETABLES_H
