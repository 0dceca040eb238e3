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
  /// Both outlive the timetable.
  Timetable(const gvrt_program &program, const Manifest &manifest);

  /// Whether every entry names an existing function, name and layer and stays inside the arena.
  Status check() const;
  /// One step: calls every entry in order, and `visit` after each.
  void run(gvrt_context &context, char *arena, const EntryVisitor &visit = nullptr) const;

private:
  const gvrt_program &program;
  const Manifest &manifest;
  std::vector<uint64_t> layers; // hash of each layer's path: random bits are keyed by it
};

} // namespace galvatron

#endif
