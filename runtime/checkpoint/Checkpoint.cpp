//===- Checkpoint.cpp - what --save writes and --load reads --------------------------------------===//
#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/Checksums.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

Status readTraining(const fs::path &folder, const std::string &name, TrainingState &training) {
  std::ifstream file(folder / kTraining);
  if (!file)
    return Status::error(name, " is not a checkpoint: ", (folder / kTraining).string(), " is missing");
  std::ostringstream text;
  text << file.rdbuf();
  if (Status status = TrainingState::parse(text.str(), training); !status.ok())
    return Status::error(name, " is not a checkpoint: ", (folder / kTraining).string(),
                         " cannot be read: ", status.message);
  return Status::success();
}

/// Collective: creates the files, and writes every rank's slices.
Status writeTensors(const World &world, const ModelState &state, safetensors::ShardedWriter &writer,
                    const std::vector<TensorKind> &kinds) {
  Status status;
  if (world.rank() == 0)
    writer.create(status.message);
  if (status = world.agree(status); status.ok())
    status = writeOwnTensors(state, readDevice(state), writer, kinds);
  return world.agree(status);
}

} // namespace

/// The file of a checkpoint's tensors: the index where there is one.
static fs::path fileOf(const fs::path &folder, const std::string &stem) {
  fs::path index = folder / (stem + safetensors::kIndexEnding);
  std::error_code ignored;
  return fs::exists(index, ignored) ? index : folder / (stem + safetensors::kFileEnding);
}

/// Files without which a checkpoint is none: each of them has a checksum.
static std::vector<std::string> requiredFiles(const fs::path &folder) {
  fs::path file = fileOf(folder, kModelStem);
  std::vector<std::string> names = {file.filename(), kTraining};
  std::string ignored;
  if (auto reader = safetensors::ShardedReader::open(file, ignored))
    for (const fs::path path : reader->files())
      names.push_back(path.filename());
  return names;
}

std::string weightsOfCheckpoint(const std::string &folder) { return fileOf(absoluteFolder(folder), kModelStem); }

/// A checkpoint by its own name. One that has no checksums is taken, with a warning.
static Status verifyOne(const World &world, const std::string &name, std::vector<std::string> &warnings) {
  fs::path folder = absoluteFolder(name);
  bool hasTraining = false;
  Status status = lookFor(folder / kTraining, hasTraining);
  if (status.ok() && !hasTraining)
    status = Status::error(name, " is not a checkpoint: ", (folder / kTraining).string(),
                           " is missing; name a folder that --save wrote");
  status = world.agree(status);
  bool isThere = false;
  if (status.ok())
    status = verifyChecksums(world, folder, requiredFiles(folder), isThere);
  if (status.ok() && !isThere)
    warnings.push_back(name + " has no " + kChecksums +
                       ", so whether its files are whole and of one save was not checked");
  return status;
}

/// A folder's name in itself.
static const fs::path kItself = ".";

/// The newest of several whose checksums hold.
static Status findNewest(const World &world, const std::string &name, const std::vector<std::string> &candidates,
                         LoadedFrom &loaded, std::vector<std::string> &warnings) {
  for (const std::string &own : candidates) {
    // As a folder lists it: without following what may be a link.
    fs::path folder = absoluteFolder(name);
    std::string candidate = (own == kItself ? folder : folder / own).string();
    bool isThere = false;
    Status status = verifyChecksums(world, candidate, requiredFiles(candidate), isThere);
    if (status.ok() && !isThere)
      status = Status::error(candidate, " has no ", kChecksums, ", which is written last");
    if (status.ok()) {
      loaded.folder = own == kItself ? name : (fs::path(name) / own).string();
      return status;
    }
    warnings.push_back("passed over a checkpoint: " + status.message);
    loaded.passedOver.push_back(candidate);
  }
  return Status::error("none of the checkpoints in ", name, " is whole; give another folder, or start without --load");
}

