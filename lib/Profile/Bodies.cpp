// A body is called as the runtime calls it: by the program's timetable, on the arena that was planned.
#include "Bodies.h"

#include "Bench.h"

#include "runtime/api/Abi.h"
#include "runtime/core/EntryTimes.h"
#include "runtime/core/Faults.h"
#include "runtime/core/Options.h"
#include "runtime/core/Pass.h"
#include "runtime/core/Timetable.h"
#include "runtime/optim/Update.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <new>
#include <tuple>

namespace galvatron::profile {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFewestSamples = 3, kMostSamples = 100;
/// Interquartile range ÷ median at which a figure has repeated.
constexpr double kRepeats = 0.03;
/// The same ÷ √samples, near a median's own error, at which a figure is known where rounds are short.
constexpr double kIsKnown = 0.01;
/// Where calls are issued and not waited for: a round of all entries takes so long, as near as whole calls come to it,
/// and so long rounds are run before the first counts, as a GPU slows down under load.
constexpr double kRound = 0.2, kWarmUp = 1.5;
constexpr std::int64_t kMostCalls = 200;

double secondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string entryName(const char *direction, const std::string &path) {
  return std::string(direction) + " " + path + " micro-batch 0";
}

/// One program at work on this rank, from loading to unloading.
class LoadedBodies {
public:
  LoadedBodies(const World &world, Watchdog &watchdog, const Device &device)
      : world(world), watchdog(watchdog), device(device) {}
  ~LoadedBodies();
  LoadedBodies(const LoadedBodies &) = delete;

  /// `counts`: of each layer in the model.
  Status open(const std::string &file, const search::PreparedBodies &bodies, const std::vector<std::int64_t> &counts);
  /// Medians of the slowest rank's seconds, of forward and backward by entry.
  std::map<std::string, Timing> timeEntries(double budget);
  double timeUpdate(const search::PreparedLayer &layer);

private:
  struct Sample {
    std::string name;
    std::vector<double> seconds;
  };
  Status load(const std::string &file);
  void fillPlace(std::int64_t ranks);
  void fillArena();
  void fillParameter(const ParameterInfo &parameter);
  void fillInput(const InputInfo &input);
  std::vector<double> runOnce();
  void walkRound();
  std::vector<double> runRound();
  void findBodies();
  void tune();
  void waitForAll();
  std::vector<double> slowest(std::vector<double> seconds) const;

