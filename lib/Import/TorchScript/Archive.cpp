// Entries are checked in the bytes that LibTorch's own reader gives, so that the loader sees what was checked.
#include "Archive.h"

#include "lib/Import/Archive/CodeCheck.h"
#include "lib/Import/Archive/PickleCheck.h"
#include "lib/Import/Archive/ZipDirectory.h"
#include "lib/Import/Expression/Value.h"

#include "llvm/ADT/StringExtras.h"

#include <caffe2/serialize/inline_container.h>

#include <sys/resource.h>

#include <filesystem>
#include <fstream>

using namespace galvatron::importer;
namespace fs = std::filesystem;

static constexpr const char *kExtraFile = "galvatron.json";
/// Bytes of all code and pickles together.
static constexpr uint64_t kMostTextInAll = 256 << 20;

/// The first sentence of an exception's text.
static std::string firstSentence(const std::string &text) {
  std::string line = text.substr(0, text.find('\n'));
  return line.substr(0, line.find(". "));
}

namespace {

/// Bounds what this process may have while LibTorch loads: folding constants can double a text again and again.
class MemoryBound {
public:
  explicit MemoryBound(uint64_t more) {
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages; // of virtual memory
    if (!pages || getrlimit(RLIMIT_AS, &before))
      return;
    rlimit bound = before;
    bound.rlim_cur = std::min<rlim_t>(before.rlim_cur, pages * 4096 + more);
    isSet = setrlimit(RLIMIT_AS, &bound) == 0;
  }
  ~MemoryBound() {
    if (isSet)
      setrlimit(RLIMIT_AS, &before);
  }
  MemoryBound(const MemoryBound &) = delete;

private:
  rlimit before{};
  bool isSet = false;
};

} // namespace

static std::string textOf(caffe2::serialize::PyTorchStreamReader &reader, const std::string &name) {
  auto [data, size] = reader.getRecord(name);
  return {static_cast<const char *>(data.get()), size};
}

/// Throws ImportError where an entry could run, crash or read beyond its end when it is loaded.
static void checkEntries(const std::string &path, const std::vector<ZipEntry> &entries) {
  std::map<std::string, uint64_t> sizes;
  for (const ZipEntry &entry : entries)
    sizes[entry.name] = entry.size;
  for (const char *name : {"data.pkl", "constants.pkl"})
    if (!sizes.count(name))
      damaged("it has no entry " + std::string(name));
  if (sizes.count("model.json"))
    throw ImportError("entry model.json: is of a format before PyTorch 1.0's, which is unsupported; export it again");
  caffe2::serialize::PyTorchStreamReader reader(path);
  uint64_t inAll = 0;
  for (const auto &[name, size] : sizes) {
    llvm::StringRef entry(name);
    bool isPickle = entry == "data.pkl" || entry == "constants.pkl", isDebug = entry.ends_with(".debug_pkl");
    bool isText = isPickle || isDebug || entry.starts_with("code/") || entry.starts_with("extra/") ||
                  entry == "version" || entry == "byteorder" || entry.starts_with(".");
    if (!isText)
      continue;
    inAll += size;
    try {
      if (size > kMostTextBytes || inAll > kMostTextInAll)
        throw ImportError("brings code and pickles to " + std::to_string(inAll) + " bytes, but at most " +
                          std::to_string(kMostTextInAll) + " are read, " + std::to_string(kMostTextBytes) + " each");
      if ((entry == "version" || entry == ".data/version") &&
          (size > 20 ||
           !llvm::all_of(llvm::StringRef(textOf(reader, name)).trim("\n"), [](char c) { return llvm::isDigit(c); })))
        throw ImportError("is no number");
      if (isDebug)
        checkDebugPickle(textOf(reader, name));
      else if (isPickle)
        checkPickle(textOf(reader, name), [&, folder = entry.drop_back(4)](llvm::StringRef key) {
          auto found = sizes.find((folder + "/" + key).str());
          return found == sizes.end() ? std::nullopt : std::optional<uint64_t>(found->second);
        });
      else if (entry.starts_with("code/"))
        checkCode(textOf(reader, name));
    } catch (const ImportError &error) {
      throw ImportError("entry " + name + ": " + error.what());
    }
  }
}

torch::jit::Module galvatron::importer::loadArchive(const std::string &path, std::string &description) {
  if (!fs::exists(path))
    throw ImportError("no such file; write one with `python -m galvatron.export --config config.json -o model.pt`");
  if (!fs::is_regular_file(path))
    throw ImportError("is a folder or a device; expects an archive of `python -m galvatron.export`");
  std::vector<ZipEntry> entries = readZipDirectory(path);
  auto refuse = [](const std::string &why) {
    throw ImportError("cannot be read as TorchScript (" + firstSentence(why) +
                      "): it is damaged or of another format; write it with `python -m galvatron.export`");
  };
  try {
    checkEntries(path, entries);
    torch::jit::ExtraFilesMap extra{{kExtraFile, ""}};
    MemoryBound bound((uint64_t(4) << 30) + 2 * fs::file_size(path));
    torch::jit::Module module = torch::jit::load(path, c10::kCPU, extra);
    description = extra[kExtraFile];
    return module;
  } catch (const ImportError &) {
    throw;
  } catch (const c10::Error &error) {
    refuse(error.what_without_backtrace());
  } catch (const std::exception &error) {
    refuse(error.what());
  }
  llvm_unreachable("refuse throws");
}
