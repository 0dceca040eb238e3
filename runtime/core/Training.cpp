//===- Training.cpp - one run: start values, steps, checkpoint -------------------------------------===//
#include "runtime/core/Training.h"
#include "runtime/core/Events.h"
#include "runtime/core/Files.h"
#include "runtime/core/Hosts.h"
#include "runtime/core/NotFinite.h"
#include "runtime/core/Pass.h"
#include "runtime/core/Version.h"
#include "runtime/optim/Schedule.h"
#include "runtime/optim/Update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {

static std::string besideProgram(const std::string &name) {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored).parent_path() / name;
}

Training::~Training() {
  // What has memory of the device.
  saver.reset();
  batches.reset();
  evaluation.close();
  device.hooks->release(&context, arena, manifest.arenaBytes);
}

//===----------------------------------------------------------------------===//
// Before the first step
//===----------------------------------------------------------------------===//

Status Training::prepare() {
  residentAtStart = highWaterBytes();
  using Part = Status (Training::*)();
  // What writes comes last, so that an error leaves nothing behind.
  Status status;
  for (Part part :
       {&Training::prepareHosts, &Training::prepareDevice, &Training::prepareArena, &Training::prepareGroups,
        &Training::prepareParameters, &Training::prepareData, &Training::prepareEvaluation, &Training::prepareTrace,
        &Training::prepareFiles, &Training::prepareEvents})
    if (status.ok())
      status = world.agree((this->*part)());
  if (status.ok())
    writeStart();
  if (world.rank() == 0) {
    // Also before an error, which they may explain.
    for (const std::string &warning : warnings)
      report.warn(warning);
    if (status.ok())
      introduce();
  }
  return status;
}

Status Training::prepareTrace() { return isComplete ? Status::success() : trace.open(firstStep, lastStep); }

void Training::finishTrace() {
  Status status = trace.finish();
  if (!status.ok())
    report.error(status.message);
}

Status Training::prepareFiles() {
  if (Status status = options.save.empty() ? Status::success() : openSaver(); !status.ok())
    return status;
  if (world.rank() != 0)
    return Status::success();
  for (const auto &[option, folder] :
       {std::pair{"--dump-gradients", options.dumpGradients}, {"--dump-batches", options.dumpBatches}}) {
    std::error_code error;
    if (!folder.empty())
      fs::create_directories(folder, error);
    if (!folder.empty() && (error || access(folder.c_str(), W_OK) != 0))
      return Status::error(option, ": cannot write to the folder ", folder, ": ",
                           error ? error.message() : std::strerror(errno), "; name another one");
  }
  if (!options.save.empty()) {
    loaded.step = done.step;
    if (Status status = saveFolder.open(loaded, warnings).about("--save"); !status.ok())
      return status;
    saveFolder.checkRoom(saver->checkpointBytes(options.optimizer), warnings);
  }
  bool goesOn = !options.load.empty() || !loaded.folder.empty();
  Status status = Report::open(options.log, options.evalEvery > 0, goesOn ? std::optional(done.step) : std::nullopt,
                               options.quiet, report)
                      .about("--log");
  report.setSpeed(Speed(besideProgram("plan.json"), world.size()));
  return status.ok() && !options.tensorboard.empty()
             ? report.openTensorBoard(options.tensorboard, firstStep).about("--tensorboard")
             : status;
}

Status Training::prepareEvents() {
  return options.events.empty() ? Status::success() : context.events->open(options.events, context).about("--events");
}

void Training::writeStart() {
  writeEvent(context, "start", done.step,
             {{"process", (int64_t)getpid()}, {"ranks", (int64_t)world.size()}, {"program", manifest.model}});
  if (!loaded.folder.empty())
    writeEvent(context, "load", done.step, {{"folder", loaded.folder}});
}

