// The timetables of a right program, to be changed in one place: what the proof says to that.
#ifndef GALVATRON_TEST_UNIT_SCHEDULE_MUTATEDTIMETABLES_H
#define GALVATRON_TEST_UNIT_SCHEDULE_MUTATEDTIMETABLES_H

#include "Timetables.h"
#include "galvatron/Schedule/VerifyTimetable.h"

#include "mlir/AsmParser/AsmParser.h"
#include "mlir/IR/Diagnostics.h"

namespace galvatron {

class MutatedTimetables : public ::testing::Test {
protected:
  void parse(const std::string &program) {
    parsed.emplace(program);
    timetables.clear();
    appendTimetables(*parsed, timetables);
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

  void erase(size_t stage, const std::string &name) {
    timetables[stage].entries.erase(timetables[stage].entries.begin() + indexOf(stage, name));
  }

  /// Moves an entry before another, or to the end.
  void move(size_t stage, const std::string &name, const std::string &before = "") {
    TimetableEntry entry = find(stage, name);
    erase(stage, name);
    std::vector<TimetableEntry> &entries = timetables[stage].entries;
    entries.insert(before.empty() ? entries.end() : entries.begin() + indexOf(stage, before), entry);
  }

  StageParameter &parameter(size_t stage, const std::string &name) {
    for (StageParameter &parameter : timetables[stage].parameters)
      if (parameter.names.front() == name)
        return parameter;
    ADD_FAILURE() << "no parameter " << name;
    return timetables[stage].parameters.front();
  }

  Buffer &buffer(size_t stage, BufferReference reference) { return timetables[stage].buffers[reference.buffer]; }

  /// The layer's attribute, as some text.
  void set(const std::string &layer, llvm::StringRef name, const std::string &text) {
    mlir::SymbolTable(*parsed->module)
        .lookup<dist::LayerOp>(layer)
        ->setAttr(name, mlir::parseAttribute(text, parsed->context.get()));
  }

  /// The proof's first complaint, or nothing.
  std::string complaint() {
    std::string text;
    mlir::ScopedDiagnosticHandler handler(parsed->context.get(), [&](mlir::Diagnostic &diagnostic) {
      text += diagnostic.str();
      for (mlir::Diagnostic &note : diagnostic.getNotes())
        notes += note.str();
    });
    return succeeded(verifyTimetables(*parsed->module, timetables)) ? "" : text;
  }

  std::optional<reference::Program> parsed;
  std::vector<Timetable> timetables;
  std::string notes;
};

} // namespace galvatron

#endif // GALVATRON_TEST_UNIT_SCHEDULE_MUTATEDTIMETABLES_H
