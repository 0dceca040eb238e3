//===- Timetable.cpp - walks the flat list of entries that the compiler emitted ------------------===//
#include "runtime/core/Timetable.h"
#include "runtime/core/EntryTimes.h"

namespace galvatron {

Timetable::Timetable(const gvrt_program &program, const Manifest &manifest, List list)
    : program(program), manifest(manifest), list(list) {
  for (const std::string &path : manifest.units)
    layers.push_back(random::hashName(path.data(), path.size()));
}

Status Timetable::check() const {
  const int64_t *entry = list.words, *end = entry + list.count;
  auto inside = [](int64_t index, int64_t low, int64_t size) { return index >= low && index < size; };
  for (int64_t number = 0; entry < end; entry += entry[GVRT_ENTRY_WORDS], ++number) {
    bool good = end - entry >= GVRT_ENTRY_FIRST_BUFFER &&
                inside(entry[GVRT_ENTRY_WORDS], GVRT_ENTRY_FIRST_BUFFER, end - entry + 1) &&
                inside(entry[GVRT_ENTRY_FUNCTION], 0, program.num_functions) &&
                inside(entry[GVRT_ENTRY_NAME], -1, manifest.names.size()) &&
                inside(entry[GVRT_ENTRY_LAYER], -1, manifest.units.size()) &&
                inside(entry[GVRT_ENTRY_NUM_BUFFERS], 0, entry[GVRT_ENTRY_WORDS] - GVRT_ENTRY_FIRST_BUFFER + 1);
    for (int64_t i = 0; good && i < entry[GVRT_ENTRY_NUM_BUFFERS]; ++i)
      good = inside(entry[GVRT_ENTRY_FIRST_BUFFER + i], -1, manifest.arenaBytes + 1);
    if (good && entry[GVRT_ENTRY_FUNCTION] < (int64_t)manifest.results.size())
      for (const ResultInfo &result : manifest.results[entry[GVRT_ENTRY_FUNCTION]])
        good &=
            inside(result.buffer, 0, entry[GVRT_ENTRY_NUM_BUFFERS]) && inside(result.count, 0, manifest.arenaBytes + 1);
    if (!good)
      return Status::error("entry ", number, " of this program's timetable is not sound; compile it again");
  }
  return Status::success();
}

void Timetable::run(gvrt_context &context, char *arena, const EntryVisitor &visit) const {
  static const std::string kNoName;
  std::vector<void *> buffers;
  const int64_t *entry = list.words, *end = entry + list.count;
  for (int64_t number = 0; entry < end; entry += entry[GVRT_ENTRY_WORDS], ++number) {
    int64_t numBuffers = entry[GVRT_ENTRY_NUM_BUFFERS];
    buffers.resize(numBuffers);
    for (int64_t i = 0; i < numBuffers; ++i) {
      int64_t offset = entry[GVRT_ENTRY_FIRST_BUFFER + i];
      buffers[i] = offset < 0 ? nullptr : arena + offset;
    }
    context.entry = entry[GVRT_ENTRY_NAME] < 0 ? nullptr : manifest.names[entry[GVRT_ENTRY_NAME]].c_str();
    context.microBatch = entry[GVRT_ENTRY_MICRO_BATCH] < 0 ? 0 : entry[GVRT_ENTRY_MICRO_BATCH];
    context.layer = entry[GVRT_ENTRY_LAYER] < 0 ? 0 : layers[entry[GVRT_ENTRY_LAYER]];
    if (context.entryTimes)
      context.entryTimes->begin(number);
    program.functions[entry[GVRT_ENTRY_FUNCTION]](&context, buffers.data(),
                                                  entry + GVRT_ENTRY_FIRST_BUFFER + numBuffers);
    if (context.entryTimes)
      context.entryTimes->end(number);
    context.progress.beat();
    if (context.afterEntry)
      context.afterEntry(&context);
    if (visit) {
      const std::vector<ResultInfo> *results = entry[GVRT_ENTRY_FUNCTION] < (int64_t)manifest.results.size()
                                                   ? &manifest.results[entry[GVRT_ENTRY_FUNCTION]]
                                                   : nullptr;
      visit({entry[GVRT_ENTRY_NAME] < 0 ? &kNoName : &manifest.names[entry[GVRT_ENTRY_NAME]], context.microBatch,
             entry[GVRT_ENTRY_LAYER], buffers.data(), results});
    }
  }
  context.entry = nullptr;
}

} // namespace galvatron