Status Training::openSaver() {
  saveFolder.name(options.save, options.saveEvery > 0, options.keep);
  saver.emplace(world, catalog, state(), carried, saveFolder);
  std::string config, warning;
  std::optional<Adapter> adapter;
  Status status;
  if (world.rank() == 0)
    config = readText(besideProgram(kConfig));
  if (std::string text = world.gatherText(world.rank() == 0 ? readText(besideProgram(kAdapter)) : "")[0]; !text.empty())
    status = Adapter::parse(text, catalog, adapter.emplace());
  if (!status.ok())
    return status;
  bool areFrozenKept = options.saveFrozen.empty() ? !adapter : options.saveFrozen == "yes";
  done.model.frozen = areFrozenKept ? "" : hashFrozenWeights(world, catalog, state());
  bool isBeside = options.saveEvery > 0 && !options.saveSync;
  saver->open(options.optimizer, options.shardBytes, config, adapter, areFrozenKept, isBeside, warning);
  if (!warning.empty())
    warnings.push_back(warning);
  return status;
}

Status Training::prepareHosts() { return checkHosts(world, manifest, options); }

Status Training::prepareDevice() {
  context.program = &program;
  return device.hooks->prepare ? device.hooks->prepare(&context, manifest, options) : Status::success();
}

Status Training::prepareArena() {
  if (Status status = timetable.check(); !status.ok())
    return status;
  if (Status status = evaluation.checkProgram(); !status.ok())
    return status;
  arena = static_cast<char *>(device.hooks->allocate(&context, manifest.arenaBytes));
  if (!arena)
    return Status::error("rank ", context.rank, " (stage ", context.stage, ") cannot allocate its arena of ",
                         bytesText(manifest.arenaBytes));
  return Status::success();
}

Status Training::prepareGroups() {
  device.hooks->connect(&context);
  if (device.hooks->start)
    device.hooks->start(&context, manifest, options, arena);
  return Catalog::gather(world, manifest, context, catalog);
}

/// The file of start values that nobody named: beside the program.
static std::string weightsBesideProgram(const Manifest &manifest) {
  return besideProgram(manifest.weights.empty() ? "model.safetensors" : manifest.weights);
}

Status Training::openCarried(const std::string &start) {
  if (world.rank() != 0)
    return Status::success();
  return Carried::open(manifest, start, besideProgram(manifest.buffers), context.seed, carried);
}

/// Each pattern of --no-weight-decay means some parameter.
Status Training::checkPatterns() const {
  for (const std::string &pattern : options.noWeightDecay) {
    const std::set<std::string> &names = catalog.parameterNames();
    if (std::none_of(names.begin(), names.end(), [&](const std::string &name) { return matches(pattern, name); }))
      return Status::error("--no-weight-decay ", pattern, " matches no parameter of the model, such as ",
                           names.empty() ? "none" : *names.begin(), "; correct the pattern or leave it out");
  }
  return Status::success();
}

Status Training::prepareParameters() {
  Status status = checkPatterns();
  if (status.ok())
    status = loadParameters();
  if (status.ok())
    status = lossScale.open(options, manifest, done.lossScale);
  if (status = world.agree(status); !status.ok())
    return status;
  if (std::string bad = startFile.empty() ? "" : describeNotFiniteParameters(world, state()); !bad.empty())
    warnings.push_back(startFile + ": " + bad);
  return status.ok() ? fillCopies(context, device, manifest, arena) : status;
}

/// What a file of weights holds beyond the program's is no error, but seldom meant.
void Training::warnOfUnknownWeights(const std::string &path) {
  if (std::string text = world.rank() == 0 ? describeUnknownWeights(catalog, path) : ""; !text.empty())
    warnings.push_back(text);
}

