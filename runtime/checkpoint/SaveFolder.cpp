//===- SaveFolder.cpp - folders of checkpoints: names, replacing, locking, keeping --------------===//
#include "runtime/checkpoint/SaveFolder.h"
#include "runtime/checkpoint/Checksums.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;

namespace galvatron {
namespace {

constexpr const char *kOwnFiles[] = {kModel, kOptimizer, kTraining, kTensors, kChecksums};
constexpr const char *kLatest = "latest", *kLock = ".lock", *kStep = "step_";

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

bool isOwnFile(const fs::path &name) {
  return std::find(std::begin(kOwnFiles), std::end(kOwnFiles), name) != std::end(kOwnFiles);
}

/// Files that are not a checkpoint's move on to the folder that took the old one's place.
void moveOthers(const fs::path &old, const fs::path &folder) {
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(old, error))
    if (fs::path name = entry.path().filename(); !isOwnFile(name) && !fs::exists(folder / name))
      fs::rename(entry.path(), folder / name, error);
}

Status renameFolder(const fs::path &from, const fs::path &to) {
  std::error_code error;
  fs::rename(from, to, error);
  return error ? Status::error("cannot rename ", from.string(), " to ", to.string(), ": ", error.message())
               : Status::success();
}

/// The new folder takes the old one's name. Where the disk cannot exchange both, the old one has another name for a
/// moment: killed then, the next run finds it there.
Status replaceFolder(const fs::path &fresh, const fs::path &folder) {
  if (!fs::exists(folder)) {
    Status status = renameFolder(fresh, folder);
    return status.ok() ? synchronize(folder.parent_path()) : status;
  }
  fs::path old = fresh;
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
  Status status = synchronize(folder.parent_path());
  moveOthers(old, folder);
  Status removed = removeOwnFiles(old);
  return status.ok() ? removed : status;
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
  fs::path path = fs::weakly_canonical(fs::absolute(folder), error);
  if (error)
    path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

bool hasOwnFiles(const fs::path &folder) {
  std::error_code error;
  return std::any_of(std::begin(kOwnFiles), std::end(kOwnFiles),
                     [&](const char *name) { return fs::exists(folder / name, error); });
}

Status removeOwnFiles(const fs::path &folder) {
  std::error_code error;
  for (const char *name : kOwnFiles)
    fs::remove(folder / name, error);
  fs::remove(folder, error);
  if (fs::exists(folder, error))
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
  // There are disks that cannot do this for folders, and then need not.
  bool good = descriptor >= 0 && (fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP);
  Status status = good ? Status::success() : Status::error("cannot write ", path.string(), ": ", std::strerror(errno));
  if (descriptor >= 0)
    close(descriptor);
  return status;
}

bool StepFolder::isFinished() const {
  std::error_code error;
  return fs::exists(path / kChecksums, error);
}

std::vector<StepFolder> listStepFolders(const fs::path &folder) {
  std::vector<StepFolder> list;
  std::error_code error;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, error))
    if (int64_t step = stepOf(entry.path().filename()); step >= 0 && hasOwnFiles(entry.path()))
      list.push_back({entry.path(), step});
  std::sort(list.begin(), list.end(), [](const StepFolder &a, const StepFolder &b) { return a.step > b.step; });
  return list;
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
      return Status::error("cannot create ", newPath.string(), ": ", std::strerror(errno));
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
  if (fs::exists(folder) && !fs::is_directory(folder))
    return Status::error("--save expects a folder, but ", given, " is a file");
  Status status = several ? openSeveral(warnings) : openOne(warnings);
  return status.ok() ? checkOthers(loaded) : status;
}

Status SaveFolder::openOne(std::vector<std::string> &warnings) {
  if (fs::exists(folder) && !canBeReplaced(folder))
    return Status::error("--save expects a folder that a new one can replace, but ", given,
                         " holds the working folder or is a disk of its own; name a folder in it");
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  std::string warning;
  Status status = lock.take(with(folder, kLock), given, warning);
  if (!warning.empty())
    warnings.push_back(warning);
  if (status.ok() && FileLock::isHeld(folder / kLock))
    status = Status::error("another run saves into ", given, " now; let it end, or name another folder");
  if (status.ok() && !fs::exists(folder) && fs::exists(previousOf(folder)))
    status = renameFolder(previousOf(folder), folder);
  if (status.ok())
    status = makeEmpty(with(folder, ".partial"));
  return status.ok() ? removeOwnFiles(with(folder, ".partial")) : status;
}

