//===- PipelineBound.h - What a pipeline takes at least ---------*- C++ -*-===//
//
// Private to lib/Search. Lower bounds of a timetable, stage by stage, for those
// who fill stages from the first to the last. Two paths through a 1F1B timetable,
// for every stage j (w_j warm-up forwards before its first backward,
// T_j = f_j + b_j, transfers left out):
//
//   to stage j, then all its micro-batches:      Σ_{i<j} T_i + m T_j             `floor`
//   down and back up once, then the rest of j:   Σ_i T_i + (m - 1) T_j - w_j f_j `sum` + `pace`
//
// GPipe: w_j counts as 0. Zero bubble (both) and interleaved: the first path alone, and on
// the way to stage j forwards alone.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_SOLVER_PIPELINEBOUND_H
#define GALVATRON_SEARCH_SOLVER_PIPELINEBOUND_H

#include "galvatron/Search/Model/Timetable.h"

namespace galvatron::search {

class PipelineBound {
public:
  PipelineBound() = default;
  /// The most that forward is of a layer's time, and what zero bubble puts off.
  PipelineBound(const PipelineShape &shape, double forwardShare, double weightShare)
      : shape(shape), forwardShare(forwardShare), weightShare(weightShare) {}

  /// A stage, seconds of one micro-batch; `tail` once a step.
  struct Stage {
    double forward = 0, backward = 0, tail = 0;
    double time() const { return forward + backward; }
  };
  /// The stages before some stage.
  struct Done {
    double sum = 0;   ///< of their times and transfers; zero bubble: on the way down
    double pace = 0;  ///< max of (m - 1) T_j - w_j f_j
    double floor = 0; ///< max of Σ_{i<j} (T_i + transfers) + m T_j
    double tail = 0;  ///< the longest
    bool noWorse(const Done &other) const {
      return sum <= other.sum && pace <= other.pace && floor <= other.floor && tail <= other.tail;
    }
  };
  /// One more. `transfer`: to the next, one direction.
  Done add(const Done &done, int number, const Stage &stage, double transfer) const;

  /// Seconds of a step at least, with `after` seconds of layers to come in stage `number`, begun as `open`, and in
  /// those after it. With all stages done (`number` is their count) `open` and `after` are nothing.
  double seconds(const Done &done, int number, const Stage &open, double after) const;

  /// Σ T_j that fits in `limit` seconds when stages 0 to `from` - 1 and what is passed on take `held` of it; not more
  /// than `all`, the sum of all stages.
  double heldWithin(double limit, int from, double held, double all) const;

  /// Seconds of a step without tails whose stages take `sum` together and whose largest layer takes `largest`.
  double seconds(double sum, double largest) const;

  /// Forwards before the first backward, where the bound may count them.
  int warmUp(int number) const;

private:
  bool countsWarmUp() const { return shape.schedule == Schedule::OneFOneB; }
  bool goesDownOnly() const { return splitsBackward(shape.schedule) || shape.schedule == Schedule::Interleaved; }
  double micro() const { return shape.microBatches; }

  PipelineShape shape;
  double forwardShare = 0, weightShare = 0;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_SOLVER_PIPELINEBOUND_H
