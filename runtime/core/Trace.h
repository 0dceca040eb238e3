//===- Trace.h - --trace: when every entry of some steps ran, on all ranks -----------------------===//
//
// One file in Chrome's trace format, which Perfetto reads; docs/timetable.md says what it holds. Each rank notes times
// while it steps, aligns them with rank 0's clock (TraceClock.h) and writes its events as text, which rank 0 puts one
// after another.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_TRACE_H
#define GALVATRON_RUNTIME_CORE_TRACE_H

#include "runtime/core/Device.h"
#include "runtime/core/EntryTimes.h"
#include "runtime/core/Options.h"
#include "runtime/core/TraceClock.h"
#include "runtime/core/TraceEntries.h"

#include <optional>

namespace galvatron {

class Trace final : private EntryTimes {
public:
  Trace(const World &world, const Manifest &manifest, const gvrt_program &program, const Options &options,
        gvrt_context &context, const Device &device)
      : world(world), manifest(manifest), program(program), options(options), context(context), device(device) {}

  /// For a run of these steps, whose timetable is sound: whether there is something to trace, and where it can be
  /// written to.
  Status open(int64_t firstStep, int64_t lastStep);

  /// Around each step, on every rank. Collective before the first that is traced.
  void beginStep(int64_t step);
  void endStep(double seconds);
  /// Within a step, after its entries: the sums of all ranks begin; they are there; parameters are updated.
  void beginSums();
  void endSums();
  void endUpdate();

  /// Whether the last step to trace is over.
  bool isWhole() const { return !isWritten && before && lastStep == lastTraced; }

  /// Collective, once no more steps follow: writes what was traced, if it is not written. An error is rank 0's.
  Status finish();

private:
  /// What ran when, by this rank's clock. The entry's number, or one of those below.
  struct Span {
    int64_t entry, step, begin, end;
  };
  static constexpr int64_t kSums = -1, kUpdate = -2;

  void begin(int64_t number) override;
  void end(int64_t number) override;
  /// Of a device that notes times itself: those of the step's entries.
  void takeDeviceTimes();
  bool isTimedByDevice() const { return device.hooks->readTimes != nullptr; }
  bool isTraced(int64_t step) const { return step >= firstTraced && step <= lastTraced && step > lastStep; }
  std::string writeEvents(const ClockReading &before, const ClockReading &after, double origin) const;
  Status writeFile(const std::string &text, double error) const;
  std::string head(double error) const;

  const World &world;
  const Manifest &manifest;
  const gvrt_program &program;
  const Options &options;
  gvrt_context &context;
  const Device &device;
  int64_t firstTraced = 0, lastTraced = -1; // steps; none
  int64_t lastStep = -1;                    // traced so far
  bool isTracing = false, isWritten = false;
  std::vector<TraceEntry> entries;
  std::vector<Span> spans;
  std::vector<double> stepSeconds;
  std::optional<ClockReading> before;
  double deviceError = 0; // of the device's times against the host's clock, in nanoseconds
  double origin = 0;      // rank 0's clock before the first traced step, in nanoseconds
};

} // namespace galvatron

#endif
