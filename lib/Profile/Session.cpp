// What one rank of a measurement does. Rank 0 decides, keeps the journal and writes; the others measure with it.
#include "Session.h"

#include "Bench.h"
#include "Export.h"
#include "Gpu.h"
#include "Hosts.h"
#include "Journal.h"
#include "Links.h"
#include "Prepare.h"
#include "ProgressLine.h"
#include "Show.h"

#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Model/LengthFit.h"

#include "runtime/core/Ends.h"
#include "runtime/core/ExitCode.h"
#include "runtime/core/Faults.h"
#include "runtime/core/Version.h"
#include "runtime/core/Watchdog.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <set>

namespace galvatron::profile {

using search::MachineProfile;

namespace {

using Clock = std::chrono::steady_clock;

/// Seconds without any progress after which a rank is said to hang.
constexpr double kDeadline = 20;
/// A rank that takes this much longer than the median is a straggler.
constexpr double kStraggles = 0.05;
/// Of a time limit, what goes by before and after measuring.
constexpr double kForTheRest = 1.5;
/// A pool of operands larger than any cache of a core's share, so that a call finds its operands cold.
constexpr std::int64_t kColdBytes = 128ll << 20;
/// Seconds after which a figure that does not repeat will not, where a call takes less.
constexpr double kLongest = 2;
/// The same of bodies on a device whose power limit moves what it runs, in rounds as long as that takes.
constexpr double kLongestUnderLoad = 8;
/// For the comparison of devices.
constexpr std::int64_t kLeastBytes = 8 << 20, kLeastGpuBytes = 256 << 20;

Status toStatus(const std::optional<search::Error> &error) {
  return error ? Status::error(error->message) : Status::success();
}

class Session {
public:
  Session(const Options &options, const World &world, Watchdog &watchdog, const HostFacts &facts,
          Clock::time_point begin)
      : options(options), world(world), watchdog(watchdog), facts(facts), begin(begin),
        line(options.quiet, std::getenv("GALVATRON_TERMINAL") && std::atoi(std::getenv("GALVATRON_TERMINAL"))) {}

  /// The exit code, or what is wrong.
  Status run(int &code);

private:
  bool isFirst() const { return world.rank() == 0; }
  double remaining() const {
    return options.timeLimit - kForTheRest - std::chrono::duration<double>(Clock::now() - begin).count();
  }
  bool isCuda() const { return options.target == "cuda"; }
  Status lookAtGpus();
  Status lookAtMachine();
  Status takeBusy(const std::string &busy);
  void warn(const std::string &text) const;
  Status resume();
  Status readModel();
  bool hasModel() const;
  std::string modelToExport() const { return model ? model->model.name : options.modelName; }
  Status measureAll(bool &wasInterrupted);
  Status measure(Work &work, double budget);
  Bench &hardware();
  bool hasRoom(const Work &work);
  std::int64_t availableBytes() const;
  double decide(const Work &work, std::size_t after);
  double expectedSeconds(const Work &work) const;
  Status keep(const Work &work);
  void compareDevices();
  Status finish();
  std::int64_t poolBytes() const;

