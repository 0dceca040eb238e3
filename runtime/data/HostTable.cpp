//===- HostTable.cpp - a table that the ranks of a host have once ------------------------------===//
#include "runtime/data/HostTable.h"

#include <algorithm>
#include <fcntl.h>
#include <new>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace galvatron {
namespace {

/// Null where it cannot be mapped.
std::shared_ptr<const char> map(int64_t bytes, int protection, int flags, int file) {
  void *memory = mmap(nullptr, bytes, protection, flags, file, 0);
  if (memory == MAP_FAILED)
    return nullptr;
  return {static_cast<const char *>(memory), [bytes](const char *at) { munmap(const_cast<char *>(at), bytes); }};
}

/// Where the first rank of a host has the file; no process: nowhere.
struct Place {
  int64_t process, file;
};

std::shared_ptr<const char> reach(const Place &place, int64_t bytes) {
  std::string path = "/proc/" + std::to_string(place.process) + "/fd/" + std::to_string(place.file);
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0)
    return nullptr;
  // Where ranks have process numbers of their own, it could be another's.
  bool isIt = lseek(file, 0, SEEK_END) == bytes && fcntl(file, F_GET_SEALS) == F_SEAL_GROW;
  auto table = isIt ? map(bytes, PROT_READ, MAP_SHARED, file) : nullptr;
  close(file);
  return table;
}

/// A file of its size, which is the mark by which others know it, mapped; null where there can be none.
std::shared_ptr<const char> create(int64_t bytes, int &file) {
  file = memfd_create("galvatron-order", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  bool isMade = file >= 0 && ftruncate(file, bytes) == 0 && fcntl(file, F_ADD_SEALS, F_SEAL_GROW) == 0;
  return isMade ? map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file) : nullptr;
}

} // namespace

std::shared_ptr<const char> makeOwnTable(int64_t bytes, const Host::Fill &fill) {
  auto table = map(std::max<int64_t>(bytes, 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  if (!table)
    throw std::bad_alloc();
  fill(const_cast<char *>(table.get()));
  return table;
}

Host::Host(Progress &progress) : progress(progress) {
  Waiting waiting(progress, "a collective of all ranks");
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &ranks);
}

Host::~Host() { MPI_Comm_free(&ranks); }

std::shared_ptr<const char> Host::makeTable(int64_t bytes, const Fill &fill) const {
  int rank, file = -1;
  MPI_Comm_rank(ranks, &rank);
  bytes = std::max<int64_t>(bytes, 1);
  std::shared_ptr<const char> table;
  if (rank == 0) {
    table = create(bytes, file);
    if (table)
      fill(const_cast<char *>(table.get()));
  }
  Place place{getpid(), table ? file : -1};
  auto waiting = std::make_unique<Waiting>(progress, "a table that the first rank of the host makes");
  MPI_Bcast(&place, sizeof place, MPI_BYTE, 0, ranks);
  waiting.reset();
  if (rank != 0 && place.file >= 0)
    table = reach(place, bytes);
  if (!table)
    table = makeOwnTable(bytes, fill);
  // Until all have mapped it.
  waiting = std::make_unique<Waiting>(progress, "a table of the host");
  MPI_Barrier(ranks);
  if (file >= 0)
    close(file);
  return table;
}

} // namespace galvatron
