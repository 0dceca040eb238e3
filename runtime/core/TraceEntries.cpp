//===- TraceEntries.cpp - what the entries of a timetable are, for traces ------------------------===//
#include "runtime/core/TraceEntries.h"
#include "runtime/api/ElementType.h"

#include <algorithm>
#include <dlfcn.h>
#include <map>

namespace galvatron {
namespace {

/// The words of one entry.
struct Words {
  const int64_t *entry;
  int64_t at(gvrt_entry_word word) const { return entry[word]; }
  int64_t buffer(int64_t index) const { return entry[GVRT_ENTRY_FIRST_BUFFER + index]; }
  int64_t attribute(int64_t index) const {
    return entry[GVRT_ENTRY_FIRST_BUFFER + entry[GVRT_ENTRY_NUM_BUFFERS] + index];
  }
};

class EntryReader {
public:
  EntryReader(const gvrt_program &program, const Manifest &manifest) : program(program), manifest(manifest) {}
  std::vector<TraceEntry> read(Timetable::List list);

private:
  TraceEntry readEntry(const Words &words);
  void readCollective(const Words &words, TraceEntry &entry, int64_t bytes, int64_t group, bool isOfGradients,
                      int64_t handle);
  void readMessage(const Words &words, TraceEntry &entry, TraceEntry::Kind kind);
  bool calls(const Words &words, const char *name);
  int64_t ranksOf(int64_t group) const;
  bool isTotal(int64_t offset) const;

