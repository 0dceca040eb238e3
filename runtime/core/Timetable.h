//===- Timetable.h - walks the flat list of entries that the compiler emitted ------------------===//
#ifndef GALVATRON_RUNTIME_CORE_TIMETABLE_H
#define GALVATRON_RUNTIME_CORE_TIMETABLE_H

#include "runtime/core/Context.h"
#include "runtime/core/Manifest.h"

#include <functional>

namespace galvatron {

/// One entry as it was called.
struct EntryCall {
  const std::string *name; // empty where it has none
  int64_t microBatch, layer;
  void *const *buffers;
  const std::vector<ResultInfo> *results; // what of the buffers it computes; null where the manifest does not say
};
using EntryVisitor = std::function<void(const EntryCall &entry)>;

class Timetable {
public:
  /// One of the program's lists of entries, which outlives the timetable as the manifest does.
  struct List {
    const int64_t *words;
    int64_t count;
  };
  static List training(const gvrt_program &program) { return {program.timetable, program.timetable_words}; }
  static List evaluation(const gvrt_program &program) { return {program.evaluation, program.evaluation_words}; }

  Timetable(const gvrt_program &program, const Manifest &manifest, List list);

  /// Whether every entry names an existing function, name and layer and stays inside the arena.
  Status check() const;
  /// One step: calls every entry in order, and `visit` after each.
  void run(gvrt_context &context, char *arena, const EntryVisitor &visit = nullptr) const;

private:
  const gvrt_program &program;
  const Manifest &manifest;
  List list;
  std::vector<uint64_t> layers; // hash of each layer's path: random bits are keyed by it
};

} // namespace galvatron

#endif
