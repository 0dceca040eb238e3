//===- Timetable.cpp - walks the flat list of entries that the compiler emitted ------------------===//
#include "runtime/core/Timetable.h"

namespace galvatron {

/// An entry's words: [words, function, name, micro-batch, layer, number of buffers, offset…, attribute…].
enum EntryWord { kWords, kFunction, kName, kMicroBatch, kLayer, kNumBuffers, kFirstBuffer };

Timetable::Timetable(const gvrt_program &program, const Manifest &manifest) : program(program), manifest(manifest) {
  for (const std::string &unit : manifest.units)
    layers.push_back(random::hashName(unit.data(), unit.size()));
}

Status Timetable::check() const {
  const int64_t *entry = program.timetable, *end = entry + program.timetable_words;
  auto inside = [](int64_t index, int64_t low, int64_t size) { return index >= low && index < size; };
  for (int64_t number = 0; entry < end; entry += entry[kWords], ++number) {
    bool good = end - entry >= kFirstBuffer && inside(entry[kWords], kFirstBuffer, end - entry + 1) &&
                inside(entry[kFunction], 0, program.num_functions) && inside(entry[kName], -1, manifest.names.size()) &&
                inside(entry[kLayer], -1, manifest.units.size()) &&
                inside(entry[kNumBuffers], 0, entry[kWords] - kFirstBuffer + 1);
    for (int64_t i = 0; good && i < entry[kNumBuffers]; ++i)
      good = inside(entry[kFirstBuffer + i], -1, manifest.arenaBytes + 1);
    if (good && entry[kFunction] < (int64_t)manifest.results.size())
      for (const ResultInfo &result : manifest.results[entry[kFunction]])
        good &= inside(result.buffer, 0, entry[kNumBuffers]) && inside(result.count, 0, manifest.arenaBytes + 1);
    if (!good)
      return Status::error("entry ", number, " of this program's timetable is not sound; compile it again");
  }
  return Status::success();
}

void Timetable::run(gvrt_context &context, char *arena, const EntryVisitor &visit) const {
  static const std::string kNoName;
  std::vector<void *> buffers;
  const int64_t *entry = program.timetable, *end = entry + program.timetable_words;
  for (; entry < end; entry += entry[kWords]) {
    int64_t numBuffers = entry[kNumBuffers];
    buffers.resize(numBuffers);
    for (int64_t i = 0; i < numBuffers; ++i) {
      int64_t offset = entry[kFirstBuffer + i];
      buffers[i] = offset < 0 ? nullptr : arena + offset;
    }
    context.entry = entry[kName] < 0 ? nullptr : manifest.names[entry[kName]].c_str();
    context.microBatch = entry[kMicroBatch] < 0 ? 0 : entry[kMicroBatch];
    context.layer = entry[kLayer] < 0 ? 0 : layers[entry[kLayer]];
    program.functions[entry[kFunction]](&context, buffers.data(), entry + kFirstBuffer + numBuffers);
    if (context.afterEntry)
      context.afterEntry(&context);
    if (visit) {
      const std::vector<ResultInfo> *results =
          entry[kFunction] < (int64_t)manifest.results.size() ? &manifest.results[entry[kFunction]] : nullptr;
      visit({entry[kName] < 0 ? &kNoName : &manifest.names[entry[kName]], context.microBatch, entry[kLayer],
             buffers.data(), results});
    }
  }
  context.entry = nullptr;
}

} // namespace galvatron
