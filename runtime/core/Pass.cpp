//===- Pass.cpp - one walk through a list of entries, and what it leaves -------------------------===//
#include "runtime/core/Pass.h"
#include "runtime/optim/Update.h"

#include <cmath>

namespace galvatron {
namespace {

struct Walk {
  gvrt_context &context;
  const Timetable &timetable;
  char *arena;
  const EntryVisitor &visit;

  static void run(void *argument) {
    auto &[context, timetable, arena, visit] = *static_cast<Walk *>(argument);
    timetable.run(context, arena, visit);
  }
};

} // namespace

void runPass(gvrt_context &context, const Device &device, const Timetable &timetable, char *arena, double rate) {
  static const EntryVisitor kNone;
  Walk walk{context, timetable, arena, kNone};
  if (device.hooks->run)
    return device.hooks->run(&context, rate, Walk::run, &walk);
  timetable.run(context, arena);
  device.hooks->synchronize(&context);
}

void runPass(gvrt_context &context, const Device &device, const Timetable &timetable, char *arena, double rate,
             const EntryVisitor &visit) {
  Walk walk{context, timetable, arena, visit};
  if (device.hooks->run)
    device.hooks->runOneByOne(&context, rate, Walk::run, &walk);
  else
    timetable.run(context, arena, visit);
}

static double readFloat(gvrt_context &context, const Device &device, const char *at) {
  float value = 0;
  device.hooks->copyToHost(&context, &value, at, sizeof value);
  return value;
}

double ownLoss(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena) {
  double sum = 0;
  for (const LossInfo &loss : manifest.losses) {
    double value = readFloat(context, device, arena + loss.offset);
    sum += answersForLoss(context, loss) || !std::isfinite(value) ? value : 0;
  }
  return sum;
}

double ownLabels(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena) {
  double sum = manifest.totals.empty() ? -1 : 0;
  for (const TotalInfo &total : manifest.totals)
    sum += std::abs(readFloat(context, device, arena + total.offset));
  return sum;
}

} // namespace galvatron
