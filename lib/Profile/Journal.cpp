// DIR/profile.journal.
#include "Journal.h"

#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Support/Files.h"
#include "galvatron/Support/Json.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/file.h>
#include <unistd.h>

namespace galvatron::profile {

using search::Error;
using search::MachineProfile;

namespace {

namespace fs = std::filesystem;

Error systemError(const std::string &what, const std::string &path) {
  return Error{"cannot " + what + " '" + path + "': " + std::strerror(errno)};
}

std::optional<Error> writeAll(int file, const std::string &text, const std::string &path) {
  for (std::size_t done = 0; done < text.size();) {
    ssize_t count = ::write(file, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return systemError("write", path);
    done += std::size_t(count);
  }
  return fsync(file) == 0 ? std::nullopt : std::optional<Error>(systemError("write", path));
}

/// Without figures, as one line.
std::string headerOf(const MachineProfile &profile, bool isAnew) {
  return nlohmann::ordered_json{{"format", "galvatron-profile-journal"},
                                {"version", 1},
                                {"precision", profile.precision},
                                {"nodes", profile.cluster.nodes},
                                {"devices_per_node", profile.cluster.devicesPerNode},
                                {"busy", profile.wasBusy},
                                {"restarted", isAnew},
                                {"model", profile.models.empty() ? "" : profile.models[0].hash},
                                {"fingerprint", profile.fingerprint}}
      .dump();
}

/// What `other`, which stands in `path`, was taken with and `profile` is not; empty: they are alike.
std::string differences(const MachineProfile &profile, const MachineProfile &other) {
  std::string text;
  auto compare = [&](const std::string &name, const std::string &mine, const std::string &theirs) {
    if (mine != theirs)
      text += (text.empty() ? "" : "; ") + name + " '" + theirs + "', here '" + mine + "'";
  };
  compare("precision", profile.precision, other.precision);
  compare("nodes", std::to_string(profile.cluster.nodes), std::to_string(other.cluster.nodes));
  compare("devices per node", std::to_string(profile.cluster.devicesPerNode),
          std::to_string(other.cluster.devicesPerNode));
  for (const auto &[name, mine] : profile.fingerprint) {
    auto theirs = other.fingerprint.find(name);
    compare(name, mine, theirs == other.fingerprint.end() ? "" : theirs->second);
  }
  return text;
}

std::optional<Error> checkAlike(const MachineProfile &profile, const MachineProfile &other, const std::string &path) {
  std::string different = differences(profile, other);
  if (different.empty())
    return std::nullopt;
  return Error{"'" + path + "' is of another machine or version (" + different +
               "); name another folder with -o, or drop it with --restart"};
}

} // namespace

std::optional<Error> replaceFile(const std::string &path, const std::string &text) {
  std::string error;
  if (!writeOutputFile(path, text, error))
    return Error{error};
  // Text and name, where the file system can; else they are there soon.
  for (auto [name, flags] : {std::pair(fs::path(path), 0), {fs::path(path).parent_path(), O_DIRECTORY}})
    if (int written = ::open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags); written >= 0) {
      (void)fsync(written);
      ::close(written);
    }
  return std::nullopt;
}

Journal::~Journal() {
  if (file >= 0)
    ::close(file);
}

std::optional<Error> Journal::open(const std::string &folder, MachineProfile &profile, bool restart) {
  std::error_code code;
  fs::create_directories(folder, code);
  if (code)
    return Error{"cannot make the folder '" + folder + "': " + code.message()};
  path = (fs::path(folder) / "profile.journal").string();
  file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0)
    return systemError("write", path);
  if (!fs::is_regular_file(path, code))
    return Error{"expects '" + path + "' to be a file, but it is something else; name another folder with -o"};
  if (flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return Error{"another galvatron-profile is measuring into '" + folder + "'; wait for it, or name another with -o"};
  if (restart && ftruncate(file, 0) != 0)
    return systemError("write", path);
  MachineProfile machine = profile;
  std::string finished = (fs::path(folder) / "profile.json").string();
  isAnew = restart || wasRestarted();
  if (!isAnew && fs::exists(finished, code)) {
    search::Result<MachineProfile> read = search::readMachineProfile(finished);
    if (!read)
      return Error{read.error().message + "; take it anew with --restart"};
    if (auto error = checkAlike(machine, *read, finished))
      return error;
    // Everything but what was asked for and left out, which this run asks for itself.
    bool isBusy = profile.wasBusy || read->wasBusy;
    profile = std::move(*read);
    profile.wasBusy = isBusy;
    // What was extrapolated may be measured now; else it is extrapolated anew.
    std::erase_if(profile.bodies, [](const search::MeasuredBody &body) { return !body.isMeasured; });
  }
  return readLines(machine, profile);
}

/// Its first line says so; a finished profile beside it is what the restart was to replace.
bool Journal::wasRestarted() const {
  std::ifstream input(path, std::ios::binary);
  std::string line;
  std::getline(input, line);
  std::string ignored;
  std::optional<nlohmann::json> json = parseJson(line, path, ignored);
  return json && json->is_object() && json->value("restarted", nlohmann::json()) == true;
}

std::optional<Error> Journal::readLines(const MachineProfile &machine, MachineProfile &profile) {
  std::ifstream input(path, std::ios::binary);
  std::stringstream text;
  text << input.rdbuf();
  std::string all = text.str(), header;
  std::size_t good = 0, number = 0;
  for (std::size_t end; (end = all.find('\n', good)) != std::string::npos; good = end + 1, ++number) {
    std::string line = all.substr(good, end - good);
    if (number == 0) {
      std::string ignored;
      nlohmann::json json = parseJson(line, path, ignored).value_or(nlohmann::json());
      MachineProfile other;
      try {
        if (json.at("format") != "galvatron-profile-journal" || json.at("version") != 1)
          return Error{"'" + path + "' is no journal of this version; drop it with --restart"};
        json.at("precision").get_to(other.precision);
        json.at("nodes").get_to(other.cluster.nodes);
        json.at("devices_per_node").get_to(other.cluster.devicesPerNode);
        json.at("fingerprint").get_to(other.fingerprint);
        profile.wasBusy |= json.at("busy").get<bool>();
      } catch (const nlohmann::json::exception &) {
        return Error{"'" + path + "' does not begin as a journal does; drop it with --restart"};
      }
      if (auto error = checkAlike(machine, other, path))
        return error;
      std::string begun = json.value("model", "");
      if (!begun.empty() && !machine.models.empty() && machine.models[0].hash != begun)
        return Error{"'" + path +
                     "' was begun for another model; go on with that one, name another folder with -o, or "
                     "drop it with --restart"};
      continue;
    }
    search::Result<bool> added = search::addEntry(line, profile);
    // A line that both the finished profile and the journal have was kept by both in a crash between the two.
    if (!added && added.error().message.find("keep one") == std::string::npos)
      return Error{"'" + path + "' line " + std::to_string(number + 1) + ": " + added.error().message +
                   "; drop it with --restart"};
  }
  // A torn last line goes; what follows is written where it began.
  if (ftruncate(file, off_t(good)) != 0 || lseek(file, off_t(good), SEEK_SET) < 0)
    return systemError("write", path);
  return good ? std::nullopt : add(headerOf(machine, isAnew));
}

std::optional<Error> Journal::add(const std::string &line) {
  off_t begin = lseek(file, 0, SEEK_CUR);
  std::optional<Error> error = writeAll(file, line + "\n", path);
  if (error && ftruncate(file, begin) == 0) // as if it had not begun
    lseek(file, begin, SEEK_SET);
  if (error)
    error->message += "; make room and start the same command again, which goes on from here";
  return error;
}

void Journal::remove() {
  if (file >= 0)
    ::unlink(path.c_str());
}

} // namespace galvatron::profile