Status Training::loadFrom() {
  startFile = weightsOfCheckpoint(loaded.folder);
  warnOfUnknownWeights(startFile);
  Status status = loadTraining(loaded.folder, done);
  if (!status.ok())
    return status;
  saved = done;
  done.model = identify(catalog);
  context.seed = options.seed.value_or(done.seed);
  startText = "checkpoint " + loaded.folder + ", step " + std::to_string(done.step);
  // Of a run that goes on where it saves, --weights are those it began with.
  if (!options.weights.empty() && saved.model.frozen.empty() && options.load != options.save)
    return Status::error("--load ", loaded.folder, " brings its own weights, so --weights cannot be given too");
  std::vector<Difference> differences = findOtherModel(saved, done);
  if (!saved.model.frozen.empty()) { // what it leaves out is what the run started with
    if (status = loadFirstWeights(); !status.ok())
      return status;
    if (std::string own = hashFrozenWeights(world, catalog, state()); own != saved.model.frozen)
      differences.push_back({"model", "with other frozen weights (" + saved.model.frozen + ") than those of " +
                                          startText + " (" + own + ")"});
    startFile = weightsOfCheckpoint(loaded.folder);
    startText = "checkpoint " + loaded.folder + ", step " + std::to_string(done.step) + ", and " + startText;
  }
  status = checkDifferences(loaded.folder, differences, options.overrides, saved.step, done);
  if (status.ok())
    status = loadTensors(state(), loaded.folder, options, saved);
  return status.ok() ? openCarried(startFile) : status;
}

Status Training::loadParameters() {
  context.seed = options.seed.value_or(0);
  if (options.restarted)
    findOwnCheckpoint(world, options.save, loaded, warnings);
  if (loaded.folder.empty() && !options.load.empty()) {
    bool mayLack = !options.save.empty() && absoluteFolder(options.load) == absoluteFolder(options.save);
    if (Status status = findCheckpoint(world, options.load, mayLack, loaded, warnings).about("--load"); !status.ok())
      return status;
  }
  if (!loaded.folder.empty())
    return loadFrom();
  Status status = loadFirstWeights();
  return status.ok() ? openCarried(startFile) : status;
}

Status Training::loadFirstWeights() {
  std::string file = options.weights.empty() ? weightsBesideProgram(manifest) : options.weights;
  bool isThere = true;
  if (options.weights.empty())
    if (Status status = lookTogether(world, file, isThere); !status.ok())
      return status;
  if (isThere) {
    startFile = file;
    startText = "weights of " + file;
    warnOfUnknownWeights(file);
    Status status = readTensors(state(), file, {kWeight});
    return options.weights.empty() ? status : std::move(status).about("--weights");
  }
  if (!manifest.weights.empty())
    return Status::error("the model's weights ", file, " are missing; put them there or pass --weights");
  startFile.clear();
  startText = "random values, seed " + std::to_string(context.seed);
  return drawInitialValues(state());
}

Status Training::prepareEvaluation() {
  Status status = evaluation.open(warnings);
  if (status.ok() && !isComplete)
    evaluation.warnOfNone(firstStep, lastStep, warnings);
  if (options.evalOnly)
    dataText = evaluation.describe();
  return status;
}

Status Training::prepareData() {
  context.keepsDocuments = options.keepsDocuments();
  if (options.evalOnly)
    return Status::success();
  firstStep = done.step + 1;
  lastStep = options.steps;
  // What failed was the end of the run that `launch` started again.
  isComplete = options.restarted && done.step == lastStep;
  if (isComplete)
    return Status::success();
  if (lastStep < firstStep)
    return Status::error("the checkpoint ", loaded.folder, " is at step ", done.step,
                         ", so nothing is left to train to ", "step ", options.steps,
                         "; --steps counts from the model's first step: pass --steps ", done.step + options.steps,
                         " for ", options.steps, " more");
  DataSource source(world, manifest, options, context.seed);
  int64_t ordered = options.trainSamples ? options.trainSamples : lastStep * manifest.globalBatch;
  Status status = source.open({options.data, options.labels, Share::Training, ordered, options.shuffle});
  if (!source.getWarning().empty())
    warnings.push_back(source.getWarning());
  if (status.ok())
    status = resume(source);
  if (!status.ok())
    return status;
  int64_t count = (lastStep - firstStep + 1) * manifest.globalBatch;
  auto samples = source.samples();
  batches.emplace(manifest, samples, source.rules(), done.samples + count);
  // What rewinding left out is made up for from the order's beginning.
  int64_t left = count - std::min(count, done.leftOut);
  status = world.agree(samples->check(done.samples, left, world.rank(), world.size()));
  return status.ok() ? batches->begin(context, device, done.samples) : status;
}