/// The names in a folder of the checkpoints that --load may take, a line each; `wasMoved` if they are where a save put
/// them aside.
static Status listCandidates(const fs::path &folder, bool &wasMoved, std::string &lines) {
  std::vector<StepFolder> list;
  if (Status status = listCheckpoints(folder, list); !status.ok())
    return status;
  if (list.empty() && !hasOwnFiles(folder)) {
    if (Status status = listCheckpoints(previousOf(folder), list); !status.ok())
      return status;
    wasMoved = !list.empty() || hasOwnFiles(previousOf(folder));
  }
  for (const StepFolder &step : list)
    lines += (step.path == folder || step.path == previousOf(folder) ? kItself : step.path.filename()).string() + "\n";
  return Status::success();
}

Status findCheckpoint(const World &world, const std::string &name, bool mayLack, LoadedFrom &loaded,
                      std::vector<std::string> &warnings) {
  // What the first rank sees, for all: others may look a moment later.
  fs::path folder = absoluteFolder(name);
  Status status;
  std::string seen;
  bool wasMoved = false, begins = false;
  if (world.rank() == 0) {
    status = listCandidates(folder, wasMoved, seen);
    begins = seen.empty() && mayLack && !hasOwnFiles(folder);
  }
  if (status = world.agree(status); !status.ok())
    return status;
  wasMoved = world.gather(char(wasMoved))[0];
  begins = world.gather(char(begins))[0];
  seen = world.gatherText(seen)[0];
  if (begins)
    return Status::success();
  std::string whole = wasMoved ? previousOf(folder).string() : name;
  if (wasMoved)
    warnings.push_back(name + " is not there, but " + whole +
                       ", where a save that was stopped put it aside, and which is taken");
  std::vector<std::string> candidates;
  std::istringstream lines(seen);
  for (std::string line; std::getline(lines, line);)
    candidates.push_back(line);
  bool isOne = candidates.empty() || (candidates.size() == 1 && candidates[0] == kItself);
  if (!isOne)
    return findNewest(world, whole, candidates, loaded, warnings);
  loaded.folder = whole;
  return verifyOne(world, whole, warnings);
}

void findOwnCheckpoint(const World &world, const std::string &save, LoadedFrom &loaded,
                       std::vector<std::string> &warnings) {
  if (save.empty())
    return;
  Status status = findCheckpoint(world, save, /*mayLack=*/true, loaded, warnings);
  if (status.ok())
    return;
  loaded.passedOver.push_back(absoluteFolder(save));
  loaded.folder.clear();
  warnings.push_back("this run starts as it first did: " + status.message);
}

Status loadTraining(const std::string &name, TrainingState &training) {
  return readTraining(absoluteFolder(name), name, training);
}

Status loadTensors(const ModelState &state, const std::string &name, const Options &options,
                   const TrainingState &training) {
  fs::path folder = absoluteFolder(name);
  if (options.optimizer == "adamw" && training.optimizer != "adamw")
    return Status::error(name, " was written with --optimizer ", training.optimizer,
                         " and has no moments for adamw; pass the same optimizer");
  Status status = readTensors(state, fileOf(folder, kModelStem), {kWeight}, !training.model.frozen.empty());
  if (status.ok() && options.optimizer == "adamw")
    status = readTensors(state, fileOf(folder, kOptimizerStem), {kFirstMoment, kSecondMoment});
  return status;
}

Status loadCheckpoint(const ModelState &state, const std::string &name, const Options &options,
                      TrainingState &training) {
  Status status = loadTraining(name, training);
  return status.ok() ? loadTensors(state, name, options, training) : status;
}

Status dumpGradients(const World &world, const Catalog &catalog, const ModelState &state, const std::string &folder,
                     int64_t step) {
  std::string name = stepName(step) + safetensors::kFileEnding;
  std::string path = fs::path(folder) / name, unfinished = path + ".partial";
  safetensors::ShardedWriter writer = layOutTensors(catalog, {kGradient});
  writer.divide(folder, name, safetensors::kWhole, ".partial");
  Status status = writeTensors(world, state, writer, {kGradient});
  if (status.ok() && world.rank() == 0 && std::rename(unfinished.c_str(), path.c_str()) != 0)
    status = Status::error("cannot rename ", unfinished, ": ", std::strerror(errno));
  return world.agree(status);
}

} // namespace galvatron
