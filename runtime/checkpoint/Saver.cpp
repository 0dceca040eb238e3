//===- Saver.cpp - checkpoints, written beside the steps that follow or before them --------------------===//
#include "runtime/checkpoint/Saver.h"
#include "runtime/checkpoint/Checksums.h"
#include "runtime/core/Files.h"
#include "runtime/core/Report.h"

#include <csignal>
#include <system_error>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

/// The stems of a checkpoint's files, and what is in them.
std::vector<std::pair<std::string, std::vector<TensorKind>>> tensorFiles(const std::string &optimizer) {
  std::vector<std::pair<std::string, std::vector<TensorKind>>> files = {{kModelStem, {kWeight}}};
  if (optimizer == "adamw")
    files.push_back({kOptimizerStem, {kFirstMoment, kSecondMoment}});
  return files;
}

std::vector<TensorKind> allKinds(const std::string &optimizer) {
  std::vector<TensorKind> kinds;
  for (const auto &[stem, own] : tensorFiles(optimizer))
    kinds.insert(kinds.end(), own.begin(), own.end());
  return kinds;
}

/// What a rank tells of a phase: an error behind "!", else its text behind a blank.
std::string tell(const Status &status, const std::string &text) {
  return status.ok() ? " " + text : "!" + status.message;
}

/// A thread that signals to the process pass by; none where none can be had.
std::thread startQuietThread(const std::function<void()> &run) {
  sigset_t others, before;
  sigfillset(&others);
  for (int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT})
    sigdelset(&others, own);
  pthread_sigmask(SIG_BLOCK, &others, &before);
  std::thread thread;
  try {
    thread = std::thread(run);
  } catch (const std::system_error &) { // its work is then done at once
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

} // namespace

Saver::~Saver() {
  if (thread.joinable())
    thread.join();
}

void Saver::open(const std::string &optimizer, int64_t newShardBytes, const std::string &newConfig,
                 const std::optional<Adapter> &newAdapter, bool areFrozenKept, bool beside, std::string &warning) {
  shardBytes = newShardBytes;
  config = newConfig;
  adapter = newAdapter;
  hasConfig = world.gather(char(!config.empty()))[0];
  kept = {areFrozenKept, adapter ? adapter->names() : std::set<std::string>()};
  gather.open();
  if (!beside)
    return;
  // Ranks of one host take of the same memory.
  struct Need {
    char host[256];
    int64_t bytes, available;
  } own{};
  copy = std::make_unique<HostCopy>(state, allKinds(optimizer));
  gethostname(own.host, sizeof own.host - 1);
  own.bytes = copy->numBytes();
  own.available = availableHostBytes();
  std::string why;
  std::vector<Need> all = world.gather(own);
  for (const Need &one : all) {
    int64_t needed = 0;
    for (const Need &other : all)
      needed += std::string(other.host) == one.host ? other.bytes : 0;
    if (why.empty() && one.available >= 0 && needed > one.available)
      why = std::string("host ") + one.host + " has " + bytesText(one.available) +
            " of memory to give, but a copy of the state of its ranks takes " + bytesText(needed);
  }
  bool isThere = why.empty() && copy->allocate();
  for (char good : world.gather(char(isThere)))
    if (!good && why.empty())
      why = "a rank has no memory for a copy of its state";
  if (why.empty())
    return;
  copy.reset();
  warning = "saving is synchronous: " + why;
}

int64_t Saver::checkpointBytes(const std::string &optimizer) const {
  int64_t bytes = 0;
  for (const auto &[stem, kinds] : tensorFiles(optimizer))
    bytes += layOutTensors(catalog, kinds, stem == kModelStem ? &state.manifest : nullptr, kept).numBytes();
  return bytes;
}

