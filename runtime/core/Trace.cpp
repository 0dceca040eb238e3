//===- Trace.cpp - --trace: when every entry of some steps ran, on all ranks ---------------------===//
#include "runtime/core/Trace.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {

//===----------------------------------------------------------------------===//
// Which steps
//===----------------------------------------------------------------------===//

/// A run's third to fifth step: the first ones load and measure things. Of a shorter one the last.
static constexpr int64_t kFirst = 2, kCount = 3;

Status Trace::open(int64_t first, int64_t last) {
  if (options.trace.empty())
    return Status::success();
  int64_t from = options.traceFirst, to = options.traceLast;
  if (!from) {
    from = std::min(first + kFirst, last);
    to = std::min(from + kCount - 1, last);
  }
  if (from > last || to < first)
    return Status::error("--trace-steps ", from, ":", to, " names none of the steps that this run trains, ", first,
                         " to ", last, "; name some of them");
  firstTraced = std::max(from, first);
  lastTraced = std::min(to, last);
  entries = readTraceEntries(program, manifest, Timetable::training(program));
  if (world.rank() != 0)
    return Status::success();
  if (std::error_code ignored; fs::is_other(options.trace, ignored)) // a device, which renaming would replace
    return Status::error("expects --trace to name a file, but ", options.trace, " is none; name another");
  if (std::error_code ignored; fs::is_directory(options.trace, ignored))
    return Status::error("expects --trace to name a file, but ", options.trace, " is a folder; name a file in it");
  // So that what cannot be written is known before anything is trained.
  std::string path = options.trace + ".part";
  std::FILE *file = std::fopen(path.c_str(), "w");
  if (!file)
    return Status::error("cannot write the trace ", options.trace, ": ", std::strerror(errno),
                         "; name another with --trace");
  std::fclose(file);
  unlink(path.c_str());
  return Status::success();
}

//===----------------------------------------------------------------------===//
// Times
//===----------------------------------------------------------------------===//

void Trace::beginStep(int64_t step) {
  isTracing = isTraced(step);
  if (!isTracing)
    return;
  if (!before) {
    before = exchangeClocks(world);
    origin = world.gather((double)before->at)[0];
    spans.reserve((entries.size() + 2) * (size_t)(lastTraced - step + 1));
  }
  lastStep = step;
  if (isTimedByDevice())
    device.hooks->traceNext(&context);
  else
    context.entryTimes = this;
}

void Trace::begin(int64_t number) { spans.push_back({number, context.step, traceTime(), 0}); }
void Trace::end(int64_t) { spans.back().end = traceTime(); }

void Trace::beginSums() {
  context.entryTimes = nullptr;
  if (isTracing)
    begin(kSums);
}

void Trace::endSums() {
  if (!isTracing)
    return;
  end(kSums);
  begin(kUpdate);
}

void Trace::endUpdate() {
  if (!isTracing)
    return;
  device.hooks->synchronize(&context);
  end(kUpdate);
}

void Trace::takeDeviceTimes() {
  std::vector<EntryTime> times;
  deviceError = std::max(deviceError, device.hooks->readTimes(&context, times));
  // The host came to the sums while the entries ran; they begin where these end.
  Span sums = spans.end()[-2], update = spans.back();
  spans.resize(spans.size() - 2);
  for (size_t entry = 0; entry < times.size(); ++entry) {
    const EntryTime &time = times[entry];
    // Of a body compute counts, whatever it starts beside.
    bool isBeside = time.besideEnd && entries[entry].stream != "compute";
    spans.push_back({(int64_t)entry, context.step, isBeside ? time.besideBegin : time.begin,
                     isBeside ? time.besideEnd : time.end});
    sums.begin = std::max({sums.begin, time.end, time.besideEnd});
  }
  sums.begin = std::min(sums.begin, sums.end);
  spans.insert(spans.end(), {sums, update});
}

void Trace::endStep(double seconds) {
  if (!isTracing)
    return;
  stepSeconds.push_back(seconds);
  if (isTimedByDevice())
    takeDeviceTimes();
  isTracing = false;
}

//===----------------------------------------------------------------------===//
// The file
//===----------------------------------------------------------------------===//

