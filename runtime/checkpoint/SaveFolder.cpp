//===- SaveFolder.cpp - folders of checkpoints: names, replacing, locking, keeping --------------===//
#include "runtime/checkpoint/SaveFolder.h"
#include "galvatron/Support/Shards.h"
#include "runtime/checkpoint/Adapter.h"
#include "runtime/checkpoint/Checksums.h"
#include "runtime/checkpoint/TrainingState.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <limits>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <tuple>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

constexpr const char *kLatest = "latest", *kLock = ".lock", *kStep = "step_", *kPartial = ".partial";

fs::path with(const fs::path &folder, const char *ending) { return folder.string() + ending; }

/// The number of "step_000200", with `ending` behind; -1 of any other name.
int64_t stepOf(const std::string &name, const std::string &ending = "") {
  int64_t step = -1;
  if (!name.starts_with(kStep) || !name.ends_with(ending))
    return -1;
  const char *first = name.data() + std::strlen(kStep), *last = name.data() + name.size() - ending.size();
  auto [end, error] = std::from_chars(first, std::max(first, last), step);
  return error == std::errc() && end == last ? step : -1;
}

bool isOwnFile(const std::string &name) {
  for (const std::string stem : {kModelStem, kOptimizerStem})
    if (name == stem + safetensors::kFileEnding || safetensors::isShardOf(stem, name))
      return true;
  return name == kTraining || name == kTensors || name == kChecksums;
}

/// What a save has begun, and all in it is its own.
bool isUnfinished(const fs::path &folder) {
  std::error_code error;
  return folder.string().ends_with(kPartial) && !fs::exists(folder / kChecksums, error);
}

std::vector<fs::path> listOwnFiles(const fs::path &folder) {
  std::vector<fs::path> paths;
  if (!listFolder(folder, paths).ok())
    return {};
  // A config.json and a folder of that name may be its user's.
  bool hasConfig = isUnfinished(folder) || isInChecksums(folder, kConfig);
  bool hasAdapter = isUnfinished(folder) || isInChecksums(folder, adapterFiles()[0]);
  std::erase_if(paths, [&](const fs::path &path) {
    fs::path name = path.filename();
    return !isOwnFile(name) && !(hasConfig && name == kConfig) && !(hasAdapter && name == kAdapterFolder);
  });
  return paths;
}

void add(std::string &warning, const std::string &text) { warning += (warning.empty() ? "" : "; ") + text; }

/// Files that are not a checkpoint's move on to the folder that took the old one's place.
Status moveOthers(const fs::path &old, const fs::path &folder) {
  std::vector<fs::path> paths, own = listOwnFiles(old);
  Status status = listFolder(old, paths);
  for (const fs::path &path : paths) {
    std::error_code error;
    bool isOwn = std::find(own.begin(), own.end(), path) != own.end();
    if (fs::path to = folder / path.filename(); !isOwn && !fs::exists(to, error) && !error)
      fs::rename(path, to, error);
  }
  return status;
}

Status renameFolder(const fs::path &from, const fs::path &to) {
  std::error_code error;
  fs::rename(from, to, error);
  return error ? Status::error("cannot rename ", from.string(), " to ", to.string(), ": ", error.message())
               : Status::success();
}

/// The new folder takes the old one's name, which then is `old`, "" where there was none. Where the disk cannot
/// exchange both, the old one has another name for a moment: killed then, the next run finds it there.
Status takePlace(const fs::path &fresh, const fs::path &folder, fs::path &old) {
  bool isThere = false;
  if (Status status = lookFor(folder, isThere); !status.ok())
    return status;
  if (!isThere)
    return renameFolder(fresh, folder);
  old = fresh;
  if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0) {
    old = previousOf(folder);
    Status status = removeOwnFiles(old);
    if (status.ok())
      status = renameFolder(folder, old);
    if (!status.ok())
      return status;
    if (status = renameFolder(fresh, folder); !status.ok()) {
      (void)renameFolder(old, folder);
      return status;
    }
  }
  return Status::success();
}

/// Once the new folder has the name, it is the checkpoint: what fails then is a warning.
Status replaceFolder(const fs::path &fresh, const fs::path &folder, std::string &warning) {
  fs::path old;
  if (Status status = takePlace(fresh, folder, old); !status.ok())
    return status;
  if (Status status = synchronize(folder.parent_path()); !status.ok())
    add(warning, status.message);
  if (old.empty())
    return Status::success();
  if (Status status = moveOthers(old, folder); !status.ok())
    add(warning, status.message);
  Status removed = removeOwnFiles(old);
  if (!removed.ok() && hasOwnFiles(old))
    add(warning, removed.message);
  else if (!removed.ok() && old != fresh) // what is still open there; the next save takes the folder
    (void)renameFolder(old, fresh);
  return Status::success();
}

