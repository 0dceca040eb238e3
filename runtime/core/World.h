//===- World.h - the ranks that run together ------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_WORLD_H
#define GALVATRON_RUNTIME_CORE_WORLD_H

#include "runtime/core/Context.h"
#include "runtime/core/Manifest.h"
#include "runtime/data/HostTable.h"

namespace galvatron {

/// MPI from construction to destruction.
class World {
public:
  World(int *argc, char ***argv, Progress &progress);
  ~World();
  World(const World &) = delete;

  int rank() const { return ownRank; }
  int size() const { return ranks; }
  const Host &host() const { return *ownHost; }
  /// What this rank's watchdog looks at.
  Progress &watched() const { return progress; }

  /// Collective: success if `status` is one on every rank, else the error of the lowest rank that has one, everywhere.
  /// What may differ between ranks (files, memory) passes through here before it decides anything.
  Status agree(const Status &status) const;
  /// Collective: every rank's value, by rank.
  template <typename T> std::vector<T> gather(const T &value) const {
    Waiting waiting(progress, "a collective of all ranks");
    std::vector<T> all(ranks);
    MPI_Allgather(&value, sizeof(T), MPI_BYTE, all.data(), sizeof(T), MPI_BYTE, MPI_COMM_WORLD);
    return all;
  }
  /// Collective: every rank's text, by rank.
  std::vector<std::string> gatherText(const std::string &text) const;

private:
  Progress &progress;
  int ownRank, ranks;
  std::unique_ptr<Host> ownHost;
};

/// Collective: whether these ranks are this program's, each in its place, called with the same options. The message
/// says how to start it.
Status checkPlaces(const World &world, const Manifest &manifest, int argc, char **argv);

/// Fills the context's place, coordinates and groups.
void fillPlaces(const Manifest &manifest, int rank, gvrt_context &context);

} // namespace galvatron

#endif