  const gvrt_program &program;
  const Manifest &manifest;
  std::map<std::string, gvrt_function> functions; // of the device, by name
  std::map<int64_t, int64_t> started;             // entry by handle
  std::vector<TraceEntry> entries;
};

bool EntryReader::calls(const Words &words, const char *name) {
  auto [known, isNew] = functions.try_emplace(name, nullptr);
  if (isNew)
    known->second = reinterpret_cast<gvrt_function>(dlsym(RTLD_DEFAULT, name));
  return known->second && known->second == program.functions[words.at(GVRT_ENTRY_FUNCTION)];
}

int64_t EntryReader::ranksOf(int64_t group) const {
  if (group < 0 || group >= (int64_t)manifest.groups.size())
    return 1;
  int64_t ranks = std::max<int64_t>(1, (int64_t)manifest.groups[group].stages.size());
  for (int64_t axis : manifest.groups[group].axes)
    ranks *= manifest.mesh[axis];
  return ranks;
}

bool EntryReader::isTotal(int64_t offset) const {
  return std::any_of(manifest.totals.begin(), manifest.totals.end(),
                     [&](const TotalInfo &total) { return total.offset == offset; });
}

/// `bytes`: of the whole value, as plans and prices have it.
void EntryReader::readCollective(const Words &words, TraceEntry &entry, int64_t bytes, int64_t group,
                                 bool isOfGradients, int64_t handle) {
  entry.stream = isOfGradients ? "gradients" : "collectives";
  entry.category = "collective";
  entry.bytes = bytes;
  entry.group = group;
  if (handle >= 0)
    started[handle] = (int64_t)entries.size();
}

/// Attributes: stage, tag, bytes, handle.
void EntryReader::readMessage(const Words &words, TraceEntry &entry, TraceEntry::Kind kind) {
  bool isSend = kind == TraceEntry::Kind::Send;
  entry.kind = kind;
  entry.peer = words.attribute(0);
  entry.stream = (isSend ? "to stage " : "from stage ") + std::to_string(entry.peer);
  entry.category = isSend ? "send" : "receive";
  entry.bytes = words.attribute(2);
  if (int64_t handle = words.attribute(3); handle >= 0)
    started[handle] = (int64_t)entries.size();
}

/// Attributes as runtime/api/Functions.def lists them.
TraceEntry EntryReader::readEntry(const Words &words) {
  TraceEntry entry;
  if (words.at(GVRT_ENTRY_NAME) >= 0)
    entry.name = manifest.names[words.at(GVRT_ENTRY_NAME)];
  if (words.at(GVRT_ENTRY_LAYER) >= 0)
    entry.unit = manifest.units[words.at(GVRT_ENTRY_LAYER)];
  entry.microBatch = words.at(GVRT_ENTRY_MICRO_BATCH);
  if (calls(words, "gvrt_send")) {
    readMessage(words, entry, TraceEntry::Kind::Send);
  } else if (calls(words, "gvrt_receive")) {
    readMessage(words, entry, TraceEntry::Kind::Receive);
  } else if (calls(words, "gvrt_wait")) {
    entry.kind = TraceEntry::Kind::Wait;
    if (auto at = started.find(words.attribute(0)); at != started.end()) {
      entry.started = at->second;
      entry.category = entries[at->second].category;
      entry.unit = entries[at->second].unit;
    }
  } else if (calls(words, "gvrt_all_reduce")) {
    readCollective(words, entry, words.attribute(3) * bytesOfElement(words.attribute(1)), words.attribute(0),
                   !isTotal(words.buffer(0)), words.attribute(4));
  } else if (calls(words, "gvrt_all_gather")) {
    int64_t bytes = words.attribute(2) * words.attribute(3) * bytesOfElement(words.attribute(1));
    readCollective(words, entry, bytes * ranksOf(words.attribute(0)), words.attribute(0), false, words.attribute(5));
  } else if (calls(words, "gvrt_reduce_scatter")) {
    int64_t bytes = words.attribute(3) * words.attribute(4) * bytesOfElement(words.attribute(1));
    readCollective(words, entry, bytes * ranksOf(words.attribute(0)), words.attribute(0), true, words.attribute(6));
  } else if (calls(words, "gvrt_fill_zero")) {
    entry.bytes = words.attribute(0);
  } else if (calls(words, "gvrt_accumulate")) {
    entry.bytes = words.attribute(2) * bytesOfElement(words.attribute(0));
  } else if (words.at(GVRT_ENTRY_LAYER) < 0) {
    // "forward model.layers.1:input micro-batch 0" brings a value from one layout to another.
    for (const char *what : {"forward ", "backward "})
      if (entry.name.starts_with(what)) {
        entry.category = "redistribute";
        size_t begin = std::string(what).size(), end = entry.name.rfind(" micro-batch ");
        entry.unit = entry.name.substr(begin, end == std::string::npos || end < begin ? end : end - begin);
      }
  }
  return entry;
}

std::vector<TraceEntry> EntryReader::read(Timetable::List list) {
  for (const int64_t *entry = list.words, *end = entry + list.count; entry < end; entry += entry[GVRT_ENTRY_WORDS])
    entries.push_back(readEntry({entry}));
  std::map<std::string, std::map<int64_t, int64_t>> lanes; // by stream and group
  for (TraceEntry &entry : entries) {
    std::map<int64_t, int64_t> &known = lanes[entry.stream];
    entry.thread = threadOf(entry.stream, known.try_emplace(entry.group, (int64_t)known.size()).first->second);
  }
  return std::move(entries);
}

} // namespace

std::vector<TraceEntry> readTraceEntries(const gvrt_program &program, const Manifest &manifest, Timetable::List list) {
  return EntryReader(program, manifest).read(list);
}

int64_t threadOf(const std::string &stream, int64_t lane) {
  // Thread 0 is none: Perfetto takes it for the one with the process' number.
  constexpr int64_t kFirst = 1, kOfLane = 1 << 20;
  static const char *const kStreams[] = {"compute", "collectives", "gradients"};
  for (size_t i = 0; i < std::size(kStreams); ++i)
    if (stream == kStreams[i])
      return kFirst + (int64_t)i + lane * kOfLane;
  int64_t stage = std::stoll(stream.substr(stream.rfind(' ') + 1));
  return kFirst + (int64_t)std::size(kStreams) + 2 * stage + (stream.starts_with("from") ? 1 : 0);
}

} // namespace galvatron
