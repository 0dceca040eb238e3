//===- Batches.cpp - the inputs of each step ---------------------------------------------------===//
#include "runtime/data/Batches.h"
#include "galvatron/Support/Safetensors.h"
#include "runtime/api/InputNames.h"

#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

namespace galvatron {
namespace {

/// One row of one input of a micro-batch: which of its columns this rank has, and where.
struct Part {
  const InputInfo *input;
  std::shared_ptr<const std::vector<int64_t>> columns;
  int64_t offset;
};

} // namespace

Status Batches::readRow(int64_t number, const RowRules &rules, std::optional<Row> &row) const {
  Sample sample;
  bool isFilledUp = number >= filledFrom;
  if (isFilledUp) {
    sample.tokens.resize(manifest.sequence);
  } else {
    std::lock_guard<std::mutex> lock(reading);
    if (Status status = samples->read(number, sample); !status.ok())
      return status;
  }
  row.emplace(sample.tokens, manifest.sequence, rules, sample.ends, sample.labels);
  if (isFilledUp)
    row->dropLabels(rules.ignored);
  return Status::success();
}

Status Batches::prepareMicroBatch(const std::vector<int64_t> &coordinates, int64_t microBatch, Step &step) const {
  // By row of the batch, so that each is read once.
  std::map<int64_t, std::vector<Part>> rows;
  for (const InputInfo &input : manifest.inputs) {
    PositionMap map(coordinates, microBatch, input.placement.data(), input.shape.size());
    auto columns = std::make_shared<const std::vector<int64_t>>(map.indices(1));
    int64_t offset = input.offset + microBatch * input.bytesPerMicroBatch;
    for (int64_t b : map.indices(0)) {
      rows[b].push_back({&input, columns, offset});
      offset += columns->size() * sizeof(int64_t);
    }
  }
  std::optional<Row> row;
  for (const auto &[b, parts] : rows) {
    if (Status status = readRow(step.firstSample + b, rules, row); !status.ok())
      return status;
    for (const Part &part : parts) {
      const std::vector<int64_t> &values = row->input(part.input->name);
      step.pieces.push_back({part.offset, step.size, part.columns->size()});
      assert(step.size + part.columns->size() <= roomWords);
      for (int64_t column : *part.columns) // beyond the sequence lies what pads it
        rooms[step.room][step.size++] = column < manifest.sequence ? values[column] : 0;
    }
  }
  return Status::success();
}

Batches::Step Batches::prepare(const std::vector<int64_t> &coordinates, int64_t firstSample, int room) const {
  Step step;
  step.firstSample = firstSample;
  step.room = room;
  for (int64_t microBatch = 0; microBatch < manifest.microBatches && step.status.ok(); ++microBatch)
    step.status = prepareMicroBatch(coordinates, microBatch, step);
  return step;
}

void Batches::makeRooms(gvrt_context &context, const Device &device) {
  roomWords = 1; // some, on a stage without inputs too
  for (const InputInfo &input : manifest.inputs)
    roomWords += manifest.microBatches * input.bytesPerMicroBatch / (int64_t)sizeof(int64_t);
  int64_t bytes = roomWords * sizeof(int64_t);
  // Here, as a thread of its own has no device.
  for (int room : {0, 1}) {
    void *memory = device.hooks->allocateHost ? device.hooks->allocateHost(&context, bytes) : nullptr;
    if (memory)
      freeRooms = [&context, &device](int64_t *memory) { device.hooks->releaseHost(&context, memory); };
    else
      ownRooms[room].resize(roomWords);
    rooms[room] = memory ? static_cast<int64_t *>(memory) : ownRooms[room].data();
  }
}

Batches::~Batches() {
  if (next.valid())
    next.wait();
  for (int room : {0, 1})
    if (freeRooms && ownRooms[room].empty())
      freeRooms(rooms[room]);
}

Status Batches::begin(gvrt_context &context, const Device &device, int64_t firstSample) {
  if (!rooms[0])
    makeRooms(context, device);
  ahead = prepare(context.coordinates, firstSample, 1 - filled);
  return ahead.status;
}

Status Batches::lookAhead() {
  if (next.valid())
    ahead = next.get();
  return ahead.status;
}

Status Batches::fill(gvrt_context &context, const Device &device, char *arena, int64_t firstSample) {
  if (!rooms[0])
    makeRooms(context, device);
  (void)lookAhead();
  Step step = std::exchange(ahead, Step());
  if (step.firstSample != firstSample)
    step = prepare(context.coordinates, firstSample, 1 - filled);
  if (!step.status.ok())
    return step.status;
  filled = step.room;
  for (const Step::Piece &piece : step.pieces)
    device.hooks->copyToDevice(&context, arena + piece.offset, &rooms[step.room][piece.begin],
                               piece.count * sizeof(int64_t));
  if (int64_t following = firstSample + manifest.globalBatch; following + manifest.globalBatch <= end)
    next = std::async(std::launch::async, [this, coordinates = context.coordinates, following, room = 1 - filled] {
      return prepare(coordinates, following, room);
    });
  return Status::success();
}

Status Batches::dump(const std::string &folder, const char *prefix, int64_t number, int64_t firstSample) const {
  char name[60];
  std::snprintf(name, sizeof name, "/%s_%06lld.safetensors", prefix, (long long)number);
  std::string path = folder + name, unfinished = path + ".partial", error;
  safetensors::Writer writer;
  for (std::string_view input : kInputNames)
    writer.add(std::string(input), safetensors::ElementType::I64, {manifest.globalBatch, manifest.sequence});
  bool good = writer.create(unfinished, error);
  RowRules told = rules;
  told.labelsAreNext = true, told.ignored = kIgnoredLabel;
  std::optional<Row> row;
  for (int64_t b = 0; good && b < manifest.globalBatch; ++b) {
    if (Status status = readRow(firstSample + b, told, row); !status.ok())
      good = false, error = status.message;
    if (!good)
      break;
    int64_t bytes = manifest.sequence * sizeof(int64_t);
    for (std::string_view each : kInputNames) {
      std::string input(each);
      good = good && writer.writeBytes(input, b * bytes, bytes, row->input(input).data(), error);
    }
  }
  good = good && writer.close(error);
  if (good && std::rename(unfinished.c_str(), path.c_str()) != 0)
    good = false, error = "cannot rename " + unfinished + ": " + std::strerror(errno);
  if (!good)
    std::remove(unfinished.c_str());
  return good ? Status::success() : Status::error(error);
}

} // namespace galvatron
