//===- SaveFolder.h - folders of checkpoints: names, replacing, locking, keeping ----------------===//
//
// Without --save-every DIR itself is the checkpoint, else it holds several:
//
//   DIR/step_000200/   one of them
//   DIR/latest         a relative link to the newest, replaced by a rename once that is whole
//   DIR/.lock          held by the run that saves there; of a DIR that is a checkpoint it lies beside, as DIR.lock
//
// What is being written or removed is called NAME.partial, and NAME.unpublished what is whole but could not take its
// place. A lock is the system's (flock), so it ends with its holder.
//
//===---------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_SAVEFOLDER_H
#define GALVATRON_RUNTIME_CHECKPOINT_SAVEFOLDER_H

#include "runtime/core/Files.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace galvatron {

/// Files of tensors are called by these, as in galvatron/Support/Shards.h.
inline constexpr const char *kModelStem = "model", *kOptimizerStem = "optimizer", *kTraining = "training.json",
                            *kConfig = "config.json";

/// An absolute path without links and trailing slash, so that a name beside it, on the same disk, can be formed.
std::filesystem::path absoluteFolder(const std::string &folder);

/// Whether a folder has any file of a checkpoint.
bool hasOwnFiles(const std::filesystem::path &folder);

/// Removes a folder that holds at most a checkpoint's files.
Status removeOwnFiles(const std::filesystem::path &folder);
/// A folder of this name without a checkpoint's files. What else is in it stays: a disk of the network keeps a file
/// that is open somewhere under another name until it is closed.
Status makeEmpty(const std::filesystem::path &folder);

struct StepFolder {
  std::filesystem::path path;
  int64_t step;

  /// Whether it was finished: its checksums, which are written last, are there.
  bool isFinished() const;
};
/// The checkpoints that a folder holds, newest first: folders step_N with files of one, and itself, which comes first
/// where its step cannot be read.
Status listCheckpoints(const std::filesystem::path &folder, std::vector<StepFolder> &list);

/// "step_000200"
std::string stepName(int64_t step);

/// Where a killed save put the old checkpoint aside, on a disk that cannot exchange two folders.
std::filesystem::path previousOf(const std::filesystem::path &folder);

/// Held until the object ends.
class FileLock {
public:
  FileLock() = default;
  FileLock(const FileLock &) = delete;
  ~FileLock() { release(); }

  /// An error if another process has it; a warning where the disk has no locks.
  Status take(const std::filesystem::path &path, const std::string &folder, std::string &warning);
  void release();
  static bool isHeld(const std::filesystem::path &path);

private:
  std::filesystem::path path;
  int file = -1;
};

/// What a run goes on from: a checkpoint's folder, "" for none; and folders beside it that are damaged.
struct LoadedFrom {
  std::string folder;
  int64_t step = 0;
  std::vector<std::filesystem::path> passedOver;
};

/// What --save names. Every rank has one, but only the first one opens it.
class SaveFolder {
public:
  SaveFolder() = default;
  SaveFolder(const SaveFolder &) = delete;
  ~SaveFolder();

  /// `several`: --save-every; `keep`: how many of them stay, 0: all.
  void name(const std::string &folder, bool several, int64_t keep);
  /// Whether checkpoints can be written there, by this run alone, tried with an empty one.
  Status open(const LoadedFrom &loaded, std::vector<std::string> &warnings);
  /// A warning where the disk has no room for so many bytes, once it is open: the end of a save is no end of a run.
  void checkRoom(int64_t bytes, std::vector<std::string> &warnings) const;

  std::filesystem::path target(int64_t step) const;
  std::filesystem::path unfinished(int64_t step) const { return target(step).string() + ".partial"; }
  /// The unfinished folder, now whole, takes its place; then what is beyond `keep` goes. What cannot be done but loses
  /// nothing is a warning. Where it cannot take its place, it stays beside it as NAME.unpublished.
  Status publish(int64_t step, std::string &warning);

  /// One of several, which is of no use, gets a name that nobody takes, and `latest` the one before.
  Status setAside(int64_t step);

private:
  Status openOne(std::vector<std::string> &warnings);
  Status openSeveral(std::vector<std::string> &warnings);
  /// `other`: where a run holds a lock that saves there in the other way, with or without --save-every.
  Status takeLock(const std::filesystem::path &path, const std::filesystem::path &other,
                  std::vector<std::string> &warnings);
  Status checkOthers(const LoadedFrom &loaded);
  void pointLatest(int64_t step, std::string &warning);
  void removeOld(std::string &warning);

  std::string given;
  std::filesystem::path folder;
  bool several = false, hasLinks = true, isMade = false;
  int64_t keep = 0;
  FileLock lock;
  std::vector<StepFolder> own; // oldest first
};

} // namespace galvatron

#endif
