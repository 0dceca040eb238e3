//===- Batches.h - the inputs of each step ----------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_DATA_BATCHES_H
#define GALVATRON_RUNTIME_DATA_BATCHES_H

#include "runtime/api/Documents.h"
#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/data/Samples.h"

#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>

namespace galvatron {

class Batches {
public:
  /// Of samples below `end`, so none beyond are prepared ahead. Those from `filledFrom` on, if that is given, are rows
  /// without labels that fill up the last batch.
  Batches(const Manifest &manifest, std::shared_ptr<const Samples> samples, const RowRules &rules, int64_t end,
          std::optional<int64_t> filledFrom = std::nullopt)
      : manifest(manifest), samples(std::move(samples)), rules(rules), end(end),
        filledFrom(filledFrom.value_or(std::numeric_limits<int64_t>::max())) {}

  /// Samples up to another one than was said will be asked for.
  void setEnd(int64_t newEnd) { end = newEnd; }

  ~Batches();

  /// Writes this rank's part of a step's inputs, all micro-batches, into the arena. Row b is sample firstSample + b; of
  /// those that this rank has none of, nothing is read. Meanwhile a thread prepares the next step, whose errors are
  /// told when that is filled.
  Status fill(gvrt_context &context, const Device &device, char *arena, int64_t firstSample);
  /// Prepares a first step.
  Status begin(gvrt_context &context, const Device &device, int64_t firstSample);
  /// Waits for what the thread prepares: whether the step after the one that was filled last can be.
  Status lookAhead();

  /// On one rank: writes a whole batch to folder/<prefix>_000001.safetensors: input_ids, labels (what each position is
  /// to predict, -100 where nothing), positions and documents, I64 [global batch, sequence]; of other data each input
  /// as the program reads it.
  Status dump(const std::string &folder, const char *prefix, int64_t number, int64_t firstSample) const;

private:
  /// This rank's part of a step's inputs, on the host.
  struct Step {
    struct Piece {
      int64_t offset;      // bytes from the arena's start
      size_t begin, bytes; // in the room
    };
    int64_t firstSample = -1;
    int room = 0; // which of `rooms` has its values
    size_t size = 0;
    std::vector<Piece> pieces;
    Status status;
  };
  /// Rooms for two steps, whose copies to the device are not waited for: a step's are done when the one after the next
  /// is prepared, since the next one was updated by then.
  void makeRooms(gvrt_context &context, const Device &device);
  using Row = PackedRow<int64_t>;
  Status readRow(int64_t sample, const RowRules &rules, std::optional<Row> &row) const;
  Step prepare(const std::vector<int64_t> &coordinates, int64_t firstSample, int room) const;
  Status prepareMicroBatch(const std::vector<int64_t> &coordinates, int64_t microBatch, Step &step) const;
  Status prepareFields(const std::vector<int64_t> &coordinates, int64_t microBatch, Step &step) const;
  /// Room for what is to be copied to that place.
  char *addPiece(Step &step, int64_t offset, size_t bytes) const;

  const Manifest &manifest;
  std::shared_ptr<const Samples> samples;
  RowRules rules;
  int64_t end, filledFrom;
  mutable std::mutex reading; // samples remember where they are
  char *rooms[2] = {nullptr, nullptr};
  size_t roomBytes = 0;                  // of each
  std::vector<int64_t> ownRooms[2];      // where the device has no memory of its own for them
  std::function<void(char *)> freeRooms; // null unless the device has
  int filled = 0;                           // the room of the step that was filled last
  std::future<Step> next;
  Step ahead; // what came of it, once that was asked for
};

} // namespace galvatron

#endif
