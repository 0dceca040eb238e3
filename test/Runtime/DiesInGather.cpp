// Preloaded into the ranks of a run: rank $DIES_RANK raises the signal $DIES_SIGNAL in its $DIES_CALL-th MPI_Allgather,
// for which the other ranks of its group then wait.
#include <csignal>
#include <cstdlib>
#include <mpi.h>

static int numberOf(const char *name) {
  const char *text = std::getenv(name);
  return text ? std::atoi(text) : -1;
}

extern "C" int MPI_Allgather(const void *x, int count, MPI_Datatype type, void *all, int countOfEach,
                             MPI_Datatype typeOfEach, MPI_Comm communicator) {
  static int call = 0, rank = -1;
  if (rank < 0)
    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == numberOf("DIES_RANK") && ++call == numberOf("DIES_CALL"))
    std::raise(numberOf("DIES_SIGNAL"));
  return PMPI_Allgather(x, count, type, all, countOfEach, typeOfEach, communicator);
}
