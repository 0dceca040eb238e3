//===- Events.h - what happened to each rank, for programs: --events ------------------------------===//
//
//   DIR/rank_00003.jsonl   a line for each event, continued by the next run
//
//   {"time":1764516492.25,"rank":3,"stage":1,"host":"node7","event":"saved","step":200,"folder":"run/step_000200"}
//
// `time` is in seconds since 1970. Names and further fields: docs/runtime.md. A number that is not finite is null.
//
//===----------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_EVENTS_H
#define GALVATRON_RUNTIME_CORE_EVENTS_H

#include "runtime/core/AppendedFile.h"
#include "runtime/core/Context.h"

#include <initializer_list>
#include <mutex>
#include <variant>

namespace galvatron {

struct EventField {
  const char *name;
  std::variant<int64_t, double, std::string> value;
};

/// One rank's; may be told by any of its threads.
class Events {
public:
  /// Makes the folder. What a killed run left of a line is cut.
  Status open(const std::string &folder, const gvrt_context &context);
  /// A disk that cannot take it is an error on stderr, once, and the run goes on. Nothing before `open`.
  void write(const char *event, int64_t step, std::initializer_list<EventField> fields);

private:
  std::mutex mutex;
  AppendedFile file;
  std::string host;
  int rank = 0, stage = 0;
};

/// An event of the run that this context is of, if it writes any.
void writeEvent(const gvrt_context &context, const char *event, int64_t step,
                std::initializer_list<EventField> fields = {});

} // namespace galvatron

#endif
