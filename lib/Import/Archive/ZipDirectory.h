// The table of contents of an archive from anyone, read before LibTorch reads it.
#ifndef GALVATRON_IMPORT_ARCHIVE_ZIPDIRECTORY_H
#define GALVATRON_IMPORT_ARCHIVE_ZIPDIRECTORY_H

#include <cstdint>
#include <string>
#include <vector>

namespace galvatron::importer {

struct ZipEntry {
  std::string name;      // without the archive's own folder: "data.pkl"
  uint64_t size = 0;     // bytes once unpacked
  uint64_t stored = 0;   // bytes in the file
  uint64_t begin = 0;    // of its local header, bytes from the file's begin
  bool isPacked = false; // by deflate
};

/// Most bytes of an entry that is unpacked or parsed: of code, pickles and texts. Those of the largest models take
/// some MiB.
constexpr uint64_t kMostTextBytes = 64 << 20;

/// The entries of a zip file as torch.jit.save writes it, in the file's order. Throws ImportError naming the entry
/// where the file says anything else: several folders, names that are absolute, lead out or stand twice (LibTorch looks
/// them up without regard to case), bytes outside the file or in two entries, packed tensors, more than 100,000
/// entries.
std::vector<ZipEntry> readZipDirectory(const std::string &path);

/// Throws ImportError: the file is no archive, as `what` says.
[[noreturn]] void damaged(const std::string &what);

} // namespace galvatron::importer

#endif // GALVATRON_IMPORT_ARCHIVE_ZIPDIRECTORY_H