Status Training::resume(DataSource &source) {
  done.data = source.getOrder();
  done.optimizer = options.optimizer;
  done.seed = context.seed;
  done.globalBatch = manifest.globalBatch;
  done.settings = options.updateSettings();
  lossScale.addSettings(done.settings);
  done.precision = manifest.precision;
  done.model = identify(catalog);
  dataText = source.describe();
  if (loaded.folder.empty())
    return Status::success();
  std::vector<Difference> differences = findDifferences(saved, done);
  Status status = checkDifferences(loaded.folder, differences, options.overrides, saved.step, done);
  if (!status.ok())
    return status;
  for (size_t i = saved.overridden.size(); i < done.overridden.size(); ++i)
    startText += (i == saved.overridden.size() ? ", accepted with --override: " : "; ") + done.overridden[i].text;
  if (saved.data)
    done.samples = source.resume(*saved.data, saved.samples);
  else
    warnings.push_back(loaded.folder +
                       " does not say in which order, in sequences of what length and on what data it was "
                       "trained; none of them was checked, and the place is taken for the same window");
  done.data = source.getOrder();
  dataText = source.describe(done.samples);
  return status;
}

void Training::introduce() {
  auto number = [](int64_t value) {
    std::string text = std::to_string(value);
    for (int64_t i = (int64_t)text.size() - 3; i > 0; i -= 3)
      text.insert(i, " ");
    return text;
  };
  std::ostringstream text;
  text << "galvatron-opt " << kVersion << "\n"
       << "device      " << device.hooks->describe() << "\n"
       << "program     " << manifest.model << ": " << manifest.stages << (manifest.stages == 1 ? " stage" : " stages")
       << " x " << manifest.devices << (manifest.devices == 1 ? " device" : " devices");
  if (manifest.stages > 1)
    text << ", " << manifest.schedule;
  text << "; batch " << manifest.globalBatch
       << (manifest.hasTokens() ? " x " + std::to_string(manifest.sequence) + " tokens in " : " samples in ")
       << manifest.microBatches << (manifest.microBatches == 1 ? " micro-batch" : " micro-batches") << "\n";
  if (!manifest.summary.empty())
    text << "plan        " << manifest.summary << "\n";
  int64_t elements = 0, frozenElements = 0, frozenTensors = 0;
  for (const Catalog::Entry &entry : catalog.entries()) {
    elements += entry.numElements();
    frozenElements += entry.isTrained ? 0 : entry.numElements();
    frozenTensors += !entry.isTrained;
  }
  text << "parameters  " << number(elements) << " in " << catalog.entries().size() << " tensors";
  if (frozenTensors)
    text << ", of which " << number(frozenElements) << " in " << frozenTensors << " are frozen";
  if (!options.load.empty() && loaded.folder.empty())
    startText += "; nothing is in " + options.load + " yet, so this run begins anew";
  text << "; rank 0 allocates " << number(manifest.arenaBytes) << " bytes (" << bytesText(manifest.arenaBytes) << ")\n"
       << "start       " << startText << "\n";
  if (isComplete)
    return report.line(text.str() + "complete    that is the last step, so nothing is left to train");
  text << "data        " << dataText;
  if (options.evalEvery)
    text << "\nevaluation  every " << options.evalEvery << " steps, " << evaluation.describe();
  if (!options.evalOnly)
    text << "\noptimizer   " << options.optimizer << ", steps " << firstStep << " to " << lastStep;
  report.line(text.str());
}

