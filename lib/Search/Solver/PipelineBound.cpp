//===- PipelineBound.cpp - What a pipeline takes at least -----------------===//

#include "PipelineBound.h"

#include <algorithm>

namespace galvatron::search {

int PipelineBound::warmUp(int number) const {
  return countsWarmUp() ? std::min(shape.stages - 1 - number, shape.microBatches - 1) : 0;
}

PipelineBound::Done PipelineBound::add(const Done &done, int number, const Stage &stage, double transfer) const {
  Done next;
  next.floor = std::max(done.floor, done.sum + micro() * stage.time());
  if (!goesDownOnly())
    next.pace = std::max(done.pace, (micro() - 1) * stage.time() - warmUp(number) * stage.forward);
  next.sum = done.sum + (goesDownOnly() ? stage.forward : stage.time());
  next.sum += (goesDownOnly() ? 1 : 2) * transfer;
  next.tail = std::max(done.tail, stage.tail);
  return next;
}

double PipelineBound::seconds(const Done &done, int number, const Stage &open, double after) const {
  int left = shape.stages - number; // the one at hand included
  // One of them takes its share at least.
  double share = left > 0 ? (open.time() + after) / left : 0, tail = std::max(done.tail, open.tail);
  double largest = std::max(open.time(), share);
  double alone = std::max(done.floor, left > 0 ? done.sum + micro() * largest : 0);
  if (goesDownOnly())
    return alone + tail;
  double pace = done.pace;
  if (left > 0)
    pace = std::max({pace, (micro() - 1) * open.time() - warmUp(number) * open.forward,
                     (micro() - 1 - warmUp(number) * forwardShare) * share});
  return std::max(done.sum + open.time() + after + pace, alone) + tail;
}

double PipelineBound::heldWithin(double limit, int from, double held, double all) const {
  for (int number = from; number < shape.stages && held < all; ++number) {
    double room = (limit - held) / micro(), rate = micro() - 1 - warmUp(number) * forwardShare;
    if (rate > 0)
      room = std::min(room, (limit - all) / rate);
    held += room;
  }
  return held;
}

double PipelineBound::seconds(double sum, double largest) const {
  double m = micro(), p = shape.stages;
  if (shape.schedule == Schedule::GPipe || p == 1)
    return sum + (m - 1) * std::max(sum / p, largest);
  if (goesDownOnly())
    return std::max(m * std::max(sum / p, largest), sum * (1 - weightShare));
  double low = std::max({sum, m * largest, sum + largest * (m - 1 - warmUp(0) * forwardShare)});
  double high = std::max(low, sum + (m - 1) * std::max(sum / p, largest));
  if (heldWithin(low, 0, 0, sum) >= sum)
    return low;
  for (int step = 0; step < 40; ++step) {
    double middle = (low + high) / 2;
    (heldWithin(middle, 0, 0, sum) >= sum ? high : low) = middle;
  }
  return low;
}

} // namespace galvatron::search
