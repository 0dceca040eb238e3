//===- Events.cpp - what happened to each rank, for programs: --events ----------------------------===//
#include "runtime/core/Events.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {

/// Bytes up to the end of the last whole line.
static int64_t wholeLines(const std::string &path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored))
    return 0;
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  int64_t end = std::max<int64_t>(file.tellg(), 0);
  for (; end > 0; --end) {
    file.seekg(end - 1);
    if (file.get() == '\n')
      break;
  }
  return end;
}

Status Events::open(const std::string &folder, const gvrt_context &context) {
  rank = context.rank;
  stage = context.stage;
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  host = name;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    return Status::error("cannot write to the folder ", folder, ": ", error.message(), "; name another one");
  char fileName[32];
  std::snprintf(fileName, sizeof fileName, "rank_%05d.jsonl", rank);
  std::string path = fs::path(folder) / fileName;
  return file.open("the events", path, wholeLines(path));
}

void Events::write(const char *event, int64_t step, std::initializer_list<EventField> fields) {
  std::lock_guard lock(mutex);
  if (!file.isOpen())
    return;
  using Microseconds = std::chrono::duration<int64_t, std::micro>;
  auto now = std::chrono::duration_cast<Microseconds>(std::chrono::system_clock::now().time_since_epoch());
  nlohmann::ordered_json line = {
      {"time", now.count() / 1e6}, {"rank", rank}, {"stage", stage}, {"host", host}, {"event", event}, {"step", step}};
  for (const EventField &field : fields)
    std::visit([&](const auto &value) { line[field.name] = value; }, field.value);
  // A path need not be UTF-8.
  Status status = file.add(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  if (!status.ok())
    std::fprintf(stderr, "error: %s\n", status.message.c_str());
}

void writeEvent(const gvrt_context &context, const char *event, int64_t step,
                std::initializer_list<EventField> fields) {
  if (context.events)
    context.events->write(event, step, fields);
}

} // namespace galvatron
