// Holds the place of the MPI collectives.
#include <mpi.h>

extern "C" int gvrt_cpu_mpi_version() {
  int version = 0, subversion = 0;
  MPI_Get_version(&version, &subversion);
  return version * 10 + subversion;
}
