// Two readers of one zip file may see two archives: a directory given twice, a name or a size that the local header
// tells otherwise. So whatever is not as torch.jit.save writes it is refused, and LibTorch's reader, which comes after,
// has one way to read what is left.
#include "ZipDirectory.h"

#include "CodeCheck.h"

#include "lib/Import/Expression/Value.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringRef.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Endian.h"

#include <fstream>

using namespace galvatron::importer;
using llvm::StringRef;

void galvatron::importer::damaged(const std::string &what) {
  throw ImportError("cannot be read as TorchScript (" + what +
                    "): it is truncated or of another format; write it with `python -m galvatron.export`");
}

namespace {

constexpr uint64_t kMostEntries = 100000, kMostNameBytes = 1024;
/// Sizes in bytes of the records, and their signatures; see .ZIP File Format Specification, 4.3.
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kLocatorBytes = 20, kEnd64Bytes = 56;
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kLocator = 0x07064b50,
                   kEnd64 = 0x06064b50;
constexpr uint16_t kDeflate = 8, kIsEncrypted = 1;

class Reader {
public:
  explicit Reader(const std::string &path) : file(path, std::ios::binary) {
    file.seekg(0, std::ios::end);
    if (!file)
      throw ImportError("cannot be read as an archive");
    fileBytes = uint64_t(file.tellg());
  }
  std::vector<ZipEntry> read();

private:
  struct Directory {
    uint64_t count, bytes, begin;
  };

  /// Bytes [begin, begin + count) of the file.
  std::string bytes(uint64_t begin, uint64_t count) {
    if (begin > fileBytes || count > fileBytes - begin)
      damaged("its directory lies outside the file of " + std::to_string(fileBytes) + " bytes");
    std::string result(count, 0);
    file.seekg(std::streamoff(begin));
    if (!file.read(result.data(), std::streamsize(count)))
      damaged("it cannot be read to its end");
    return result;
  }
  template <typename T> static T number(StringRef text, size_t at) {
    return llvm::support::endian::read<T, llvm::endianness::little>(text.data() + at);
  }
  Directory findDirectory();
  ZipEntry readEntry(StringRef directory, size_t &at);
  void checkLocalHeader(const ZipEntry &entry, StringRef fullName, uint16_t method);

