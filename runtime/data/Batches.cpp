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

char *Batches::addPiece(Step &step, int64_t offset, size_t bytes) const {
  assert(step.size + bytes <= roomBytes);
  step.pieces.push_back({offset, step.size, bytes});
  char *piece = rooms[step.room] + step.size;
  step.size += bytes;
  return piece;
}

/// Where the elements of a sample that this rank has lie in the sample, in the rank's order; -1 where they pad it.
static std::vector<int64_t> placesOf(const PositionMap &map, const std::vector<int64_t> &shape) {
  std::vector<int64_t> places = {0};
  for (size_t d = 0; d < shape.size(); ++d) {
    std::vector<int64_t> finer;
    for (int64_t place : places)
      for (int64_t index : map.indices(d + 1))
        finer.push_back(place < 0 || index >= shape[d] ? -1 : place * shape[d] + index);
    places = std::move(finer);
  }
  return places;
}

Status Batches::prepareFields(const std::vector<int64_t> &coordinates, int64_t microBatch, Step &step) const {
  std::vector<char> sample;
  for (const InputInfo &input : manifest.inputs) {
    size_t number = *manifest.findField(input.name);
    const data::Field &field = manifest.fields[number];
    size_t width = field.isFloat ? 4 : 8;
    PositionMap map(coordinates, microBatch, input.placement.data(), input.shape.size());
    std::vector<int64_t> places = placesOf(map, field.shape);
    int64_t offset = input.offset + microBatch * input.bytesPerMicroBatch;
    sample.resize(size_t(field.numBytes()));
    for (int64_t b : map.indices(0)) {
      if (Status status = samples->readField(step.firstSample + b, number, sample.data()); !status.ok())
        return status;
      char *to = addPiece(step, offset, places.size() * width);
      for (size_t i = 0; i < places.size(); ++i)
        if (places[i] >= 0)
          std::memcpy(to + i * width, &sample[size_t(places[i]) * width], width);
        else
          std::memset(to + i * width, 0, width);
      offset += int64_t(places.size() * width);
    }
  }
  return Status::success();
}

Status Batches::prepareMicroBatch(const std::vector<int64_t> &coordinates, int64_t microBatch, Step &step) const {
  if (!manifest.readsTokens())
    return prepareFields(coordinates, microBatch, step);
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
      char *to = addPiece(step, part.offset, part.columns->size() * sizeof(int64_t));
      for (int64_t column : *part.columns) { // beyond the sequence lies what pads it
        int64_t value = column < manifest.sequence ? values[column] : 0;
        std::memcpy(to, &value, sizeof value);
        to += sizeof value;
      }
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
  roomBytes = sizeof(int64_t); // some, on a stage without inputs too
  for (const InputInfo &input : manifest.inputs)
    roomBytes += size_t(manifest.microBatches * input.bytesPerMicroBatch);
  // Here, as a thread of its own has no device.
  for (int room : {0, 1}) {
    void *memory = device.hooks->allocateHost ? device.hooks->allocateHost(&context, int64_t(roomBytes)) : nullptr;
    if (memory)
      freeRooms = [&context, &device](char *memory) { device.hooks->releaseHost(&context, memory); };
    else
      ownRooms[room].resize((roomBytes + sizeof(int64_t) - 1) / sizeof(int64_t));
    rooms[room] = static_cast<char *>(memory ? memory : ownRooms[room].data());
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
    device.hooks->copyToDevice(&context, arena + piece.offset, rooms[step.room] + piece.begin, int64_t(piece.bytes));
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
  for (const data::Field &field : manifest.fields) {
    std::vector<int64_t> shape = {manifest.globalBatch};
    shape.insert(shape.end(), field.shape.begin(), field.shape.end());
    writer.add(field.name, field.isFloat ? safetensors::ElementType::F32 : safetensors::ElementType::I64, shape);
  }
  for (std::string_view input : kInputNames)
    if (manifest.readsTokens())
      writer.add(std::string(input), safetensors::ElementType::I64, {manifest.globalBatch, manifest.sequence});
  bool good = writer.create(unfinished, error);
  for (size_t i = 0; good && i < manifest.fields.size(); ++i) {
    int64_t bytes = manifest.fields[i].numBytes();
    std::vector<char> sample(static_cast<size_t>(bytes));
    for (int64_t b = 0; good && b < manifest.globalBatch; ++b) {
      if (Status status = samples->readField(firstSample + b, i, sample.data()); !status.ok())
        good = false, error = status.message;
      good = good && writer.writeBytes(manifest.fields[i].name, b * bytes, bytes, sample.data(), error);
    }
  }
  RowRules told = rules;
  told.labelsAreNext = true, told.ignored = kIgnoredLabel;
  std::optional<Row> row;
  for (int64_t b = 0; good && manifest.readsTokens() && b < manifest.globalBatch; ++b) {
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