Status SaveFolder::openSeveral(std::vector<std::string> &warnings) {
  std::error_code error;
  isMade = fs::create_directories(folder, error);
  if (error)
    return Status::error("cannot create ", folder.string(), ": ", error.message());
  std::string warning;
  Status status = lock.take(folder / kLock, given, warning);
  if (!warning.empty())
    warnings.push_back(warning);
  if (status.ok() && FileLock::isHeld(with(folder, kLock)))
    status = Status::error("another run saves into ", given, " now; let it end, or name another folder");
  if (!status.ok())
    return status;
  if (fs::exists(folder / kLatest) && !fs::is_symlink(folder / kLatest))
    return Status::error((folder / kLatest).string(), " is no link, but saving makes one; move it elsewhere");
  fs::path trial = with(folder / kLatest, ".partial");
  fs::remove(trial, error);
  fs::create_symlink(kLatest, trial, error);
  hasLinks = !error;
  if (!hasLinks)
    warnings.push_back("no link can be made in " + given + " (" + error.message() + "), so there will be no " +
                       kLatest);
  fs::remove(trial, error);
  std::vector<fs::path> unfinished;
  for (const fs::directory_entry &entry : fs::directory_iterator(folder, error))
    if (stepOf(entry.path().filename(), ".partial") >= 0)
      unfinished.push_back(entry.path());
  for (const fs::path &path : unfinished)
    if (status.ok())
      status = removeOwnFiles(path);
  return status;
}

Status SaveFolder::checkOthers(const LoadedFrom &loaded) {
  fs::path from = loaded.folder.empty() ? fs::path() : absoluteFolder(loaded.folder);
  bool goesOn = from == folder || from.parent_path() == folder;
  bool isOne = several && from != folder && fs::exists(folder / kChecksums);
  std::string other = isOne ? given : "";
  for (const StepFolder &step : listStepFolders(folder)) {
    bool isDamaged =
        std::find(loaded.passedOver.begin(), loaded.passedOver.end(), step.path) != loaded.passedOver.end();
    if (isDamaged || !step.isFinished())
      continue;
    own.insert(own.begin(), step);
    if (goesOn && step.step > loaded.step)
      return Status::error("--save ", given, " holds later checkpoints than step ", loaded.step,
                           ", which this run goes on from, as ", step.path.filename().string(), "; pass --load ", given,
                           " to take the newest, or move them elsewhere");
    if (!goesOn && other.empty())
      other = step.path.filename();
  }
  if (!other.empty())
    return Status::error("--save ", given, " holds checkpoints that this run does not go on from, as ", other,
                         "; pass --load ", given, " to go on, or name another folder");
  return Status::success();
}

Status SaveFolder::publish(int64_t step, std::string &warning) {
  if (Status status = replaceFolder(unfinished(step), target(step)); !status.ok())
    return Status::error(status.message, "; what was saved is in ", unfinished(step).string());
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
  fs::path link = folder / kLatest, fresh = with(link, ".partial");
  std::error_code error;
  fs::remove(fresh, error);
  fs::create_directory_symlink(stepName(step), fresh, error);
  if (!error)
    fs::rename(fresh, link, error);
  if (error)
    warning = "cannot point " + link.string() + " to " + stepName(step) + ": " + error.message();
  else if (Status status = synchronize(folder); !status.ok())
    warning = status.message;
}

void SaveFolder::removeOld(std::string &warning) {
  while (keep > 0 && (int64_t)own.size() > keep) {
    fs::path old = own.front().path, going = with(old, ".partial");
    own.erase(own.begin());
    std::error_code error;
    fs::rename(old, going, error); // from here on it is none
    if (!error && !removeOwnFiles(going).ok())
      fs::rename(going, old, error); // files of others stay where they were
    if (error)
      warning = "cannot remove " + old.string() + ": " + error.message();
  }
}

} // namespace galvatron