/// A folder is replaced by a rename: a disk's root has no name to give away, and the shell should not lose its place.
bool canBeReplaced(const fs::path &folder) {
  std::error_code error;
  fs::path working = absoluteFolder(fs::current_path(error));
  struct stat own, above;
  if (error || stat(folder.c_str(), &own) != 0 || stat(folder.parent_path().c_str(), &above) != 0)
    return false;
  bool holdsWorking = std::mismatch(folder.begin(), folder.end(), working.begin(), working.end()).first == folder.end();
  return !holdsWorking && own.st_dev == above.st_dev;
}

} // namespace

fs::path absoluteFolder(const std::string &folder) {
  std::error_code error;
  fs::path absolute = fs::absolute(folder, error);
  if (error) // the working folder was removed
    absolute = folder;
  fs::path path = fs::weakly_canonical(absolute, error);
  if (error)
    path = absolute.lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

bool hasOwnFiles(const fs::path &folder) { return !listOwnFiles(folder).empty(); }

Status removeOwnFiles(const fs::path &folder) {
  std::error_code error;
  for (const fs::path &path : listOwnFiles(folder)) {
    if (path.filename() == kAdapterFolder)
      for (const char *name : kAdapterFiles)
        fs::remove(path / name, error);
    fs::remove(path, error);
  }
  fs::remove(folder, error);
  if (fs::exists(folder, error))
    return Status::error(folder.string(), " is in the way of saving; move it elsewhere");
  return Status::success();
}

Status makeEmpty(const fs::path &folder) {
  Status removed = removeOwnFiles(folder);
  std::error_code error;
  if (!removed.ok() && (hasOwnFiles(folder) || !fs::is_directory(folder, error)))
    return removed;
  fs::create_directories(folder.parent_path(), error);
  fs::create_directory(folder, error);
  if (error)
    return Status::error("cannot create ", folder.string(), ": ", error.message());
  return Status::success();
}

bool StepFolder::isFinished() const {
  std::error_code error;
  return fs::exists(path / kChecksums, error);
}

/// By training.json; beyond all where that cannot be read.
static int64_t savedStep(const fs::path &folder) {
  std::ifstream file(folder / kTraining);
  std::ostringstream text;
  text << file.rdbuf();
  TrainingState training;
  return TrainingState::parse(text.str(), training).ok() ? training.step : std::numeric_limits<int64_t>::max();
}

Status listCheckpoints(const fs::path &folder, std::vector<StepFolder> &list) {
  std::vector<fs::path> paths;
  if (Status status = listFolder(folder, paths); !status.ok())
    return status;
  for (const fs::path &path : paths)
    if (int64_t step = stepOf(path.filename()); step >= 0 && hasOwnFiles(path))
      list.push_back({path, step});
  // Weights alone are none.
  bool hasTraining = false, hasChecksums = false;
  Status status = lookFor(folder / kTraining, hasTraining);
  if (status.ok())
    status = lookFor(folder / kChecksums, hasChecksums);
  if (hasTraining || hasChecksums)
    list.push_back({folder, savedStep(folder)});
  std::sort(list.begin(), list.end(), [](const StepFolder &a, const StepFolder &b) {
    return std::tie(a.step, a.path) > std::tie(b.step, b.path);
  });
  return status;
}

std::string stepName(int64_t step) {
  char name[40];
  std::snprintf(name, sizeof name, "%s%06lld", kStep, (long long)step);
  return name;
}

fs::path previousOf(const fs::path &folder) { return with(folder, ".previous"); }

//===----------------------------------------------------------------------===//
// FileLock
//===----------------------------------------------------------------------===//

/// Whether the file that was opened still has this name.
static bool isNamed(int file, const fs::path &path) {
  struct stat opened, named;
  return fstat(file, &opened) == 0 && stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
         opened.st_dev == named.st_dev;
}

Status FileLock::take(const fs::path &newPath, const std::string &folder, std::string &warning) {
  release();
  for (;;) {
    int opened = open(newPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (opened < 0)
      return Status::error("cannot create ", newPath.string(), ": ", std::strerror(errno), "; name another folder");
    bool isTaken = flock(opened, LOCK_EX | LOCK_NB) == 0;
    int reason = isTaken ? 0 : errno;
    // Its last holder may have removed it meanwhile.
    if (isTaken && !isNamed(opened, newPath)) {
      close(opened);
      continue;
    }
    path = newPath;
    file = opened;
    if (isTaken)
      return Status::success();
    if (reason == EWOULDBLOCK) {
      close(file);
      file = -1;
      return Status::error("another run saves into ", folder, " now; let it end, or name another folder");
    }
    warning = "no lock can be had on " + newPath.string() + " (" + std::strerror(reason) +
              "), so nothing keeps another run from saving there too";
    return Status::success();
  }
}

void FileLock::release() {
  if (file < 0)
    return;
  if (isNamed(file, path))
    unlink(path.c_str());
  close(file);
  file = -1;
}

bool FileLock::isHeld(const fs::path &path) {
  int opened = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (opened < 0)
    return false;
  bool held = flock(opened, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(opened);
  return held;
}

//===----------------------------------------------------------------------===//
// SaveFolder
//===----------------------------------------------------------------------===//

SaveFolder::~SaveFolder() {
  lock.release();
  std::error_code ignored;
  if (isMade) // and nothing was written to it
    fs::remove(folder, ignored);
}

void SaveFolder::name(const std::string &newName, bool newSeveral, int64_t newKeep) {
  given = newName;
  folder = absoluteFolder(newName);
  several = newSeveral;
  keep = newKeep;
}

fs::path SaveFolder::target(int64_t step) const { return several ? folder / stepName(step) : folder; }

Status SaveFolder::open(const LoadedFrom &loaded, std::vector<std::string> &warnings) {
  bool isThere = false;
  if (Status status = lookFor(folder, isThere); !status.ok())
    return status;
  std::error_code error;
  if (isThere && !fs::is_directory(folder, error))
    return Status::error("--save expects a folder, but ", given, " is a file");
  Status status = several ? openSeveral(warnings) : openOne(warnings);
  if (status.ok())
    status = checkOthers(loaded);
  // A run that was killed may not have come to it.
  std::string warning;
  if (status.ok() && several && !own.empty() && fs::read_symlink(folder / kLatest, error) != own.back().path.filename())
    pointLatest(own.back().step, warning);
  if (!warning.empty())
    warnings.push_back(warning);
  return status;
}

void SaveFolder::checkRoom(int64_t bytes, std::vector<std::string> &warnings) const {
  struct statvfs disk;
  if (statvfs((several ? folder : folder.parent_path()).c_str(), &disk) != 0)
    return;
  int64_t free = int64_t(disk.f_bavail) * int64_t(disk.f_frsize);
  if (free < bytes)
    warnings.push_back("the disk of --save " + given + " has room for " + std::to_string(free) +
                       " bytes, but a checkpoint takes " + std::to_string(bytes) +
                       "; make room, or no checkpoint will be written");
}

Status SaveFolder::takeLock(const fs::path &path, const fs::path &other, std::vector<std::string> &warnings) {
  std::string warning;
  Status status = lock.take(path, given, warning);
  if (!warning.empty())
    warnings.push_back(warning);
  if (status.ok() && FileLock::isHeld(other))
    status = Status::error("another run saves into ", given, " now; let it end, or name another folder");
  return status;
}

Status SaveFolder::openOne(std::vector<std::string> &warnings) {
  std::error_code error;
  if (fs::exists(folder, error) && !canBeReplaced(folder))
    return Status::error("--save expects a folder that a new one can replace, but ", given,
                         " holds the working folder or is a disk of its own; name a folder in it");
  fs::create_directories(folder.parent_path(), error);
  Status status = takeLock(with(folder, kLock), folder / kLock, warnings);
  if (status.ok() && !fs::exists(folder, error) && !error && fs::exists(previousOf(folder), error))
    status = renameFolder(previousOf(folder), folder);
  if (status.ok())
    status = makeEmpty(with(folder, kPartial));
  if (status.ok())
    (void)removeOwnFiles(with(folder, kPartial)); // but for files of others
  return status;
}

Status SaveFolder::openSeveral(std::vector<std::string> &warnings) {
  std::error_code error;
  isMade = fs::create_directories(folder, error);
  if (error)
    return Status::error("cannot create ", folder.string(), ": ", error.message(), "; name another folder");
  if (Status status = takeLock(folder / kLock, with(folder, kLock), warnings); !status.ok())
    return status;
  fs::file_type latest = fs::symlink_status(folder / kLatest, error).type();
  if (latest != fs::file_type::not_found && latest != fs::file_type::symlink)
    return Status::error((folder / kLatest).string(), " is no link, but saving makes one; move it elsewhere");
  fs::path trial = with(folder / kLatest, kPartial);
  fs::remove(trial, error);
  fs::create_symlink(kLatest, trial, error);
  hasLinks = !error;
  if (!hasLinks)
    warnings.push_back("no link can be made in " + given + " (" + error.message() + "), so there will be no " +
                       kLatest);
  fs::remove(trial, error);
  std::vector<fs::path> paths;
  Status status = listFolder(folder, paths);
  for (const fs::path &path : paths)
    if (stepOf(path.filename(), kPartial) >= 0)
      (void)removeOwnFiles(path); // but for files of others
  return status;
}

Status SaveFolder::checkOthers(const LoadedFrom &loaded) {
  fs::path from = loaded.folder.empty() ? fs::path() : absoluteFolder(loaded.folder);
  bool goesOn = false;
  for (const fs::path &whole : {folder, previousOf(folder)})
    goesOn = goesOn || from == whole || from.parent_path() == whole;
  std::vector<StepFolder> all;
  if (Status status = listCheckpoints(folder, all); !status.ok())
    return status;
  std::string other;
  for (const StepFolder &step : all) {
    bool isItself = step.path == folder;
    std::string name = isItself ? given : step.path.filename().string();
    bool isDamaged =
        std::find(loaded.passedOver.begin(), loaded.passedOver.end(), step.path) != loaded.passedOver.end();
    if (isDamaged || !step.isFinished() || (isItself && (!several || from == folder)))
      continue;
    if (!isItself)
      own.insert(own.begin(), step);
    if (goesOn && step.step > loaded.step)
      return Status::error("--save ", given, " holds later checkpoints than step ", loaded.step,
                           ", which this run goes on from, as ", name, "; pass --load ", given,
                           " to take the newest, or move them elsewhere");
    if (!goesOn && other.empty())
      other = name;
  }
  if (!other.empty())
    return Status::error("--save ", given, " holds checkpoints that this run does not go on from, as ", other,
                         "; pass --load ", given, " to go on, or name another folder");
  return Status::success();
}

Status SaveFolder::publish(int64_t step, std::string &warning) {
  if (Status status = replaceFolder(unfinished(step), target(step), warning); !status.ok()) {
    // The next save begins with what is called unfinished.
    fs::path kept = with(target(step), ".unpublished");
    bool isKept = removeOwnFiles(kept).ok() && renameFolder(unfinished(step), kept).ok();
    return Status::error(status.message, "; what was saved is in ", (isKept ? kept : unfinished(step)).string());
  }
  if (!several)
    return Status::success();
  std::erase_if(own, [&](const StepFolder &other) { return other.step == step; });
  own.push_back({target(step), step});
  pointLatest(step, warning);
  removeOld(warning);
  return Status::success();
}

void SaveFolder::pointLatest(int64_t step, std::string &warning) {
  if (!hasLinks)
    return;
  fs::path link = folder / kLatest, fresh = with(link, kPartial);
  std::error_code error;
  fs::remove(fresh, error);
  fs::create_directory_symlink(stepName(step), fresh, error);
  if (!error)
    fs::rename(fresh, link, error);
  if (error)
    add(warning, "cannot point " + link.string() + " to " + stepName(step) + ": " + error.message());
  else if (Status status = synchronize(folder); !status.ok())
    add(warning, status.message);
}

Status SaveFolder::setAside(int64_t step) {
  fs::path aside = with(target(step), ".not_finite");
  (void)removeOwnFiles(aside);
  if (Status status = renameFolder(target(step), aside); !status.ok())
    return status;
  std::erase_if(own, [&](const StepFolder &other) { return other.step == step; });
  std::string ignored;
  if (!own.empty())
    pointLatest(own.back().step, ignored);
  return Status::success();
}

void SaveFolder::removeOld(std::string &warning) {
  while (keep > 0 && (int64_t)own.size() > keep) {
    fs::path old = own.front().path, going = with(old, kPartial);
    own.erase(own.begin());
    std::error_code error;
    fs::rename(old, going, error); // from here on it is none
    if (!error && !removeOwnFiles(going).ok())
      fs::rename(going, old, error); // files of others stay where they were
    if (error)
      add(warning, "cannot remove " + old.string() + ": " + error.message());
  }
}

} // namespace galvatron