//===----------------------------------------------------------------------===//
// Steps
//===----------------------------------------------------------------------===//

/// Adds in the order of ranks on every rank, so that all get the same bits.
static Status addUp(const std::vector<StepSums> &all, int64_t devices, int64_t number, float lossScale,
                    StepSums &total) {
  for (const StepSums &rank : all) {
    total.loss += rank.loss;
    total.squares += rank.squares;
    total.labels = std::max(total.labels, rank.labels);
    total.peakBytes = std::max(total.peakBytes, rank.peakBytes);
    total.wantedEnd = std::max(total.wantedEnd, rank.wantedEnd);
  }
  total.squares = unscaledSquares(total.squares, lossScale);
  // The loss first: where it is not finite, no gradient is.
  for (auto [value, what] :
       {std::pair{&StepSums::loss, "the loss is "}, {&StepSums::squares, "the squared gradients are "}})
    for (size_t r = 0; r < all.size(); ++r)
      if (!std::isfinite(all[r].*value))
        return Status::error("step ", number, ": ", what, numberText(all[r].*value), " on rank ", r, " (stage ",
                             r / devices, ")");
  return Status::success();
}

Status Training::update(int64_t number, double rate, StepSums &total) {
  auto ownSums = [&] {
    return StepSums{ownLoss(context, device, manifest, arena), squareSum(context, device, manifest, arena),
                    ownLabels(context, device, manifest, arena), context.peakBytes, context.wantedEnd};
  };
  trace.beginSums();
  Status status = addUp(device.hooks->update ? device.hooks->update(&context) : world.gather(ownSums()),
                        context.devices, number, context.lossScale, total);
  trace.endSums();
  total.overflowed = lossScale.isOverflow(total, done.lossScale);
  if (!status.ok() && !total.overflowed)
    return status;
  if (total.labels == 0)
    return Status::success();
  lossScale.advance(total.overflowed, done.lossScale);
  if (total.overflowed)
    total.squares = HUGE_VAL; // in rows, whatever of it was infinite or not a number
  if (total.overflowed || device.hooks->update)
    return Status::success();
  double scale = clipScale(std::sqrt(total.squares), options.clipGrad) / context.lossScale;
  updateParameters(context, device, manifest, options, arena, rate, scale);
  device.hooks->synchronize(&context);
  return Status::success();
}

static double secondsSince(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - time).count();
}

int64_t Training::wantedEnd(Clock::time_point stepStart) {
  if (!batches->lookAhead().ok())
    return kNoData;
  int64_t signal = signalThatCame();
  if (signal != kNoEnd || options.maxSeconds == 0 || world.rank() != 0)
    return signal;
  // Room for another step and a save of the length of those that were; a first save at 200 MB/s.
  constexpr double kBytesPerSecond = 200e6, kReserve = 1.5;
  int64_t elements = 0;
  for (const Catalog::Entry &entry : catalog.entries())
    elements += entry.numElements();
  double saving = options.save.empty() ? 0 : longestSave >= 0 ? longestSave : elements * 12 / kBytesPerSecond;
  double step = std::max(longestStep, secondsSince(stepStart)) + longestEvaluation;
  if (saver && saver->isUnderWay())
    saving *= 2;
  return options.spent + secondsSince(started) + kReserve * (step + saving) >= options.maxSeconds ? kTimeIsUp : kNoEnd;
}

