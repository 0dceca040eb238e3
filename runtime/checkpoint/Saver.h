//===- Saver.h - checkpoints, written beside the steps that follow or before them ----------------------===//
//
// A save goes through phases: the first rank makes the files; every rank writes its slices; every rank hashes some
// files; the first rank writes the checksums and gives the folder its name. A phase begins on a rank when every rank has
// told how the one before ended (LateGather). Beside the steps each phase's work is a thread's, which calls neither MPI
// nor the device, and what it writes is a copy in host memory; at once, both are this thread's and the device's. The
// files are the same.
//
//===--------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CHECKPOINT_SAVER_H
#define GALVATRON_RUNTIME_CHECKPOINT_SAVER_H

#include "runtime/checkpoint/Adapter.h"
#include "runtime/checkpoint/Carried.h"
#include "runtime/checkpoint/HostCopy.h"
#include "runtime/checkpoint/SaveFolder.h"
#include "runtime/checkpoint/TrainingState.h"
#include "runtime/core/LateGather.h"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>

namespace galvatron {

/// How a save ended, the same on every rank but for `warning`, which is the first rank's, and `seconds`.
struct Saved {
  int64_t step = 0;
  Status status;
  std::string warning;
  double seconds = 0;
};

class Saver {
public:
  /// On the first rank: what is `carried`, and the text of config.json, empty for none.
  Saver(const World &world, const Catalog &catalog, const ModelState &state, const Carried &carried,
        SaveFolder &folder)
      : world(world), catalog(catalog), state(state), carried(carried), folder(folder) {}
  ~Saver();
  Saver(const Saver &) = delete;

  /// Collective. `beside`: takes memory for a copy, if all hosts have it; else `warning` says why saving is at once.
  void open(const std::string &optimizer, int64_t shardBytes, const std::string &config,
            const std::optional<Adapter> &adapter, bool areFrozenKept, bool beside, std::string &warning);

  /// Of the tensors of a checkpoint, on disk.
  int64_t checkpointBytes(const std::string &optimizer) const;
  /// Of this rank's copy in host memory; 0 where it saves at once.
  int64_t hostBytes() const { return copy ? copy->numBytes() : 0; }
  bool isUnderWay() const { return phase != kIdle; }
  /// Collective, while none is under way: the state as it is now. `atOnce`: nothing else happens until `finish`.
  void begin(const TrainingState &training, bool atOnce);
  /// Goes on with what is under way without waiting; true where it ended, then `saved` tells how. Ranks may see that in
  /// different steps.
  bool poll(Saved &saved);
  /// Collective: waits for the end of what is under way.
  void finish(Saved &saved);

private:
  enum Phase { kIdle, kCreate, kWrite, kDerive, kHash, kPublish, kRemove };

  void start(Phase next);
  /// Of one whose end this rank has told: whether all have, and the copy is there.
  bool isPhaseOver();
  /// What a rank does in a phase; `told` is for all ranks.
  Status work(Phase phase, std::string &told);
  Status create();
  Status write();
  void conclude(Saved &saved);
  bool isFirst() const { return world.rank() == 0; }

  const World &world;
  const Catalog &catalog;
  ModelState state;
  const Carried &carried;
  SaveFolder &folder;
  std::string config;
  std::optional<Adapter> adapter;
  KeptWeights kept;
  bool hasConfig = false; // on every rank
  int64_t shardBytes = 0;
  std::unique_ptr<HostCopy> copy; // null: saves at once
  LateGather gather;

  // Of the one under way.
  Phase phase = kIdle;
  bool isAtOnce = true;
  TrainingState training;
  std::vector<std::pair<safetensors::ShardedWriter, std::vector<TensorKind>>> files;
  std::vector<std::string> names; // of all files but the checksums
  std::thread thread;
  std::atomic<bool> isWorking = false; // the thread
  bool isTold = false;                 // this rank's end of the phase
  Status ownStatus;
  std::string ownText;
  std::vector<std::string> hashes; // by rank
  Saved outcome;
  std::chrono::steady_clock::time_point began;
};

} // namespace galvatron

#endif