  const Options &options;
  const World &world;
  Watchdog &watchdog;
  HostFacts facts;
  Clock::time_point begin;
  std::string ncclMemory = search::describeNcclMemory(); ///< before anything here sets variables
  std::vector<HostFacts> hosts;                          ///< by rank
  std::vector<GpuFacts> gpus;                            ///< by rank; of cpu none
  MachineProfile profile;
  std::vector<search::MeasuredDevice> devices; ///< as they are now
  std::optional<Prepared> model;
  gvrt_context context;
  Device device;
  std::optional<Watched> watched;
  std::optional<Bench> bench; ///< while hardware is measured: bodies need its memory and communicators
  std::vector<Work> works;
  std::vector<char> isDone;                                    ///< by work
  std::map<std::string, std::pair<double, double>> lastOfKind; ///< seconds of a call: guessed, measured
  Journal journal;
  ProgressLine line;
};

void Session::warn(const std::string &text) const {
  if (isFirst())
    std::fprintf(stderr, "warning: %s\n", text.c_str());
}

/// Before this process has anything on its GPU: who is there now.
Status Session::lookAtGpus() {
  int local = 0;
  hosts = world.gather(facts);
  for (int rank = 0; rank < world.rank(); ++rank)
    local += !std::strcmp(hosts[std::size_t(rank)].host, facts.host);
  gpus = world.gather(lookAtGpu(local));
  std::int64_t ofHost = std::count_if(hosts.begin(), hosts.end(),
                                      [&](const HostFacts &host) { return !std::strcmp(host.host, hosts[0].host); });
  std::vector<std::string> names;
  for (const HostFacts &host : hosts)
    names.push_back(host.host);
  return takeBusy(describeBusyGpus(gpus, names, ofHost, options.allowBusy));
}

/// Refused, or with --allow-busy said and noted.
Status Session::takeBusy(const std::string &busy) {
  if (busy.empty())
    return Status::success();
  if (!options.allowBusy)
    return Status::error(busy);
  warn(busy);
  profile.wasBusy = true;
  return Status::success();
}

Status Session::lookAtMachine() {
  hosts = world.gather(facts);
  std::vector<std::string> libraries = world.gatherText(device.hooks->describe());
  if (std::optional<search::Error> differ = compareNccl(world.gatherText(isCuda() ? ncclMemory : "")))
    return Status::error(differ->message);
  search::Result<HostGrid> grid = placeRanks(hosts, libraries, options.devicesPerNode);
  if (!grid)
    return Status::error(grid.error().message);
  if (Status status = takeBusy(isCuda() ? "" : describeBusy(hosts, options.allowBusy)); !status.ok())
    return status;
  for (const std::string &warning : grid->warnings)
    warn(warning);
  std::int64_t local = grid->ranksOfHost;
  // A GPU that NVML does not name is in the library's description.
  std::string name = isCuda() && gpus[0].isKnown ? gpus[0].name : isCuda() ? libraries[0] : hosts[0].device;
  std::string kind = isCuda() ? kindOfGpu(name) : "cpu";
  if (kind.empty()) { // its messages and kernels are measured; what they do not price has to be some kind's
    warn("GPU '" + name + "' is none of the kinds h200, h100 and a100; what is not measured of it is taken from h200");
    kind = "h200";
  }
  profile.cluster = *search::hostCluster(local, 0, kind);
  profile.cluster.nodes = grid->nodes, profile.cluster.devicesPerNode = grid->devicesPerNode;
  char mpi[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(mpi, &length);
  std::string names;
  for (std::size_t rank = 0; rank < hosts.size(); rank += std::size_t(local))
    names += (names.empty() ? "" : ", ") + std::string(hosts[rank].host);
  profile.precision = options.precision;
  profile.fingerprint = {{"target", options.target}, {"device", name},
                         {"library", libraries[0]},  {"mpi", std::string(mpi).substr(0, std::string(mpi).find(','))},
                         {"hosts", names},           {"version", kVersion}};
  if (isCuda()) {
    profile.fingerprint["nvls"] = options.nvls ? "on" : "off";
    profile.fingerprint["nccl"] = ncclMemory;
  }
  for (int rank = 0; rank < world.size(); ++rank) {
    devices.push_back({rank, hosts[rank].host, rank % local, hosts[rank].clockMhz});
    if (isCuda())
      devices.back().clockMhz = gpus[rank].clockMhz, devices.back().powerWatts = gpus[rank].limitWatts,
      devices.back().celsius = gpus[rank].celsius;
  }
  return Status::success();
}

/// Alike on every rank.
Status Session::readModel() {
  search::Result<Prepared> read = readPrepared(options, world.size());
  if (Status status = world.agree(read ? Status::success() : Status::error(read.error().message)); !status.ok())
    return status;
  std::size_t groups = read->groups.size();
  std::vector<std::size_t> ofRanks = world.gather(groups);
  for (std::size_t rank = 0; rank < ofRanks.size(); ++rank)
    if (ofRanks[rank] != groups)
      return Status::error("host '", hosts[rank].host, "' has other bodies in '", preparedFolder(options),
                           "' than rank 0; prepare the model on each host, or in a folder that all share");
  model = std::move(*read);
  for (Work &work : listBodies(std::move(model->groups), isCuda()))
    works.push_back(std::move(work));
  return Status::success();
}

/// Whether the profile says what the model is made of, and what is planned for it.
bool Session::hasModel() const {
  MachineProfile merged = profile;
  if (model)
    search::mergePlanned(model->planned, merged);
  return !model || (merged.planned.size() == profile.planned.size() &&
                    std::any_of(profile.models.begin(), profile.models.end(), [&](const search::ProfiledModel &each) {
                      return each.name == model->model.name && each.hash == model->model.hash;
                    }));
}

/// What the folder has of this machine; every rank learns which of the works are done.
Status Session::resume() {
  if (options.measuresModel() && options.wants("layers"))
    if (Status status = readModel(); !status.ok())
      return status;
  if (options.measuresHardware())
    for (Work &work : listWork(options, world.size()))
      works.push_back(std::move(work));
  if (works.empty())
    return Status::error("nothing is left to measure of these --kinds on ", world.size(),
                         " rank; messages need 2 ranks at least");
  isDone.assign(works.size(), 0);
  Status status;
  if (isFirst()) {
    if (model)
      profile.models = {model->model};
    status = toStatus(journal.open(options.folder, profile, options.restart));
    guessBodies(profile, isCuda(), works); // as rank 0 alone decides, the order stays
    std::vector<std::string> names = namesIn(profile);
    std::set<std::string> known(names.begin(), names.end());
    for (std::size_t index = 0; index < works.size(); ++index) {
      std::vector<std::string> wanted = works[index].entryNames();
      isDone[index] =
          std::all_of(wanted.begin(), wanted.end(), [&](const std::string &name) { return known.count(name) > 0; });
    }
  }
  if (status = world.agree(status); !status.ok())
    return status;
  {
    Waiting waiting(world.watched(), "what is measured already");
    MPI_Bcast(isDone.data(), int(isDone.size()), MPI_CHAR, 0, MPI_COMM_WORLD);
  }
  std::int64_t done = std::count(isDone.begin(), isDone.end(), 1);
  if (isFirst() && done && !options.quiet) {
    std::printf("resumed: %lld of %zu measurements\n", (long long)done, works.size());
    std::fflush(stdout);
  }
  return Status::success();
}

/// Of a rank, on the host that has the least.
std::int64_t Session::availableBytes() const {
  if (isCuda()) {
    std::int64_t free = 1ll << 62;
    for (const GpuFacts &gpu : gpus)
      free = std::min(free, gpu.isKnown ? gpu.memoryBytes - gpu.usedBytes : profile.cluster.memoryBytesPerDevice);
    return free / 10 * 9;
  }
  std::int64_t available = 1ll << 62, local = 0;
  for (const HostFacts &host : hosts) {
    available = std::min(available, host.availableBytes);
    local += !std::strcmp(host.host, hosts[0].host);
  }
  return available / local;
}

/// As much as the largest message needs, and more than caches hold; of hosts with little memory, less.
std::int64_t Session::poolBytes() const {
  std::int64_t wanted = 0;
  for (std::size_t index = 0; index < works.size(); ++index)
    if (!isDone[index])
      wanted = std::max({wanted, works[index].operandBytes, works[index].resultBytes});
  // Two pools, and MPI's copies of what is under way.
  std::int64_t most = availableBytes() / 4;
  wanted = std::max({wanted + 65536, std::min(kColdBytes, 16 * wanted), isCuda() ? kLeastGpuBytes : kLeastBytes});
  return std::min(wanted, most) / 4096 * 4096;
}

/// From the last one of its kind, which took its own work's time and whatever every call takes.
double Session::expectedSeconds(const Work &work) const {
  auto known = lastOfKind.find(work.kind());
  if (known == lastOfKind.end())
    return work.guessedSeconds;
  auto [guessed, measured] = known->second;
  if (work.guessedSeconds <= guessed)
    return measured;
  // Either all of it grows, or what was guessed does, on a machine several times slower than the guess.
  constexpr double kSlower = 4;
  return std::min(measured * work.guessedSeconds / guessed, measured + kSlower * (work.guessedSeconds - guessed));
}

/// Seconds for it, of rank 0's clock; 0: it is left out, as `profile.leftOut` then says.
double Session::decide(const Work &work, std::size_t after) {
  if (!hasRoom(work)) {
    profile.leftOut.push_back(work.name() + ": too little memory");
    return 0;
  }
  // Two calls to begin with, and three samples.
  double left = remaining(), expected = expectedSeconds(work);
  if (5 * expected > left) {
    profile.leftOut.push_back(work.name() + ": too little time");
    return 0;
  }
  bool isUnderLoad = isCuda() && std::holds_alternative<BodyGroup>(work.what);
  return std::max(std::min(left / double(after + 1), isUnderLoad ? kLongestUnderLoad : kLongest), 3 * expected);
}

/// As a journal and a profile have it; of bodies those that `profile` lacks: another model may have the others.
static std::string entryOf(const Work &work, const MachineProfile &profile) {
  auto *group = std::get_if<BodyGroup>(&work.what);
  if (!group)
    return std::visit(
        [](const auto &what) {
          if constexpr (std::is_same_v<std::decay_t<decltype(what)>, BodyGroup>)
            return std::string();
          else
            return search::writeEntry(what);
        },
        work.what);
  std::vector<std::string> names = namesIn(profile), own = work.entryNames();
  std::set<std::string> known(names.begin(), names.end());
  std::vector<search::MeasuredBody> added;
  for (std::size_t index = 0; index < own.size(); ++index)
    if (known.insert(own[index]).second)
      added.push_back(group->figures[index]);
  return search::writeEntry(added);
}

Status Session::keep(const Work &work) {
  Status status;
  if (isFirst()) {
    std::string entry = entryOf(work, profile);
    status = toStatus(journal.add(entry));
    if (auto added = search::addEntry(entry, profile); status.ok() && !added)
      status = Status::error(added.error().message);
  }
  return world.agree(status);
}

/// What a call took, so that larger ones can be foretold.
static double callSeconds(const Work &work) {
  if (auto *message = std::get_if<search::MeasuredMessage>(&work.what))
    return message->seconds;
  double seconds = 0;
  if (auto *group = std::get_if<BodyGroup>(&work.what))
    for (const search::MeasuredBody &body : group->figures)
      seconds += 2 * (body.forwardSeconds + body.backwardSeconds) + body.recomputeSeconds;
  if (seconds > 0)
    return seconds;
  auto *kernel = std::get_if<search::MeasuredKernel>(&work.what);
  return kernel ? kernel->seconds : work.guessedSeconds;
}

/// Made when it is first needed, and again after bodies.
Bench &Session::hardware() {
  if (!bench) {
    context.groups.clear();
    bench.emplace(world, context, device, works, poolBytes());
  }
  return *bench;
}

bool Session::hasRoom(const Work &work) {
  if (auto *group = std::get_if<BodyGroup>(&work.what))
    return std::max(group->plain.arenaBytes, group->recomputing.arenaBytes) < availableBytes() / 10 * 9;
  return bench->hasRoom(work);
}

Status Session::measure(Work &work, double budget) {
  auto *group = std::get_if<BodyGroup>(&work.what);
  if (!group) {
    bench->measure(work, budget);
    return Status::success();
  }
  watched.reset();
  Status status = measureBodies(*group, world, watchdog, device, budget);
  installFaultHandlers(&context);
  watched.emplace(watchdog, context);
  return status;
}

Status Session::measureAll(bool &wasInterrupted) {
  std::size_t done = std::size_t(std::count(isDone.begin(), isDone.end(), 1)), after = works.size() - done;
  for (std::size_t index = 0; index < works.size(); ++index) {
    if (isDone[index])
      continue;
    Work &work = works[index];
    struct {
      double budget, ends;
    } order = {0, double(signalThatCame())};
    std::vector<double> ends = world.gather(order.ends);
    wasInterrupted = std::any_of(ends.begin(), ends.end(), [](double end) { return end != 0; });
    if (wasInterrupted)
      return Status::success();
    --after;
    if (std::holds_alternative<BodyGroup>(work.what))
      bench.reset();
    else
      hardware();
    if (isFirst()) {
      line.show(done, works.size(), work.name(), std::max(0.0, remaining()));
      order.budget = decide(work, after);
    }
    order.budget = world.gather(order.budget)[0];
    if (order.budget <= 0)
      continue;
    Status status = measure(work, order.budget);
    if (status.ok())
      status = keep(work);
    if (!status.ok())
      return status;
    lastOfKind[work.kind()] = {work.guessedSeconds, callSeconds(work)};
    ++done;
  }
  line.clear();
  return Status::success();
}

static double medianOf(std::vector<double> values) { return summarize(std::move(values)).seconds; }

/// The same work on every rank at once: who is slower than the others, and by how much.
void Session::compareDevices() {
  Bench &bench = hardware();
  std::vector<double> products = world.gather(bench.ownProduct()), copies = world.gather(bench.ownCopy());
  double product = medianOf(products), copy = medianOf(copies);
  profile.devices = devices, profile.stragglers.clear();
  for (std::size_t rank = 0; rank < products.size(); ++rank) {
    search::MeasuredDevice &device = profile.devices[rank];
    device.gemmShare = product / products[rank], device.copyShare = copy / copies[rank];
    double slowerBy = std::max(products[rank] / product, copies[rank] / copy) - 1;
    if (slowerBy > kStraggles)
      profile.stragglers.push_back({device.rank, device.host, device.device, slowerBy});
  }
}

static std::string utcNow() {
  std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

Status Session::finish() {
  if (!isFirst())
    return Status::success();
  profile.created = utcNow();
  if (!hasModel()) {
    std::erase_if(profile.models, [&](const search::ProfiledModel &each) { return each.name == model->model.name; });
    profile.models.push_back(model->model);
  }
  if (model)
    search::mergePlanned(model->planned, profile);
  search::extrapolateLengths(profile);
  deriveLinks(profile);
  // What is written can be read: a figure that it refuses must not take a good profile's place.
  std::string text = search::writeMachineProfile(profile);
  if (auto read = search::parseMachineProfile(text); !read)
    return Status::error(read.error().message);
  std::string file = options.folder + "/profile.json", cluster = options.folder + "/cluster.json";
  if (auto error = replaceFile(file, text))
    return toStatus(error);
  if (auto error = replaceFile(cluster, search::writeClusterOf(profile)))
    return toStatus(error);
  journal.remove();
  if (!options.quiet)
    std::printf("%s", describeEnd(profile, file, cluster).c_str());
  if (!options.format.empty()) {
    search::Result<std::string> exported = exportReference(profile, options.folder + "/reference", modelToExport());
    if (!exported)
      return Status::error(exported.error().message);
    if (!options.quiet)
      std::printf("%s", exported->c_str());
  }
  for (const std::string &text : describeStragglers(profile))
    warn(text);
  return Status::success();
}

Status Session::run(int &code) {
  context.rank = context.stage = world.rank();
  context.ranks = context.stages = world.size();
  std::optional<std::string> missing = Bench::loadDevice(options.target);
  if (!missing && !Device::find(device))
    missing = "the device library has no hooks; build it again";
  Status status = world.agree(missing ? Status::error(*missing) : Status::success());
  if (isCuda()) // what counts is what this process says, not an nccl.conf
    setenv("NCCL_NVLS_ENABLE", options.nvls ? "1" : "0", /*replace=*/1);
  if (status.ok() && isCuda())
    status = world.agree(lookAtGpus());
  if (status.ok())
    status = world.agree(Bench::prepare(context, device));
  if (status.ok())
    status = world.agree(lookAtMachine());
  if (status.ok())
    status = resume();
  if (!status.ok())
    return status;
  // A finished profile has it all: it stays as it is.
  int isComplete = !profile.created.empty() && hasModel() && std::count(isDone.begin(), isDone.end(), 0) == 0;
  if (world.gather(isComplete)[0]) {
    journal.remove();
    return status;
  }
  profile.leftOut = model ? model->leftOut : std::vector<std::string>();
  if (isCuda()) {
    warn("galvatron-profile has not been checked on several GPUs, or against other programs there: compare before you "
         "rely on it");
    if (options.measuresHardware() && options.wants("overlap"))
      profile.leftOut.push_back("overlap: not measured on GPUs by this version");
  }
  installFaultHandlers(&context);
  watched.emplace(watchdog, context);
  compareDevices();
  bool wasInterrupted = false;
  status = measureAll(wasInterrupted);
  if (status.ok() && wasInterrupted) {
    code = kInterrupted;
    return Status::error("interrupted; the same command goes on from here");
  }
  return status.ok() ? world.agree(finish()) : status;
}

} // namespace

/// Where this process was started as the first rank by somebody else: the others wait until it is through.
static std::optional<search::Error> prepareFirst(const Options &options, std::int64_t ranks) {
  for (const char *name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char *value = std::getenv(name))
      return std::atoi(value) == 0 && options.measuresModel() ? prepareModel(options, ranks) : std::nullopt;
  return std::nullopt;
}

/// As the launcher says; 1 where it does not.
static std::int64_t ranksOfLauncher() {
  for (const char *name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"})
    if (const char *value = std::getenv(name))
      return std::max(1, std::atoi(value));
  return 1;
}

int runRank(const Options &options, int argc, char **argv) {
  Clock::time_point begin = Clock::now();
  std::optional<search::Error> unprepared = prepareFirst(options, ranksOfLauncher());
  listenForSignals();
  HostFacts facts = lookAtHost();
  Progress progress;
  Watchdog watchdog(progress, kDeadline);
  World world(&argc, &argv, progress);
  watchdog.connect(world, world.rank());
  int code = kRefused;
  Status status = world.agree(unprepared ? Status::error(unprepared->message) : Status::success());
  try {
    if (status.ok())
      status = Session(options, world, watchdog, facts, begin).run(code);
  } catch (const std::exception &error) {
    Watchdog::silence();
    std::fprintf(stderr, "error: rank %d: %s\n", world.rank(), error.what());
    MPI_Abort(MPI_COMM_WORLD, kFailed);
  }
  if (status.ok())
    return 0;
  if (world.rank() == 0) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s: %s\n", code == kInterrupted ? "galvatron-profile" : "error", status.message.c_str());
  }
  return code;
}

} // namespace galvatron::profile