Status Training::step(int64_t number) {
  trace.beginStep(number);
  Clock::time_point start = Clock::now();
  context.step = number;
  context.update = done.updates + 1;
  context.lossScale = scaleOf(done.lossScale);
  Status status = options.dumpBatches.empty() || world.rank() != 0
                      ? Status::success()
                      : batches->dump(options.dumpBatches, "step", number, done.samples);
  if (status.ok())
    status = batches->fill(context, device, arena, done.samples);
  if (!status.ok())
    context.onFailure(&context, "rank " + std::to_string(context.rank) + ": " + status.message);
  double rate = learningRate(options, number, lastStep);
  runPass(context, device, timetable, arena, rate);
  if (!options.dumpGradients.empty()) {
    device.hooks->synchronize(&context);
    if (status = dumpGradients(world, catalog, state(), options.dumpGradients, number); !status.ok())
      return status;
  }
  StepSums sums;
  context.wantedEnd = wantedEnd(start);
  status = update(number, rate, sums);
  trace.endUpdate();
  end = sums.wantedEnd;
  double seconds = secondsSince(start), tokens = (double)manifest.globalBatch * (double)manifest.sequence;
  trace.endStep(seconds);
  StepReport row{number, lastStep, sums.loss, rate, std::sqrt(sums.squares), seconds, tokens / seconds, sums.peakBytes};
  if (!status.ok())
    return onNotFinite(status, number, rate, row);
  notFinite.finish(number);
  done.step = number;
  done.samples += manifest.globalBatch;
  if (sums.labels == 0)
    report.line("step " + std::to_string(number) + ": no position of the batch has a label, so nothing is updated");
  if (sums.overflowed)
    report.line(LossScale::describeOverflow(number, context.lossScale, done.lossScale));
  if (sums.labels != 0 && !sums.overflowed) {
    ++done.updates;
    updatedStep = number;
    watchLoss(number, sums.loss);
  }
  writeEvent(context, "step", number,
             {{"loss", sums.loss}, {"lr", rate}, {"grad_norm", std::sqrt(sums.squares)}, {"seconds", seconds}});
  longestStep = number <= firstStep + 1 ? seconds : std::max(longestStep, seconds); // the first one also tunes
  row.evaluation = evaluate();
  tellStep(row);
  return Status::success();
}

void Training::tellStep(const StepReport &row) {
  if (Status status = world.rank() == 0 ? report.step(row) : Status::success(); !status.ok()) {
    report.error(status.message);
    writeEvent(context, "log_failed", row.step, {{"reason", status.message}});
  }
}

std::optional<EvaluationReport> Training::evaluate() {
  if (!evaluation.isDueAfter(done.step))
    return std::nullopt;
  Clock::time_point start = Clock::now();
  int64_t wanted = kNoEnd;
  std::optional<double> loss = evaluation.run(arena, wanted);
  end = std::max(end, wanted);
  if (!loss)
    return std::nullopt;
  double seconds = secondsSince(start);
  longestEvaluation = std::max(longestEvaluation, seconds);
  writeEvent(context, "eval", done.step, {{"loss", *loss}, {"seconds", seconds}});
  return EvaluationReport{*loss, seconds};
}

void Training::save(bool atOnce) {
  goOnSaving(/*waits=*/true);
  writeEvent(context, "save", done.step, {{"folder", saveFolder.target(done.step)}});
  saver->begin(done, atOnce);
  goOnSaving(atOnce || options.saveSync);
}

void Training::goOnSaving(bool waits) {
  if (!saver || !saver->isUnderWay())
    return;
  Saved saved;
  if (waits)
    saver->finish(saved);
  else if (!saver->poll(saved))
    return;
  longestSave = std::max(longestSave, saved.seconds);
  saveFailed = !saved.status.ok();
  std::string folder = saveFolder.target(saved.step);
  if (saveFailed) {
    writeEvent(context, "save_failed", saved.step, {{"folder", folder}, {"reason", saved.status.message}});
  } else {
    savedStep = saved.step;
    writeEvent(context, "saved", saved.step, {{"folder", folder}, {"seconds", saved.seconds}});
  }
  if (world.rank() != 0)
    return;
  if (!saved.warning.empty())
    report.warn(saved.warning);
  if (!saveFailed)
    report.line("saved       " + options.save + ", step " + std::to_string(saved.step));
  else
    report.error("step " + std::to_string(saved.step) + " was not saved: " + saved.status.message);
}

