//===- TraceEntries.h - what the entries of a timetable are, for traces --------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_TRACEENTRIES_H
#define GALVATRON_RUNTIME_CORE_TRACEENTRIES_H

#include "runtime/core/Manifest.h"
#include "runtime/core/Timetable.h"

namespace galvatron {

/// An entry as traces name it; lib/Costs/LoweredStep.cpp says the same of it for predicted ones.
struct TraceEntry {
  enum class Kind { Other, Send, Receive, Wait } kind = Kind::Other;
  std::string name, unit;
  std::string stream = "compute";   // or collectives, gradients, to stage N, from stage N
  std::string category = "compute"; // or collective, send, receive, redistribute
  int64_t microBatch = -1;
  int64_t bytes = 0;
  int64_t peer = -1;    // stage
  int64_t started = -1; // of a wait: the entry that it ends
  int64_t group = -1;   // of a collective
  int64_t thread = 0;   // by which a trace knows its stream: collectives of several groups have one each
};

/// Of a list that is sound (Timetable::check), entry by entry. What a function is, is told by the device's symbols.
std::vector<TraceEntry> readTraceEntries(const gvrt_program &program, const Manifest &manifest, Timetable::List list);

/// The number by which a trace knows a stream: those that every rank has first. `lane`: of a stream's groups, in the order
/// in which they come.
int64_t threadOf(const std::string &stream, int64_t lane = 0);

} // namespace galvatron

#endif