void Saver::begin(const TrainingState &newTraining, bool atOnce) {
  training = newTraining;
  isAtOnce = atOnce || !copy;
  began = std::chrono::steady_clock::now();
  outcome = {training.step, {}, "", 0};
  files.clear();
  names = {kTraining};
  if (hasConfig)
    names.push_back(kConfig);
  if (adapter)
    for (const std::string &name : adapterFiles())
      names.push_back(name);
  for (const auto &[stem, kinds] : tensorFiles(training.optimizer)) {
    safetensors::ShardedWriter &writer =
        files.emplace_back(layOutTensors(catalog, kinds, stem == kModelStem ? &state.manifest : nullptr, kept), kinds)
            .first;
    writer.divide(folder.unfinished(training.step), stem, shardBytes);
    for (const std::string &name : writer.files())
      names.push_back(name);
  }
  if (!isAtOnce)
    copy->start();
  start(kCreate);
}

void Saver::start(Phase next) {
  phase = next;
  isTold = false;
  auto run = [this, next] {
    ownText.clear();
    try {
      ownStatus = work(next, ownText);
    } catch (const std::exception &error) {
      ownStatus = Status::error(error.what());
    }
    isWorking = false;
  };
  isWorking = true;
  if (!isAtOnce)
    thread = startQuietThread(run);
  if (!thread.joinable())
    run();
}

Status Saver::work(Phase now, std::string &told) {
  fs::path fresh = folder.unfinished(training.step);
  switch (now) {
  case kCreate:
    return isFirst() ? create() : Status::success();
  case kWrite:
    return write();
  case kDerive: // of tensors that all ranks have written
    return adapter && isFirst() ? adapter->write(fresh) : Status::success();
  case kHash:
    return hashOwn(fresh, names, world.rank(), world.size(), told);
  case kPublish: {
    if (!isFirst())
      return Status::success();
    Status status = writeChecksums(fresh, hashes);
    if (status.ok())
      status = synchronize(fresh);
    if (status.ok())
      return folder.publish(training.step, outcome.warning); // which says what stays where that fails
    (void)removeOwnFiles(fresh);
    return status;
  }
  default:
    if (isFirst())
      (void)removeOwnFiles(fresh);
    return Status::success();
  }
}

Status Saver::create() {
  Status status = makeEmpty(folder.unfinished(training.step));
  for (auto &[writer, kinds] : files)
    if (status.ok())
      writer.create(status.message);
  return status;
}

Status Saver::write() {
  fs::path fresh = folder.unfinished(training.step);
  Status status;
  ReadPiece read = isAtOnce ? readDevice(state) : copy->reader();
  for (size_t i = 0; i < files.size() && status.ok(); ++i)
    status = writeOwnTensors(state, read, files[i].first, files[i].second, i == 0 && isFirst() ? &carried : nullptr);
  if (status.ok() && isFirst())
    status = writeText(fresh / kTraining, training.toText());
  if (status.ok() && isFirst() && !config.empty())
    status = writeText(fresh / kConfig, config);
  return status;
}

bool Saver::poll(Saved &saved) {
  while (phase != kIdle) {
    if (!isTold) {
      if (isWorking)
        return false;
      if (thread.joinable())
        thread.join();
      gather.begin(tell(ownStatus, ownText));
      isTold = true;
    }
    if (!isPhaseOver())
      return false;
    Status status;
    hashes.clear();
    for (const std::string &text : gather.texts()) {
      if (status.ok() && text[0] == '!')
        status = Status::error(text.substr(1));
      hashes.push_back(text.substr(1));
    }
    if (!status.ok())
      outcome.status = status;
    if (!status.ok() && phase < kPublish)
      start(kRemove);
    else if (phase == kPublish || phase == kRemove)
      conclude(saved);
    else
      start(Phase(phase + 1));
  }
  return true;
}

bool Saver::isPhaseOver() { return (phase != kCreate || isAtOnce || copy->isDone()) && gather.isDone(); }

void Saver::finish(Saved &saved) {
  constexpr int kPause = 1000, kShortPause = 20; // microseconds
  while (!poll(saved)) {
    if (!isTold) { // as this rank still works
      thread.join();
      continue;
    }
    Waiting waiting(world.watched(), "the other ranks' parts of a save");
    while (!isPhaseOver())
      usleep(isAtOnce ? kShortPause : kPause);
  }
}

void Saver::conclude(Saved &saved) {
  phase = kIdle;
  files.clear();
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  saved = outcome;
}

} // namespace galvatron
