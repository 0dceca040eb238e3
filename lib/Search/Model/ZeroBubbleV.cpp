//===- ZeroBubbleV.cpp - The list of schedule zb-v ------------------------===//

#include "ZeroBubbleV.h"

#include <algorithm>

namespace galvatron::search {

namespace {
/// A list that grows by the next micro-batch of a computation and part.
class GrowingList {
public:
  explicit GrowingList(int microBatches) : microBatches(microBatches) {}

  void add(Computation phase, int chunk) {
    int next = counts[int(phase)][chunk]++;
    if (next < microBatches)
      entries.push_back({phase, chunk, next});
  }
  void forward(int chunk) { add(Computation::Forward, chunk); }
  void backward(int chunk) { add(Computation::Backward, chunk); }
  void weight(int chunk) { add(Computation::Weight, chunk); }
  /// The backward and at once the gradients of weights.
  void wholeBackward(int chunk) {
    backward(chunk);
    weight(chunk);
  }
  int count(Computation phase, int chunk) const { return counts[int(phase)][chunk]; }
  std::vector<Instruction> take() { return std::move(entries); }

private:
  int microBatches;
  int counts[3][2] = {};
  std::vector<Instruction> entries;
};
} // namespace

std::vector<Instruction> zeroBubbleV(const PipelineShape &shape, int stage) {
  // The stages from here to the turn, this one included; a value comes back after twice as many parts.
  int below = shape.stages - stage, count = std::max(shape.microBatches, 2 * shape.stages - 1);
  GrowingList list(shape.microBatches);
  // Until the first micro-batch comes back, and on its way up.
  for (int i = 0; i < 2 * below - 1; ++i)
    list.forward(0);
  for (int i = 0; i < stage; ++i) {
    list.forward(1);
    list.forward(0);
  }
  // Until the first gradient has been down and comes up.
  for (int i = 0; i < below; ++i) {
    list.forward(1);
    list.wholeBackward(1);
  }
  // Full: what is let go makes room for what comes.
  while (list.count(Computation::Forward, 1) < count) {
    if (list.count(Computation::Forward, 0) < count)
      list.forward(0);
    list.wholeBackward(0);
    list.forward(1);
    list.wholeBackward(1);
  }
  // What others wait for first; gradients of weights fill the end.
  for (int i = 0; i < stage; ++i) {
    list.backward(0);
    list.backward(1);
  }
  for (int i = 0; i < below; ++i)
    list.wholeBackward(0);
  for (int chunk : {1, 0})
    while (list.count(Computation::Weight, chunk) < count)
      list.weight(chunk);
  return list.take();
}

} // namespace galvatron::search
