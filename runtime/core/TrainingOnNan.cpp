//===- TrainingOnNan.cpp - what a run does about a step that is not finite: --on-nan ---------------===//
//
// Such a step has updated nothing, on any device, so the state is that before it. It can be saved (stop), go on with
// the next samples (skip), or be put back to a checkpoint and go on behind the samples that were tried since (rewind).
//
//===-----------------------------------------------------------------------------------------------===//
#include "runtime/core/Events.h"
#include "runtime/core/NotFinite.h"
#include "runtime/core/Pass.h"
#include "runtime/core/Training.h"
#include "runtime/optim/Update.h"

#include <cmath>
#include <limits>

namespace fs = std::filesystem;

namespace galvatron {

NotFiniteOrigin Training::findOrigin(double rate) {
  return findNotFinite(world, state(), [&](const EntryVisitor &visit) {
    // What was read first may have been overwritten since.
    if (Status status = batches->fill(context, device, arena, done.samples); !status.ok())
      context.onFailure(&context, "rank " + std::to_string(context.rank) + ": " + status.message);
    runPass(context, device, timetable, arena, rate, visit);
  });
}

/// Where it began, and what to do.
Status Training::explainNotFinite(const Status &error, NotFiniteOrigin &origin) {
  std::string remedy = "; try a smaller --lr, a longer --warmup or --clip-grad";
  std::string start = startFile.empty() ? "the initial values" : startFile;
  bool isFresh = updatedStep < 0;
  if (origin.kind == NotFiniteOrigin::Nowhere)
    origin.text = "all parameters and gradients are finite";
  else if (origin.kind != NotFiniteOrigin::Parameter)
    origin.text += ", the first that is not finite; all parameters are, " + describeLargestParameter(world, state());
  if (origin.kind != NotFiniteOrigin::Parameter)
    remedy = isFresh ? "; nothing was updated yet, so look at what is computed there, and at " + start : remedy;
  else if (isFresh)
    remedy = ", as it was at the start; check " + start;
  else if (origin.areMoments && !loaded.folder.empty())
    remedy = ", and so are its moments; check the optimizer.safetensors of " + loaded.folder;
  else
    remedy = ", since the update of step " + std::to_string(updatedStep) + remedy;
  return Status::error(error.message, ": ", origin.text, remedy);
}

Status Training::onNotFinite(const Status &error, int64_t number, double rate, StepReport &row) {
  device.hooks->synchronize(&context);
  goOnSaving(/*waits=*/true); // what is being written may be what to go back to
  NotFiniteRule::Action action = notFinite.decide(number);
  if (action == NotFiniteRule::Stop)
    return stopAtNotFinite(error, rate);
  int64_t first = done.samples;
  done.samples += manifest.globalBatch;
  if (action == NotFiniteRule::Rewind)
    return rewind(error, number);
  done.skip(first, manifest.globalBatch);
  done.step = number;
  row.loss = row.gradientNorm = std::numeric_limits<double>::quiet_NaN();
  row.evaluation = evaluate();
  tellStep(row);
  warnOnce(error.message + "; it is skipped, and its samples " + std::to_string(first) + " to " +
           std::to_string(done.samples - 1) + " are used up");
  writeEvent(context, "skip", number,
             {{"reason", error.message}, {"first_sample", first}, {"samples", manifest.globalBatch}});
  return Status::success();
}

Status Training::stopAtNotFinite(const Status &error, double rate) {
  code = kNotFinite;
  NotFiniteOrigin origin = findOrigin(rate);
  Status told = explainNotFinite(error, origin);
  if (notFinite.numInRow() > 1)
    told.message +=
        "; it is the last of " + std::to_string(notFinite.numInRow()) + " in a row, which --nan-limit allows";
  if (options.save.empty() || isSaved())
    return told;
  if (origin.kind == NotFiniteOrigin::Parameter)
    return Status::error(told.message, "; this state is not saved, as no run could go on from it");
  save(/*atOnce=*/true);
  return told;
}

bool Training::isSaved() const {
  if (savedStep == done.step)
    return true;
  if (loaded.folder.empty() || done.step != begun.step || done.samples != begun.samples)
    return false;
  fs::path from = absoluteFolder(loaded.folder), to = absoluteFolder(options.save);
  return from == to || from.parent_path() == to;
}

/// The state that this run began with.
Status Training::loadStart() {
  if (!loaded.folder.empty()) {
    TrainingState ignored;
    return loadCheckpoint(state(), loaded.folder, options, ignored);
  }
  for (const ParameterInfo &parameter : manifest.parameters)
    for (int64_t offset : {parameter.firstMoment, parameter.secondMoment})
      if (std::vector<float> zeros(offset < 0 ? 0 : parameter.count); !zeros.empty())
        device.hooks->copyToDevice(&context, arena + offset, zeros.data(), zeros.size() * sizeof(float));
  return startFile.empty() ? drawInitialValues(state()) : readTensors(state(), startFile, {kWeight});
}

/// The newest of this run's own checkpoints that is whole and finite, else what it began with; `back` is then the state
/// that training.json tells, and `from` its name.
Status Training::goBack(TrainingState &back, std::string &from) {
  for (bool isOwn = options.saveEvery > 0; isOwn;) {
    LoadedFrom found;
    std::vector<std::string> told;
    Status status = findCheckpoint(world, options.save, /*mayLack=*/true, found, told);
    for (const std::string &warning : told)
      warnOnce(warning);
    isOwn = status.ok() && !found.folder.empty();
    if (isOwn)
      status = world.agree(loadCheckpoint(state(), found.folder, options, back));
    isOwn = isOwn && status.ok() && back.step > begun.step;
    if (!isOwn)
      break;
    from = found.folder;
    std::string bad = describeNotFiniteParameters(world, state());
    if (bad.empty())
      return Status::success();
    warnOnce("passed over a checkpoint: " + from + ": " + bad);
    status = world.agree(world.rank() == 0 ? saveFolder.setAside(back.step) : Status::success());
    if (!status.ok())
      return status;
  }
  back = begun;
  from = "the start of this run";
  return world.agree(loadStart());
}

Status Training::rewind(const Status &error, int64_t number) {
  TrainingState back;
  std::string from;
  Status status = goBack(back, from);
  if (status.ok())
    status = fillCopies(context, device, manifest, arena);
  int64_t next = done.samples;
  if (status.ok()) {
    back.goOnBehind(done, next);
    done = back;
    savedStep = -1; // what is saved of that step does not know what is left out
    updatedStep = done.updates > begun.updates ? done.step : -1;
    spikes.forget();
    batches->setEnd(next + (lastStep - done.step) * manifest.globalBatch);
    if (world.rank() == 0)
      report.goBack(done.step);
  }
  if (status = world.agree(status); !status.ok()) {
    code = kNotFinite;
    return Status::error(error.message, "; cannot go back: ", status.message);
  }
  warnOnce(error.message + "; back to step " + std::to_string(done.step) + ", " + from + "; the samples up to " +
           std::to_string(next - 1) + " are left out");
  writeEvent(context, "rewind", number,
             {{"reason", error.message}, {"to_step", done.step}, {"from", from}, {"next_sample", next}});
  return Status::success();
}

void Training::warnOnce(const std::string &text) {
  if (world.rank() == 0)
    report.warn(text);
}

void Training::watchLoss(int64_t number, double loss) {
  std::optional<Spikes::Spike> spike = spikes.add(loss);
  if (!spike)
    return;
  warnOnce("step " + std::to_string(number) + ": the loss " + numberText(loss) + " is a spike: the last steps' is " +
           numberText(spike->mean) + " on average, with a standard deviation of " + numberText(spike->deviation));
  writeEvent(context, "spike", number, {{"loss", loss}, {"mean", spike->mean}, {"deviation", spike->deviation}});
}

} // namespace galvatron
