//===- Checkpoint.cpp - what --save writes and --load reads --------------------------------------===//
#include "runtime/checkpoint/Checkpoint.h"
#include "runtime/checkpoint/Checksums.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

constexpr const char *kModel = "model.safetensors", *kOptimizer = "optimizer.safetensors", *kTraining = "training.json";
constexpr const char *kOwnFiles[] = {kModel, kOptimizer, kTraining, kTensors, kChecksums};

/// An absolute path without links and trailing slash, so that a name beside it, on the same disk, can be formed.
fs::path normal(const std::string &folder) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(folder), error);
  if (error)
    path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

fs::path partial(const fs::path &folder) { return folder.string() + ".partial"; }

/// Removes a folder that holds at most a checkpoint's files.
Status removeOwnFiles(const fs::path &folder) {
  std::error_code error;
  for (const char *name : kOwnFiles)
    fs::remove(folder / name, error);
  fs::remove(folder, error);
  if (fs::exists(folder))
    return Status::error(folder.string(), " is in the way of saving; move it elsewhere");
  return Status::success();
}

Status makeEmpty(const fs::path &folder) {
  if (Status status = removeOwnFiles(folder); !status.ok())
    return status;
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  fs::create_directory(folder, error);
  if (error)
    return Status::error("cannot create ", folder.string(), ": ", error.message());
  return Status::success();
}

Status synchronize(const fs::path &path) {
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  bool good = descriptor >= 0 && fsync(descriptor) == 0;
  Status status = good ? Status::success() : Status::error("cannot write ", path.string(), ": ", std::strerror(errno));
  if (descriptor >= 0)
    close(descriptor);
  return status;
}

Status writeTraining(const fs::path &folder, const TrainingState &training) {
  std::ofstream file(folder / kTraining);
  file << training.toText();
  file.close();
  if (!file)
    return Status::error("cannot write ", (folder / kTraining).string());
  return synchronize(folder / kTraining);
}

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

/// The new folder takes the old one's name; files that are not a checkpoint's move over.
Status replaceFolder(const fs::path &fresh, const fs::path &folder) {
  std::error_code error;
  if (!fs::exists(folder)) {
    fs::rename(fresh, folder, error);
    return error ? Status::error("cannot rename ", fresh.string(), " to ", folder.string(), ": ", error.message())
                 : synchronize(folder.parent_path());
  }
  if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0)
    return Status::error("cannot exchange ", fresh.string(), " and ", folder.string(), ": ", std::strerror(errno));
  for (const fs::directory_entry &old : fs::directory_iterator(fresh, error)) {
    fs::path name = old.path().filename();
    bool isOwn = std::find(std::begin(kOwnFiles), std::end(kOwnFiles), name) != std::end(kOwnFiles);
    if (!isOwn && !fs::exists(folder / name))
      fs::rename(old.path(), folder / name, error);
  }
  if (Status status = removeOwnFiles(fresh); !status.ok())
    return status;
  return synchronize(folder.parent_path());
}

} // namespace

/// A folder is replaced by a rename: a disk's root has no name to give away, and the shell should not lose its place.
static bool canBeReplaced(const fs::path &folder) {
  std::error_code error;
  fs::path working = normal(fs::current_path(error));
  struct stat own, above;
  if (error || stat(folder.c_str(), &own) != 0 || stat(folder.parent_path().c_str(), &above) != 0)
    return false;
  bool holdsWorking = std::mismatch(folder.begin(), folder.end(), working.begin(), working.end()).first == folder.end();
  return !holdsWorking && own.st_dev == above.st_dev;
}

Status checkSaveFolder(const std::string &name) {
  fs::path folder = normal(name);
  if (fs::exists(folder) && !fs::is_directory(folder))
    return Status::error("--save expects a folder, but ", name, " is a file");
  if (fs::exists(folder) && !canBeReplaced(folder))
    return Status::error("--save expects a folder that a new one can replace, but ", name,
                         " holds the working folder or is a disk of its own; name a folder in it");
  if (Status status = makeEmpty(partial(folder)); !status.ok())
    return status;
  return removeOwnFiles(partial(folder));
}

