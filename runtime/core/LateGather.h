//===- LateGather.h - every rank's text, without waiting for the slowest ---------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_LATEGATHER_H
#define GALVATRON_RUNTIME_CORE_LATEGATHER_H

#include <mpi.h>
#include <string>
#include <vector>

namespace galvatron {

/// Ranks begin it when they are ready and look for its end now and then, each in steps of its own: nobody waits for
/// another one in the middle of a pipeline. On a communicator of its own, so that its order is that of these gathers
/// alone. All of it is called by the thread that calls MPI.
class LateGather {
public:
  LateGather() = default;
  LateGather(const LateGather &) = delete;
  /// Collective. The communicator stays until MPI ends: a rank that ends the world waits for nobody.
  void open();

  void begin(std::string own);
  /// Whether every rank's text is there; then `texts` has them, by rank.
  bool isDone();
  const std::vector<std::string> &texts() const { return result; }

private:
  MPI_Comm communicator = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  bool hasSizes = false;
  int size = 0; // of `own`
  std::string own, all;
  std::vector<int> sizes, starts;
  std::vector<std::string> result;
};

} // namespace galvatron

#endif
