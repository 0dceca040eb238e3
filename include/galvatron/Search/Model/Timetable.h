//===- Timetable.h - What every stage does, in order ------------*- C++ -*-===//
//
// The schedules as straight lists, one per stage, and the longest path through
// them. A stage runs its entries one after another; a forward waits for the
// same micro-batch's forward on the part before, a backward for the one after,
// each plus the time of the transfer. A stage has one link in each direction,
// which carries one message at a time, overlapped with its compute.
//
//   1F1B, 3 stages, 4 micro-batches (capital: backward)
//   stage 0   0 1 2 A . 3 B . . C . D
//   stage 1     0 1 A 2 B 3 C   D
//   stage 2       0 A 1 B 2 C 3 D
//
// Interleaved (Narayanan et al. 2021): stage s of p holds the parts s, p + s,
// 2p + s …; micro-batches pass in groups of p. Zero bubble (Qi et al. 2023,
// ZB-H1): the weights' gradients of micro-batch j wait until backward j + s, so
// that every stage keeps p micro-batches and idles less at the end. ZB-V: two
// parts a stage, down and up again (lib/Search/Model/ZeroBubbleV.h).
//
// The order is fixed and times only decide when, so the longest path never
// falls when any time rises.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_TIMETABLE_H
#define GALVATRON_SEARCH_MODEL_TIMETABLE_H

#include "galvatron/Search/Model/Strategy.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

enum class Computation : std::uint8_t {
  Forward,
  Backward, ///< all of it, or under zero bubble what the part before waits for
  Weight,   ///< zero bubble: the weights' gradients
};

struct Instruction {
  Computation phase = Computation::Forward;
  int chunk = 0; ///< which of the stage's parts
  int microBatch = 0;
};

/// A model is cut into `stages x virtualStages` parts; part k runs on stage
/// k % stages, as its chunk k / stages. Under zb-v the second parts go back: part
/// 2p - 1 - s is stage s's.
struct PipelineShape {
  Schedule schedule = Schedule::OneFOneB;
  int stages = 1, virtualStages = 1, microBatches = 1;
  int parts() const { return stages * virtualStages; }
  int stageOf(int part) const { return turns(part / stages) ? stages - 1 - part % stages : part % stages; }
  int chunkOf(int part) const { return part / stages; }
  int partOf(int stage, int chunk) const { return chunk * stages + (turns(chunk) ? stages - 1 - stage : stage); }
  /// Whether a part's results stay on its stage, where the next part runs, too.
  bool staysOnStage(int part) const { return part + 1 < parts() && stageOf(part) == stageOf(part + 1); }
  bool operator==(const PipelineShape &) const = default;

private:
  bool turns(int chunk) const { return schedule == Schedule::ZeroBubbleV && chunk; }
};

/// Interleaving needs two stages, two parts a stage, and micro-batches that the
/// stages divide; zb-v two stages and two parts a stage; the others have one part
/// a stage. Key, values and remedy, or nothing.
std::optional<std::string> whyImpossible(const PipelineShape &shape);

/// The entries of one stage.
std::vector<Instruction> stageTimetable(const PipelineShape &shape, int stage);

/// What a part takes, seconds for one micro-batch.
struct PartTimes {
  double forward = 0;
  double backward = 0; ///< all of it
  double weight = 0;   ///< of `backward`, what zero bubble may put off
  double transfer = 0; ///< to the next part, one direction
};

struct TimetableResult {
  double seconds = 0;     ///< until every stage has finished its entries
  double busySeconds = 0; ///< of all stages together
  /// Start of every entry of every stage.
  std::vector<std::vector<double>> start;
  double bubble() const { return seconds > 0 ? 1 - busySeconds / (seconds * double(start.size())) : 0; }
};

/// The entries of all stages, in an order that needs no waiting: made once for
/// a shape, run with any times.
class Timetable {
public:
  /// `shape` is possible.
  explicit Timetable(const PipelineShape &shape);

  const PipelineShape &shape() const { return form; }
  const std::vector<Instruction> &entries(int stage) const { return lists[stage]; }
  /// Longest path; `times` by part.
  double seconds(const std::vector<PartTimes> &times) const { return run(times, kForever, nullptr); }
  /// The same, or infinity as soon as it is seen to take more than `limit`.
  double secondsWithin(double limit, const std::vector<PartTimes> &times) const { return run(times, limit, nullptr); }
  TimetableResult result(const std::vector<PartTimes> &times) const;
  /// Micro-batches of each chunk that a stage keeps: the counts at every moment
  /// that no other moment exceeds. One part a stage: one count.
  const std::vector<std::vector<int>> &inFlight(int stage) const { return kept[stage]; }

private:
  static constexpr double kForever = std::numeric_limits<double>::infinity();
  double run(const std::vector<PartTimes> &times, double limit, TimetableResult *result) const;

  struct Node {
    int stage, part, microBatch;
    Computation phase;
    int link; ///< of all stages', which the result takes; -1: it stays on the stage
  };
  int linkOf(int stage, int part, Computation phase) const;
  PipelineShape form;
  std::vector<std::vector<Instruction>> lists;
  std::vector<Node> order;
  std::vector<std::vector<std::vector<int>>> kept;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_TIMETABLE_H