namespace {

/// What an arrow is told from others by: up to so many between two ranks in a step.
constexpr int64_t kMostMessages = 1 << 20;

std::string quoted(const std::string &text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

/// Microseconds of nanoseconds, which may be before the origin.
std::string micros(int64_t time) {
  char text[40];
  std::snprintf(text, sizeof text, "%s%lld.%03d", time < 0 ? "-" : "", (long long)std::abs(time / 1000),
                (int)std::abs(time % 1000));
  return text;
}

/// One rank's events.
class EventText {
public:
  EventText(const gvrt_context &context) : context(context) {}

  void add(const std::string &event) { text += (text.empty() ? "" : ",\n") + event; }

  void addName(const char *what, int64_t thread, const std::string &name) {
    std::string place = "{\"ph\":\"M\",\"pid\":" + std::to_string(context.rank);
    if (thread >= 0)
      place += ",\"tid\":" + std::to_string(thread);
    add(place + ",\"name\":\"" + what + "\",\"args\":{\"name\":" + quoted(name) + "}}");
  }

  void addSpan(const TraceEntry &entry, int64_t number, int64_t step, int64_t begin, int64_t end) {
    add("{\"ph\":\"X\",\"pid\":" + std::to_string(context.rank) + ",\"tid\":" + std::to_string(entry.thread) +
        ",\"name\":" + quoted(entry.name) + ",\"cat\":\"" + entry.category + "\",\"ts\":" + micros(begin) +
        ",\"dur\":" + micros(end - begin) + ",\"args\":{\"entry\":" + std::to_string(number) +
        ",\"stage\":" + std::to_string(context.stage) + ",\"unit\":" + quoted(entry.unit) +
        ",\"micro_batch\":" + std::to_string(entry.microBatch) + ",\"step\":" + std::to_string(step) +
        ",\"bytes\":" + std::to_string(entry.bytes) + "}}");
  }

  /// The k-th value from one rank to the other in a step is the same on both sides.
  void addArrow(const TraceEntry &entry, int64_t stepIndex, int64_t number, int64_t at) {
    bool isSend = entry.kind == TraceEntry::Kind::Send;
    int64_t peer = entry.peer * context.devices + context.device;
    int64_t from = isSend ? context.rank : peer, to = isSend ? peer : context.rank;
    int64_t id = ((stepIndex * context.ranks + from) * context.ranks + to) * kMostMessages + number;
    add("{\"ph\":\"" + std::string(isSend ? "s" : "f") + "\",\"pid\":" + std::to_string(context.rank) +
        ",\"tid\":" + std::to_string(entry.thread) + ",\"name\":\"message\",\"cat\":\"message\",\"id\":" +
        std::to_string(id) + (isSend ? "" : ",\"bp\":\"e\"") + ",\"ts\":" + micros(at) + "}");
  }

  std::string text;

private:
  const gvrt_context &context;
};

} // namespace

std::string Trace::writeEvents(const ClockReading &before, const ClockReading &after, double origin) const {
  EventText events(context);
  events.addName("process_name", -1,
                 "rank " + std::to_string(context.rank) + ", stage " + std::to_string(context.stage));
  std::map<int64_t, std::string> threads = {{threadOf("compute"), "compute"}, {threadOf("collectives"), "collectives"}};
  for (const TraceEntry &entry : entries)
    threads[entry.thread] = entry.stream;
  for (const auto &[thread, name] : threads)
    events.addName("thread_name", thread, name);
  // What a receive has started has come when its wait ends.
  std::map<std::pair<int64_t, int64_t>, int64_t> ends; // by step and entry
  for (const Span &span : spans)
    if (!isTimedByDevice() && span.entry >= 0 && entries[span.entry].started >= 0 &&
        entries[entries[span.entry].started].kind == TraceEntry::Kind::Receive)
      ends[{span.step, entries[span.entry].started}] = span.end;
  TraceEntry sums, update;
  sums.name = "loss and gradient norm";
  sums.stream = "collectives";
  sums.category = "collective";
  sums.thread = threadOf(sums.stream);
  update.thread = threadOf(update.stream);
  update.name = update.category = "update";
  std::map<std::tuple<int64_t, bool, int64_t>, int64_t> messages; // so far, by step, direction and peer
  for (const Span &span : spans) {
    auto at = ends.find({span.step, span.entry});
    const TraceEntry &entry = span.entry == kSums ? sums : span.entry == kUpdate ? update : entries[span.entry];
    bool isMessage = entry.kind == TraceEntry::Kind::Send || entry.kind == TraceEntry::Kind::Receive;
    // To the nanosecond, both alike, so that none begins before the one before it ends: viewers drop such.
    auto onTrace = [&](int64_t time) { return std::llround(alignTime(time, before, after) - origin); };
    int64_t begin = onTrace(span.begin);
    int64_t end = std::max<int64_t>(onTrace(at == ends.end() ? span.end : at->second), begin + isMessage);
    events.addSpan(entry, std::max<int64_t>(span.entry, -1), span.step, begin, end);
    if (!isMessage)
      continue;
    bool isSend = entry.kind == TraceEntry::Kind::Send;
    int64_t number = messages[{span.step, isSend, entry.peer}]++;
    events.addArrow(entry, span.step - firstTraced, number, isSend ? begin : end - 1); // in the span
  }
  return std::move(events.text);
}

std::string Trace::head(double error) const {
  double sum = 0;
  for (double seconds : stepSeconds)
    sum += seconds;
  nlohmann::ordered_json head = {{"kind", "measured"},
                                 {"plan", manifest.program},
                                 {"clock_error_us", error / 1e3},
                                 {"step_seconds", sum / (double)stepSeconds.size()},
                                 {"model", manifest.model},
                                 {"ranks", context.ranks},
                                 {"devices_per_stage", manifest.devices},
                                 {"all_ranks", true},
                                 {"steps", {firstTraced, lastStep}}};
  return "{\"displayTimeUnit\": \"ms\",\n\"galvatron\": " + head.dump() + ",\n\"traceEvents\": [\n";
}

/// Rank 0 with its own text and, one after another, the others'.
Status Trace::writeFile(const std::string &own, double error) const {
  constexpr int kTag = 7916, kPiece = 1 << 28;
  Waiting waiting(world.watched(), "the trace of all ranks");
  if (world.rank() != 0) {
    int64_t bytes = (int64_t)own.size();
    MPI_Send(&bytes, sizeof bytes, MPI_BYTE, 0, kTag, MPI_COMM_WORLD);
    for (int64_t done = 0; done < bytes; done += kPiece)
      MPI_Send(own.data() + done, (int)std::min<int64_t>(kPiece, bytes - done), MPI_BYTE, 0, kTag, MPI_COMM_WORLD);
    return Status::success();
  }
  std::string part = options.trace + ".part";
  std::FILE *file = std::fopen(part.c_str(), "w");
  int code = file ? 0 : errno; // of the first thing that failed
  auto check = [&](bool isGood) { code = code || isGood ? code : errno; };
  auto write = [&](const std::string &text) {
    if (!code)
      check(std::fwrite(text.data(), 1, text.size(), file) == text.size());
  };
  write(head(error) + own);
  for (int rank = 1; rank < world.size(); ++rank) { // also where the disk is full: they send
    int64_t bytes = 0;
    MPI_Recv(&bytes, sizeof bytes, MPI_BYTE, rank, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    std::string text((size_t)bytes, 0);
    for (int64_t done = 0; done < bytes; done += kPiece)
      MPI_Recv(text.data() + done, (int)std::min<int64_t>(kPiece, bytes - done), MPI_BYTE, rank, kTag, MPI_COMM_WORLD,
               MPI_STATUS_IGNORE);
    write(",\n" + text);
  }
  write("\n]}\n");
  if (file)
    check(std::fclose(file) == 0);
  if (!code)
    check(std::rename(part.c_str(), options.trace.c_str()) == 0);
  if (!code)
    return Status::success();
  unlink(part.c_str());
  return Status::error("cannot write the trace ", options.trace, ": ", std::strerror(code));
}

Status Trace::finish() {
  if (!before || isWritten || stepSeconds.empty())
    return Status::success();
  isWritten = true;
  ClockReading after = exchangeClocks(world);
  // Of two ranks, neither of them rank 0, both may be wrong.
  std::vector<double> errors = world.gather(std::max(before->error, after.error) + deviceError);
  std::sort(errors.rbegin(), errors.rend());
  double error = errors[0] + (errors.size() > 1 ? errors[1] : 0) + 2; // times are to the nanosecond
  return writeFile(writeEvents(*before, after, origin), error);
}

} // namespace galvatron