Status Training::explainNoData() {
  Status own = batches->lookAhead();
  std::vector<char> forGood = world.gather(char(own.isForGood));
  code = std::find(forGood.begin(), forGood.end(), 1) == forGood.end() ? kFailed : kHopeless;
  if (!own.ok())
    own.message = "rank " + std::to_string(context.rank) + ": no data for step " + std::to_string(done.step + 1) +
                  ": " + own.message;
  return world.agree(own);
}

void Training::tellEnd() {
  std::string text = endName(end) + " after step " + std::to_string(done.step);
  writeEvent(context, "signal", done.step, {{"reason", endName(end)}});
  if (world.rank() != 0)
    return;
  if (options.save.empty())
    report.warn("ended by " + text + "; nothing was saved, as there is no --save");
  else if (!saveFailed)
    report.line("ended       by " + text + "; run again with --load " + options.save);
}

Status Training::evaluateOnly() {
  std::optional<double> loss = evaluation.run(arena, end);
  code = loss ? kSuccess : kEnded;
  if (world.rank() == 0 && loss)
    Report::result("eval loss ", *loss);
  else if (world.rank() == 0)
    report.warn("ended by " + endName(end) + " before all batches were evaluated, so there is no loss");
  return Status::success();
}

Status Training::run() {
  if (isComplete)
    return Status::success();
  code = kFailed;
  if (options.evalOnly)
    return evaluateOnly();
  begun = done;
  while (done.step < lastStep && end == kNoEnd) {
    int64_t before = done.step;
    Status status = step(done.step + 1);
    goOnSaving(/*waits=*/!status.ok());
    if (!status.ok()) {
      finishTrace();
      return status;
    }
    if (trace.isWhole())
      finishTrace();
    if (done.step > before && isSaveDue())
      save(/*atOnce=*/done.step == lastStep || end != kNoEnd);
  }
  finishTrace();
  goOnSaving(/*waits=*/true);
  if (!options.save.empty() && savedStep != done.step && (!saveFailed || !isSaveDue()))
    save(/*atOnce=*/true);
  if (end == kNoData)
    return explainNoData();
  bool isEarly = done.step < lastStep;
  if (isEarly)
    tellEnd();
  code = saveFailed ? kNotSaved : isEarly ? kEnded : kSuccess;
  conclude();
  return Status::success();
}

/// Memory as it was, per rank: what was allocated on the device, and by how much the process grew beyond it since MPI
/// was started (high-water mark of the resident size, which also counts libraries, kernels made at run time and MPI's
/// buffers).
void Training::conclude() {
  auto list = [](const std::vector<int64_t> &values) {
    std::string text;
    for (int64_t value : values)
      text += (text.empty() ? "[" : ", ") + std::to_string(value);
    return text + "]";
  };
  std::vector<int64_t> peaks = world.gather(context.peakBytes);
  std::vector<int64_t> grown = world.gather(highWaterBytes() - residentAtStart);
  if (world.rank() == 0)
    report.line("peak bytes  " + list(peaks) + " allocated, by rank\nresident    " + list(grown) +
                " bytes more than after MPI_Init, at most, by rank");
  std::vector<int64_t> copies = world.gather(saver ? saver->hostBytes() : 0);
  if (world.rank() == 0 && *std::max_element(copies.begin(), copies.end()) > 0)
    report.line("host bytes  " + list(copies) + " for a copy of what is saved, by rank");
  if (!device.hooks->bytesInUse)
    return;
  std::vector<int64_t> inUse = world.gather(device.hooks->bytesInUse(&context)), beside(inUse);
  for (size_t r = 0; r < beside.size(); ++r)
    beside[r] -= peaks[r];
  if (world.rank() == 0)
    report.line("device      " + list(inUse) + " bytes in use, as the device reports, of which\n            " +
                list(beside) + " beside what was allocated: context, libraries, communicators, by rank");
}

} // namespace galvatron
