//===- EntryTimes.h - who is told when entries of a timetable run --------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_ENTRYTIMES_H
#define GALVATRON_RUNTIME_CORE_ENTRYTIMES_H

#include <cstdint>

namespace galvatron {

/// Told by whoever walks a timetable, where the context names one (gvrt_context::entryTimes).
class EntryTimes {
public:
  virtual ~EntryTimes() = default;
  /// Entry `number`, counted from 0, is called next; it has returned.
  virtual void begin(int64_t number) = 0;
  virtual void end(int64_t number) = 0;
};

} // namespace galvatron

#endif