  std::ifstream file;
  uint64_t fileBytes = 0;
  std::string folder; // with its '/'
};

Reader::Directory Reader::findDirectory() {
  if (fileBytes < kEndBytes)
    damaged("it has " + std::to_string(fileBytes) + " bytes");
  std::string end = bytes(fileBytes - kEndBytes, kEndBytes);
  if (number<uint32_t>(end, 0) != kEnd || number<uint16_t>(end, 20) != 0)
    damaged("it does not end with a zip directory");
  Directory result{number<uint16_t>(end, 10), number<uint32_t>(end, 12), number<uint32_t>(end, 16)};
  uint64_t after = fileBytes - kEndBytes;
  std::string locator = after < kLocatorBytes ? "" : bytes(after - kLocatorBytes, kLocatorBytes);
  if (!locator.empty() && number<uint32_t>(locator, 0) == kLocator) {
    uint64_t begin = number<uint64_t>(locator, 8);
    if (begin > fileBytes || begin + kEnd64Bytes != after - kLocatorBytes)
      damaged("its zip64 directory is elsewhere than before its end");
    std::string end64 = bytes(begin, kEnd64Bytes);
    if (number<uint32_t>(end64, 0) != kEnd64)
      damaged("its zip64 directory has no signature");
    result = {number<uint64_t>(end64, 32), number<uint64_t>(end64, 40), number<uint64_t>(end64, 48)};
    after = begin;
  }
  if (result.begin > after || result.bytes != after - result.begin)
    damaged("its directory is not of the size that it says");
  if (result.count > kMostEntries)
    throw ImportError("has " + std::to_string(result.count) + " entries, but at most " + std::to_string(kMostEntries) +
                      " are read; export one model to an archive");
  if (result.bytes > result.count * (kCentralBytes + 4 * kMostNameBytes))
    damaged("its directory has " + std::to_string(result.bytes) + " bytes for " + std::to_string(result.count) +
            " entries");
  return result;
}

/// Whether the name stays inside a folder, on any system.
bool staysInside(StringRef name) {
  llvm::SmallVector<StringRef> parts;
  name.split(parts, '/');
  return llvm::none_of(parts, [](StringRef part) { return part.empty() || part == "." || part == ".."; }) &&
         llvm::all_of(name, [](char c) { return c > ' ' && c < 127 && c != '\\' && c != ':'; });
}

ZipEntry Reader::readEntry(StringRef directory, size_t &at) {
  if (at + kCentralBytes > directory.size() || number<uint32_t>(directory, at) != kCentral)
    damaged("its directory is cut short");
  StringRef head = directory.drop_front(at);
  size_t nameBytes = number<uint16_t>(head, 28), extraBytes = number<uint16_t>(head, 30),
         commentBytes = number<uint16_t>(head, 32);
  if (nameBytes > kMostNameBytes || kCentralBytes + nameBytes + extraBytes + commentBytes > head.size())
    damaged("a name in its directory is cut short or longer than " + std::to_string(kMostNameBytes) + " bytes");
  StringRef fullName = head.substr(kCentralBytes, nameBytes),
            extra = head.substr(kCentralBytes + nameBytes, extraBytes);
  at += kCentralBytes + nameBytes + extraBytes + commentBytes;
  ZipEntry entry;
  entry.size = number<uint32_t>(head, 24);
  entry.stored = number<uint32_t>(head, 20);
  entry.begin = number<uint32_t>(head, 42);
  while (extra.size() >= 4) { // of zip64: what does not fit 32 bits, in this order
    StringRef field = extra.substr(4, number<uint16_t>(extra, 2));
    if (number<uint16_t>(extra, 0) == 1)
      for (uint64_t *value : {&entry.size, &entry.stored, &entry.begin})
        if (*value == UINT32_MAX && field.size() >= 8)
          *value = number<uint64_t>(field, 0), field = field.drop_front(8);
    extra = extra.drop_front(std::min<size_t>(extra.size(), 4 + size_t(number<uint16_t>(extra, 2))));
  }
  if (folder.empty())
    folder = fullName.split('/').first.str() + "/";
  if (!staysInside(fullName) || !fullName.starts_with(folder))
    throw ImportError("entry '" + printable(fullName) + "': expects a name inside the archive's folder");
  entry.name = fullName.drop_front(folder.size()).str();
  uint16_t method = number<uint16_t>(head, 10);
  entry.isPacked = method == kDeflate;
  bool isText = StringRef(entry.name).starts_with("code/");
  if ((method != 0 && method != kDeflate) || (entry.isPacked && !isText) || (number<uint16_t>(head, 8) & kIsEncrypted))
    throw ImportError("entry " + entry.name + ": expects bytes as they are, or code packed by deflate, but it is " +
                      (entry.isPacked ? "packed" : "encrypted or packed otherwise") +
                      "; write the archive with `python -m galvatron.export`");
  if (!entry.isPacked && entry.size != entry.stored)
    throw ImportError("entry " + entry.name + ": has " + std::to_string(entry.stored) + " bytes, but says " +
                      std::to_string(entry.size));
  if (isText && entry.size > kMostTextBytes)
    throw ImportError("entry " + entry.name + ": unpacks to " + std::to_string(entry.size) + " bytes, but at most " +
                      std::to_string(kMostTextBytes) + " are read");
  checkLocalHeader(entry, fullName, method);
  return entry;
}

void Reader::checkLocalHeader(const ZipEntry &entry, StringRef fullName, uint16_t method) {
  if (entry.begin > fileBytes || entry.stored > fileBytes - entry.begin)
    throw ImportError("entry " + entry.name + ": its " + std::to_string(entry.stored) +
                      " bytes lie outside the file of " + std::to_string(fileBytes) + " bytes; it is truncated");
  std::string head = bytes(entry.begin, kLocalBytes);
  if (number<uint32_t>(head, 0) != kLocal || number<uint16_t>(head, 8) != method ||
      bytes(entry.begin + kLocalBytes, number<uint16_t>(head, 26)) != fullName)
    throw ImportError("entry " + entry.name + ": its header is not what the archive's directory says; it is damaged");
}

std::vector<ZipEntry> Reader::read() {
  Directory where = findDirectory();
  std::string directory = bytes(where.begin, where.bytes);
  std::vector<ZipEntry> entries;
  llvm::StringSet<> names;
  size_t at = 0;
  for (uint64_t i = 0; i < where.count; ++i) {
    entries.push_back(readEntry(directory, at));
    if (!names.insert(StringRef(entries.back().name).lower()).second)
      throw ImportError("entry " + entries.back().name + ": stands twice in the archive, upper and lower case alike");
  }
  if (at != directory.size())
    damaged("its directory has bytes that are no entry's");
  uint64_t end = 0;
  std::vector<const ZipEntry *> inFile;
  for (const ZipEntry &entry : entries)
    inFile.push_back(&entry);
  llvm::sort(inFile, [](const ZipEntry *a, const ZipEntry *b) { return a->begin < b->begin; });
  for (const ZipEntry *entry : inFile) {
    std::string head = bytes(entry->begin, kLocalBytes);
    uint64_t data = entry->begin + kLocalBytes + number<uint16_t>(head, 26) + number<uint16_t>(head, 28);
    if (entry->begin < end)
      throw ImportError("entry " + entry->name + ": its bytes are another entry's, too");
    end = data + entry->stored;
    if (end > where.begin)
      throw ImportError("entry " + entry->name + ": its bytes run into the archive's directory");
  }
  return entries;
}

} // namespace

std::vector<ZipEntry> galvatron::importer::readZipDirectory(const std::string &path) { return Reader(path).read(); }