Status saveCheckpoint(const World &world, const Catalog &catalog, const ModelState &state, const Carried &carried,
                      const std::string &name, const TrainingState &training) {
  fs::path folder = normal(name), fresh = partial(folder);
  bool first = world.rank() == 0;
  Status status = world.agree(first ? makeEmpty(fresh) : Status::success());
  if (!status.ok())
    return status;
  std::vector<std::string> files = {kModel, kTraining};
  status = writeTensors(world, catalog, state, fresh / kModel, {kWeight}, &carried);
  if (status.ok() && training.optimizer == "adamw") {
    status = writeTensors(world, catalog, state, fresh / kOptimizer, {kFirstMoment, kSecondMoment});
    files.push_back(kOptimizer);
  }
  if (first && status.ok())
    status = writeTraining(fresh, training);
  status = world.agree(status);
  if (status.ok())
    status = writeChecksums(world, fresh, files);
  if (first && status.ok())
    status = replaceFolder(fresh, folder);
  if (first && !status.ok())
    (void)removeOwnFiles(fresh);
  return world.agree(status);
}

std::string weightsOfCheckpoint(const std::string &folder) { return normal(folder) / kModel; }

Status verifyCheckpoint(const World &world, const std::string &name, std::string &warning) {
  fs::path folder = normal(name);
  Status status;
  if (!fs::exists(folder / kTraining))
    status = Status::error(name, " is not a checkpoint: ", (folder / kTraining).string(), " is missing");
  status = world.agree(status);
  bool isThere = false;
  if (status.ok())
    status = verifyChecksums(world, folder, {kModel, kTraining}, isThere);
  if (status.ok() && !isThere)
    warning = name + " has no " + kChecksums + ", so whether its files are whole and of one save was not checked";
  return status;
}

Status loadCheckpoint(const ModelState &state, const std::string &name, const Options &options,
                      TrainingState &training) {
  fs::path folder = normal(name);
  Status status = readTraining(folder, name, training);
  if (!status.ok())
    return status;
  if (options.optimizer == "adamw" && training.optimizer != "adamw")
    return Status::error(name, " was written with --optimizer ", training.optimizer,
                         " and has no moments for adamw; pass the same optimizer");
  status = readTensors(state, folder / kModel, {kWeight});
  if (status.ok() && options.optimizer == "adamw")
    status = readTensors(state, folder / kOptimizer, {kFirstMoment, kSecondMoment});
  return status;
}

/// With what is decided elsewhere than by the options of the update.
static std::map<std::string, std::string> allSettings(const TrainingState &training) {
  std::map<std::string, std::string> settings = training.settings;
  settings["--global-batch"] = std::to_string(training.globalBatch);
  settings["--seed"] = std::to_string(training.seed);
  return settings;
}

std::string describeOtherSettings(const std::string &checkpoint, const TrainingState &saved, const TrainingState &now) {
  if (saved.settings.empty())
    return "";
  std::string text;
  std::map<std::string, std::string> current = allSettings(now);
  for (const auto &[flag, value] : allSettings(saved))
    if (auto found = current.find(flag); found != current.end() && found->second != value)
      text += (text.empty() ? "" : "; ") + flag + " " + value + ", not " + found->second;
  return text.empty() ? ""
                      : checkpoint + " was trained with " + text +
                            "; this run goes on with its own, so it is not what one run would have given";
}

Status dumpGradients(const World &world, const Catalog &catalog, const ModelState &state, const std::string &folder,
                     int64_t step) {
  char name[40];
  std::snprintf(name, sizeof name, "step_%06lld.safetensors", (long long)step);
  std::string path = fs::path(folder) / name, unfinished = path + ".partial";
  Status status = writeTensors(world, catalog, state, unfinished, {kGradient});
  if (status.ok() && world.rank() == 0 && std::rename(unfinished.c_str(), path.c_str()) != 0)
    status = Status::error("cannot rename ", unfinished, ": ", std::strerror(errno));
  return world.agree(status);
}

} // namespace galvatron