  const World &world;
  Watchdog &watchdog;
  const Device &device;
  void *library = nullptr;
  const gvrt_program *program = nullptr;
  Manifest manifest;
  galvatron::Options options;
  gvrt_context context;
  std::optional<Watched> watched;
  std::optional<Timetable> timetable;
  std::map<std::string, std::int64_t> names; ///< of entries that are bodies, and how often a step has them
  std::vector<std::string> order;
  /// Of a device that is given work and not waited for: the bodies' entries, and how often each is called at once.
  std::vector<const std::int64_t *> entries;
  std::vector<std::int64_t> calls;
  char *arena = nullptr;
  bool isConnected = false;
};

LoadedBodies::~LoadedBodies() {
  if (arena)
    device.hooks->release(&context, arena, manifest.arenaBytes);
  if (isConnected)
    device.hooks->disconnect(&context);
  watched.reset();
  if (library)
    dlclose(library);
}

Status LoadedBodies::load(const std::string &file) {
  library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return Status::error("cannot load the bodies '", file, "': ", dlerror(), "; prepare the model again");
  auto access = reinterpret_cast<const gvrt_program *(*)()>(dlsym(library, "gvrt_bodies"));
  if (!access)
    return Status::error("'", file, "' holds no bodies; prepare the model again");
  program = access();
  if (program->abi_version != kAbi)
    return Status::error("'", file, "' was prepared for another version of the runtime; prepare the model again");
  return Manifest::parse(program->manifest, manifest);
}

/// As many copies of the program side by side as there are ranks for.
void LoadedBodies::fillPlace(std::int64_t ranks) {
  int first = world.rank() / int(ranks) * int(ranks);
  fillPlaces(manifest, world.rank() - first, context);
  context.rank = world.rank(), context.ranks = world.size();
  for (Group &group : context.groups)
    for (int &rank : group.ranks)
      rank += first;
}

Status LoadedBodies::open(const std::string &file, const search::PreparedBodies &bodies,
                          const std::vector<std::int64_t> &counts) {
  Status status = world.agree(load(file));
  if (!status.ok())
    return status;
  fillPlace(bodies.ranks);
  manifest.takeShards(context.coordinates);
  context.program = program;
  context.update = context.step = 1;
  options.trace = "rounds"; // of nothing that is written: the device keeps times of what it repeats
  timetable.emplace(*program, manifest, Timetable::training(*program));
  installFaultHandlers(&context);
  watched.emplace(watchdog, context);
  status = timetable->check();
  if (status.ok() && device.hooks->prepare)
    status = device.hooks->prepare(&context, manifest, options);
  if (status = world.agree(status); !status.ok())
    return status;
  isConnected = true;
  arena = static_cast<char *>(device.hooks->allocate(&context, manifest.arenaBytes));
  if (!arena)
    throw std::bad_alloc();
  device.hooks->connect(&context);
  if (device.hooks->start)
    device.hooks->start(&context, manifest, options, arena);
  fillArena();
  for (std::size_t index = 0; index < bodies.layers.size(); ++index)
    for (const char *direction : {"forward", "backward"})
      names[entryName(direction, bodies.layers[index].path)] = counts[index];
  return world.agree(fillCopies(context, device, manifest, arena));
}

/// Values as at a model's start, tokens of the whole vocabulary: what a kernel takes depends on them where there are
/// denormals, equal addresses, or a power limit.
void LoadedBodies::fillArena() {
  if (!device.hooks->run) // else it is, as it was allocated
    std::memset(arena, 0, std::size_t(manifest.arenaBytes));
  context.progress.beat();
  for (const ParameterInfo &parameter : manifest.parameters)
    fillParameter(parameter);
  for (const InputInfo &input : manifest.inputs)
    fillInput(input);
  device.hooks->synchronize(&context);
}

/// So many values of a distribution, again and again: drawing billions would take longer than measuring.
static const std::vector<float> &valuesOf(random::Distribution kind, double a, double b) {
  constexpr std::size_t kCount = 4 << 20;
  static std::map<std::tuple<int, double, double>, std::vector<float>> known;
  std::vector<float> &values = known[{int(kind), a, b}];
  if (values.empty()) {
    values.resize(kCount);
    random::initialValues(random::initialStream(0, known.size()), 0, kCount, kind, a, b, values.data());
  }
  return values;
}

void LoadedBodies::fillParameter(const ParameterInfo &parameter) {
  const std::vector<float> &values = parameter.init ? valuesOf(*parameter.init, parameter.initA, parameter.initB)
                                                    : valuesOf(random::Distribution::Normal, 0, 0.02);
  for (std::int64_t at = 0; at < parameter.count; at += std::int64_t(values.size())) {
    std::int64_t count = std::min<std::int64_t>(std::int64_t(values.size()), parameter.count - at);
    device.hooks->copyToDevice(&context, arena + parameter.parameter + at * 4, values.data(), count * 4);
    context.progress.beat();
  }
  device.hooks->synchronize(&context);
}

void LoadedBodies::fillInput(const InputInfo &input) {
  if (std::optional<std::size_t> number = manifest.findField(input.name)) {
    data::Field all = manifest.fields[*number];
    std::int64_t bytes = input.bytesPerMicroBatch * manifest.microBatches;
    all.shape = {bytes / (all.isFloat ? 4 : 8)};
    std::vector<char> values(static_cast<std::size_t>(bytes));
    data::drawSample(all, /*seed=*/0, /*sample=*/0, values.data());
    device.hooks->copyToDevice(&context, arena + input.offset, values.data(), bytes);
    return device.hooks->synchronize(&context);
  }
  std::vector<std::int64_t> values(std::size_t(input.bytesPerMicroBatch * manifest.microBatches / 8));
  bool isToken = input.name == "input_ids" || input.name == "labels";
  std::int64_t row = std::max<std::int64_t>(1, manifest.sequence);
  for (std::size_t index = 0; index < values.size(); ++index)
    values[index] =
        isToken ? std::int64_t(random::mix(index + 1) % std::uint64_t(std::max<std::int64_t>(1, manifest.vocabulary)))
        : input.name == "positions" ? std::int64_t(index) % row
                                    : 0;
  device.hooks->copyToDevice(&context, arena + input.offset, values.data(), std::int64_t(values.size()) * 8);
  device.hooks->synchronize(&context);
}

void LoadedBodies::waitForAll() {
  Waiting waiting(context.progress, "the start of a measurement");
  MPI_Barrier(MPI_COMM_WORLD);
}

std::vector<double> LoadedBodies::slowest(std::vector<double> seconds) const {
  Waiting waiting(world.watched(), "a collective of all ranks");
  MPI_Allreduce(MPI_IN_PLACE, seconds.data(), int(seconds.size()), MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return seconds;
}

/// A step as it is trained, and what of it each body took.
std::vector<double> LoadedBodies::runOnce() {
  std::vector<double> seconds;
  order.clear();
  waitForAll();
  Clock::time_point last = Clock::now();
  runPass(context, device, *timetable, arena, /*rate=*/0, [&](const EntryCall &entry) {
    Clock::time_point now = Clock::now();
    if (names.count(*entry.name)) {
      order.push_back(*entry.name);
      seconds.push_back(std::chrono::duration<double>(now - last).count());
    }
    last = Clock::now();
  });
  return seconds;
}

void LoadedBodies::findBodies() {
  entries.clear(), order.clear();
  const std::int64_t *entry = program->timetable, *end = entry + program->timetable_words;
  for (; entry < end; entry += entry[GVRT_ENTRY_WORDS])
    if (entry[GVRT_ENTRY_NAME] >= 0 && names.count(manifest.names[std::size_t(entry[GVRT_ENTRY_NAME])])) {
      entries.push_back(entry);
      order.push_back(manifest.names[std::size_t(entry[GVRT_ENTRY_NAME])]);
    }
}

/// Each body as often as `calls` says, on what the step before left.
void LoadedBodies::walkRound() {
  for (std::size_t index = 0; index < entries.size(); ++index) {
    const std::int64_t *entry = entries[index];
    std::vector<void *> buffers;
    for (std::int64_t i = 0; i < entry[GVRT_ENTRY_NUM_BUFFERS]; ++i) {
      std::int64_t offset = entry[GVRT_ENTRY_FIRST_BUFFER + i];
      buffers.push_back(offset < 0 ? nullptr : arena + offset);
    }
    context.entry = order[index].c_str();
    if (context.entryTimes)
      context.entryTimes->begin(std::int64_t(index));
    for (std::int64_t call = 0; call < calls[index]; ++call)
      program->functions[entry[GVRT_ENTRY_FUNCTION]](&context, buffers.data(),
                                                     entry + GVRT_ENTRY_FIRST_BUFFER + std::int64_t(buffers.size()));
    if (context.entryTimes)
      context.entryTimes->end(std::int64_t(index));
    context.progress.beat();
  }
  context.entry = nullptr;
}

/// Seconds of a call of each body. The device repeats a round as it repeats a step, with a body's calls back to back:
/// launched one by one, small kernels would wait for the host.
std::vector<double> LoadedBodies::runRound() {
  device.hooks->traceNext(&context);
  waitForAll();
  device.hooks->run(&context, /*rate=*/0, [](void *self) { static_cast<LoadedBodies *>(self)->walkRound(); }, this);
  std::vector<EntryTime> times;
  device.hooks->readTimes(&context, times);
  context.progress.beat();
  std::vector<double> seconds(entries.size());
  for (std::size_t index = 0; index < entries.size() && index < times.size(); ++index)
    seconds[index] = 1e-9 * double(times[index].end - times[index].begin) / double(calls[index]);
  return seconds;
}

/// Kernels are loaded and chosen, then the device is brought to the pace that it keeps in a step: each entry has the
/// share of a round that it has of the model's step, as what draws little power lets the rest run faster.
void LoadedBodies::tune() {
  runOnce();
  findBodies();
  std::vector<double> once = slowest(runOnce());
  double round = 1e-9;
  for (std::size_t index = 0; index < once.size(); ++index)
    round += once[index] * double(names.at(order[index]));
  calls.assign(entries.size(), 1);
  for (std::size_t index = 0; index < once.size(); ++index) {
    double share = double(names.at(order[index])) * kRound / round;
    calls[index] = std::clamp<std::int64_t>(std::llround(share), 1, kMostCalls);
  }
  for (Clock::time_point begin = Clock::now(); slowest({secondsSince(begin)})[0] < kWarmUp;)
    runRound();
}

std::map<std::string, Timing> LoadedBodies::timeEntries(double budget) {
  bool isIssued = device.hooks->run != nullptr;
  isIssued ? tune() : void(runOnce()); // else what is first finds libraries and memory cold
  Clock::time_point begin = Clock::now();
  std::vector<Sample> samples;
  for (;;) {
    std::vector<double> seconds = slowest(isIssued ? runRound() : runOnce());
    samples.resize(seconds.size());
    for (std::size_t index = 0; index < seconds.size(); ++index) {
      samples[index].name = order[index];
      samples[index].seconds.push_back(std::max(seconds[index], 1e-9));
    }
    std::size_t count = samples.empty() ? kMostSamples : samples[0].seconds.size();
    bool hasRepeated = std::all_of(samples.begin(), samples.end(), [&](const Sample &sample) {
      double spread = summarize(sample.seconds).spread;
      return isIssued ? spread <= kIsKnown * std::sqrt(double(count)) : spread <= kRepeats;
    });
    double isOver = secondsSince(begin) >= budget || (hasRepeated && count >= 2 * kFewestSamples);
    if (count >= kMostSamples || (count >= kFewestSamples && slowest({isOver})[0] > 0))
      break;
  }
  std::map<std::string, Timing> timings;
  for (const Sample &sample : samples)
    timings[sample.name] = summarize(sample.seconds);
  return timings;
}

double LoadedBodies::timeUpdate(const search::PreparedLayer &layer) {
  Manifest own;
  own.precision = manifest.precision;
  for (const ParameterInfo &parameter : manifest.parameters)
    if (std::find(layer.parameters.begin(), layer.parameters.end(), parameter.name()) != layer.parameters.end())
      own.parameters.push_back(parameter);
  std::vector<double> samples;
  for (std::size_t index = 0; index <= 2 * kFewestSamples; ++index) {
    waitForAll();
    Clock::time_point start = Clock::now();
    if (device.hooks->update)
      device.hooks->update(&context);
    else
      updateParameters(context, device, own, options, arena, /*rate=*/1e-6, /*scale=*/1);
    device.hooks->synchronize(&context);
    double seconds = slowest({secondsSince(start)})[0];
    if (index) // the first finds libraries cold
      samples.push_back(std::max(seconds, 1e-9));
  }
  // A device that updates all at once: this layer's share of its elements.
  double elements = 0, all = 0;
  for (const ParameterInfo &parameter : own.parameters)
    elements += parameter.isTrained() ? double(parameter.count) : 0;
  for (const ParameterInfo &parameter : manifest.parameters)
    all += parameter.isTrained() ? double(parameter.count) : 0;
  double share = device.hooks->update ? elements / std::max(all, 1.0) : 1;
  return own.parameters.empty() ? 0 : share * summarize(samples).seconds;
}

} // namespace

BodyGroup::BodyGroup(std::string folder, const search::PreparedModel &model, const search::PreparedBodies &plain,
                     const search::PreparedBodies *recomputing)
    : folder(std::move(folder)), plain(plain), precision(model.precision), seq(model.model.seq) {
  if (recomputing)
    this->recomputing = *recomputing;
  for (const search::PreparedLayer &layer : plain.layers) {
    search::MeasuredBody body;
    body.layerType = layer.layerType, body.hash = layer.hash;
    body.precision = precision, body.strategy = plain.strategy;
    body.samples = plain.samples, body.seq = seq;
    body.stateBytes = layer.stateBytes, body.savedBytes = layer.savedBytes, body.scratchBytes = layer.scratchBytes;
    body.forwardWork = layer.forwardWork, body.backwardWork = layer.backwardWork;
    figures.push_back(std::move(body));
    counts.push_back(
        std::max<std::int64_t>(1, std::count_if(model.model.units.begin(), model.model.units.end(),
                                                [&](const auto &unit) { return unit.layerType == layer.layerType; })));
  }
}

Status measureBodies(BodyGroup &group, const World &world, Watchdog &watchdog, const Device &device, double budget) {
  for (const search::PreparedBodies *bodies : {&group.plain, &group.recomputing}) {
    if (bodies->library.empty())
      continue;
    LoadedBodies loaded(world, watchdog, device);
    if (Status status = loaded.open(group.folder + "/" + bodies->library, *bodies, group.counts); !status.ok())
      return status;
    std::map<std::string, Timing> timings = loaded.timeEntries(budget / 2);
    for (std::size_t index = 0; index < bodies->layers.size(); ++index) {
      const search::PreparedLayer &layer = bodies->layers[index];
      search::MeasuredBody &figures = group.figures[index];
      double backward = timings[entryName("backward", layer.path)].seconds;
      if (bodies == &group.plain) {
        figures.forwardSeconds = timings[entryName("forward", layer.path)].seconds;
        figures.backwardSeconds = backward;
        const Timing &forward = timings[entryName("forward", layer.path)];
        figures.spread = std::max(forward.spread, timings[entryName("backward", layer.path)].spread);
        figures.repeats = std::max<std::int64_t>(1, forward.repeats);
        figures.updateSeconds = loaded.timeUpdate(layer);
      } else
        figures.recomputeSeconds = std::max(0.0, backward - figures.backwardSeconds);
    }
  }
  return Status::success();
}

} // namespace galvatron::profile
