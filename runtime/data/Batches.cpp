//===- Batches.cpp - the inputs of each step ---------------------------------------------------===//
#include "runtime/data/Batches.h"
#include "galvatron/Support/Safetensors.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>

namespace galvatron {
namespace {

constexpr const char *kInputs[] = {"input_ids", "labels", "positions", "documents"};

/// One input of one micro-batch: which columns of which rows this rank has, and where.
struct Part {
  const InputInfo *input;
  std::vector<int64_t> columns;
  char *to;
};

} // namespace

Status Batches::fill(gvrt_context &context, const Device &device, char *arena, int64_t firstSample) const {
  Sample sample;
  std::vector<int64_t> row;
  for (int64_t microBatch = 0; microBatch < manifest.microBatches; ++microBatch) {
    // By row of the batch, so that each is read once.
    std::map<int64_t, std::vector<Part>> rows;
    for (const InputInfo &input : manifest.inputs) {
      PositionMap map(context.coordinates, microBatch, input.placement.data(), input.shape.size());
      std::vector<int64_t> columns = map.indices(1);
      char *to = arena + input.offset + microBatch * input.bytesPerMicroBatch;
      for (int64_t b : map.indices(0)) {
        rows[b].push_back({&input, columns, to});
        to += columns.size() * sizeof(int64_t);
      }
    }
    for (const auto &[b, parts] : rows) {
      if (Status status = samples->read(firstSample + b, sample); !status.ok())
        return status;
      PackedRow<int64_t> packed(sample.tokens, manifest.sequence, rules, sample.ends);
      for (const Part &part : parts) {
        const std::vector<int64_t> &values = packed.input(part.input->name);
        row.clear();
        for (int64_t column : part.columns) // beyond the sequence lies what pads it
          row.push_back(column < manifest.sequence ? values[column] : 0);
        device.hooks->copyToDevice(&context, part.to, row.data(), row.size() * sizeof(int64_t));
      }
    }
  }
  return Status::success();
}

Status Batches::dump(const std::string &folder, int64_t step, int64_t firstSample) const {
  char name[40];
  std::snprintf(name, sizeof name, "/step_%06lld.safetensors", (long long)step);
  std::string path = folder + name, unfinished = path + ".partial", error;
  safetensors::Writer writer;
  for (const char *input : kInputs)
    writer.add(input, safetensors::ElementType::I64, {manifest.globalBatch, manifest.sequence});
  bool good = writer.create(unfinished, error);
  RowRules told = rules;
  told.labelsAreNext = true, told.ignored = kIgnoredLabel;
  Sample sample;
  for (int64_t b = 0; good && b < manifest.globalBatch; ++b) {
    if (Status status = samples->read(firstSample + b, sample); !status.ok())
      good = false, error = status.message;
    if (!good)
      break;
    PackedRow<int64_t> row(sample.tokens, manifest.sequence, told, sample.ends);
    int64_t bytes = manifest.sequence * sizeof(int64_t);
    for (const char *input : kInputs)
      good = good && writer.writeBytes(input, b * bytes, bytes, row.input(input).data(), error);
  }
  good = good && writer.close(error);
  if (good && std::rename(unfinished.c_str(), path.c_str()) != 0)
    good = false, error = "cannot rename " + unfinished + ": " + std::strerror(errno);
  if (!good)
    std::remove(unfinished.c_str());
  return good ? Status::success() : Status::error(error);
}

} // namespace galvatron
