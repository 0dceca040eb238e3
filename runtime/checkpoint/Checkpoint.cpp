//===- Checkpoint.cpp - what --save writes and --load reads --------------------------------------===//
#include "runtime/checkpoint/Checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

namespace fs = std::filesystem;
using nlohmann::json;

namespace galvatron {
namespace {

constexpr const char *kModel = "model.safetensors", *kOptimizer = "optimizer.safetensors", *kTraining = "training.json";

/// An absolute path without links and trailing slash, so that a name beside it, on the same disk, can be formed.
fs::path normal(const std::string &folder) {
  std::error_code error;
  fs::path path = fs::weakly_canonical(fs::absolute(folder), error);
  if (error)
    path = fs::absolute(folder).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

fs::path partial(const fs::path &folder) { return folder.string() + ".partial"; }

/// Removes a folder that holds at most a checkpoint's files.
Status removeOwnFiles(const fs::path &folder) {
  std::error_code error;
  for (const char *name : {kModel, kOptimizer, kTraining})
    fs::remove(folder / name, error);
  fs::remove(folder, error);
  if (fs::exists(folder))
    return Status::error(folder.string(), " is in the way of saving; move it elsewhere");
  return Status::success();
}

Status makeEmpty(const fs::path &folder) {
  if (Status status = removeOwnFiles(folder); !status.ok())
    return status;
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  fs::create_directory(folder, error);
  if (error)
    return Status::error("cannot create ", folder.string(), ": ", error.message());
  return Status::success();
}

Status synchronize(const fs::path &path) {
  int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  bool good = descriptor >= 0 && fsync(descriptor) == 0;
  Status status = good ? Status::success() : Status::error("cannot write ", path.string(), ": ", std::strerror(errno));
  if (descriptor >= 0)
    close(descriptor);
  return status;
}

void writeDatasets(const DataOrder &data, json &text) {
  text["sample_order"] = data.samples;
  text["data_seed"] = data.seed;
  text["split"] = data.split;
  text["data"] = json::array();
  for (const DatasetOrder &dataset : data.datasets)
    text["data"].push_back({{"prefix", dataset.name},
                            {"bytes", dataset.bytes},
                            {"sequences", dataset.sequences},
                            {"tokens", dataset.tokens},
                            {"weight", dataset.weight},
                            {"epochs", dataset.epochs},
                            {"last_apart", dataset.isLastApart}});
}

void readDatasets(const json &text, DataOrder &data) {
  data.samples = text.at("sample_order");
  data.seed = text.at("data_seed");
  data.split = text.at("split");
  for (const json &dataset : text.at("data"))
    data.datasets.push_back({dataset.at("prefix"), dataset.at("bytes"), dataset.at("sequences"), dataset.at("tokens"),
                             dataset.at("weight"), dataset.at("epochs"), dataset.at("last_apart")});
}

json toJson(const TrainingState &training) {
  json text = {{"format", 1},
               {"step", training.step},
               {"updates", training.updates},
               {"optimizer", training.optimizer},
               {"seed", training.seed},
               {"samples", training.samples},
               {"global_batch", training.globalBatch},
               {"settings", training.settings}};
  if (const std::optional<DataOrder> &data = training.data) {
    text["shuffle"] = data->shuffle;
    text["sequence"] = data->sequence;
    text["eod"] = data->eod < 0 ? json() : json(data->eod);
    text["reset_at_documents"] = data->resets;
    text["data"] = nullptr; // random tokens
    if (!data->isWindows())
      writeDatasets(*data, text);
    else if (!data->isRandom())
      text["data"] = {{"file", data->file}, {"bytes", data->bytes}, {"tokens", data->tokens}, {"origin", data->origin}};
  }
  return text;
}

/// Throws where a key is missing that every checkpoint has, or a value is of another type.
TrainingState fromJson(const json &text) {
  TrainingState training{text.at("step"),
                         text.at("optimizer"),
                         text.value("seed", uint64_t(0)),
                         text.value("samples", int64_t(0)),
                         text.value("updates", int64_t(text["step"])),
                         std::nullopt,
                         text.value("global_batch", int64_t(0)),
                         text.value("settings", std::map<std::string, std::string>())};
  if (!text.contains("shuffle") || !text.contains("sequence") || !text.contains("data"))
    return training;
  DataOrder &data = training.data.emplace();
  data.seed = training.seed;
  data.shuffle = text.at("shuffle");
  data.sequence = std::max<int64_t>(1, text.at("sequence"));
  if (auto eod = text.find("eod"); eod != text.end() && !eod->is_null())
    data.eod = *eod;
  data.resets = text.value("reset_at_documents", data.eod >= 0);
  if (text.contains("sample_order"))
    readDatasets(text, data);
  else if (const json &file = text.at("data"); !file.is_null()) {
    data.file = file.at("file");
    data.bytes = file.at("bytes");
    data.tokens = file.at("tokens");
    data.origin = file.value("origin", int64_t(0));
  }
  return training;
}

Status writeTraining(const fs::path &folder, const TrainingState &training) {
  std::ofstream file(folder / kTraining);
  file << toJson(training).dump(2) << "\n";
  file.close();
  if (!file)
    return Status::error("cannot write ", (folder / kTraining).string());
  return synchronize(folder / kTraining);
}

Status readTraining(const fs::path &folder, const std::string &name, TrainingState &training) {
  std::ifstream file(folder / kTraining);
  if (!file)
    return Status::error(name, " is not a checkpoint: ", (folder / kTraining).string(), " is missing");
  try {
    training = fromJson(json::parse(file));
  } catch (const json::exception &error) {
    return Status::error(name, " is not a checkpoint: ", (folder / kTraining).string(), " cannot be read (",
                         error.what(), ")");
  }
  return Status::success();
}

/// The new folder takes the old one's name; files that are not a checkpoint's move over.
Status replaceFolder(const fs::path &fresh, const fs::path &folder) {
  std::error_code error;
  if (!fs::exists(folder)) {
    fs::rename(fresh, folder, error);
    return error ? Status::error("cannot rename ", fresh.string(), " to ", folder.string(), ": ", error.message())
                 : synchronize(folder.parent_path());
  }
  if (renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0)
    return Status::error("cannot exchange ", fresh.string(), " and ", folder.string(), ": ", std::strerror(errno));
  for (const fs::directory_entry &old : fs::directory_iterator(fresh, error))
    if (fs::path target = folder / old.path().filename(); !fs::exists(target))
      fs::rename(old.path(), target, error);
  if (Status status = removeOwnFiles(fresh); !status.ok())
    return status;
  return synchronize(folder.parent_path());
}

} // namespace

/// A folder is replaced by a rename: a disk's root has no name to give away, and the shell should not lose its place.
static bool canBeReplaced(const fs::path &folder) {
  std::error_code error;
  fs::path working = normal(fs::current_path(error));
  struct stat own, above;
  if (error || stat(folder.c_str(), &own) != 0 || stat(folder.parent_path().c_str(), &above) != 0)
    return false;
  bool holdsWorking = std::mismatch(folder.begin(), folder.end(), working.begin(), working.end()).first == folder.end();
  return !holdsWorking && own.st_dev == above.st_dev;
}

Status checkSaveFolder(const std::string &name) {
  fs::path folder = normal(name);
  if (fs::exists(folder) && !fs::is_directory(folder))
    return Status::error("--save expects a folder, but ", name, " is a file");
  if (fs::exists(folder) && !canBeReplaced(folder))
    return Status::error("--save expects a folder that a new one can replace, but ", name,
                         " holds the working folder or is a disk of its own; name a folder in it");
  if (Status status = makeEmpty(partial(folder)); !status.ok())
    return status;
  return removeOwnFiles(partial(folder));
}

Status saveCheckpoint(const World &world, const Catalog &catalog, const ModelState &state, const Carried &carried,
                      const std::string &name, const TrainingState &training) {
  fs::path folder = normal(name), fresh = partial(folder);
  bool first = world.rank() == 0;
  Status status = world.agree(first ? makeEmpty(fresh) : Status::success());
  if (!status.ok())
    return status;
  status = writeTensors(world, catalog, state, fresh / kModel, {kWeight}, &carried);
  if (status.ok() && training.optimizer == "adamw")
    status = writeTensors(world, catalog, state, fresh / kOptimizer, {kFirstMoment, kSecondMoment});
  if (first && status.ok())
    status = writeTraining(fresh, training);
  if (first && status.ok())
    status = replaceFolder(fresh, folder);
  if (first && !status.ok())
    (void)removeOwnFiles(fresh);
  return world.agree(status);
}

std::string weightsOfCheckpoint(const std::string &folder) { return normal(folder) / kModel; }

Status loadCheckpoint(const ModelState &state, const std::string &name, const Options &options,
                      TrainingState &training) {
  fs::path folder = normal(name);
  Status status = readTraining(folder, name, training);
  if (!status.ok())
    return status;
  if (options.optimizer == "adamw" && training.optimizer != "adamw")
    return Status::error(name, " was written with --optimizer ", training.optimizer,
                         " and has no moments for adamw; pass the same optimizer");
  status = readTensors(state, folder / kModel, {kWeight});
  if (status.ok() && options.optimizer == "adamw")
    status = readTensors(state, folder / kOptimizer, {kFirstMoment, kSecondMoment});
  return status;
}

/// With what is decided elsewhere than by the options of the update.
static std::map<std::string, std::string> allSettings(const TrainingState &training) {
  std::map<std::string, std::string> settings = training.settings;
  settings["--global-batch"] = std::to_string(training.globalBatch);
  settings["--seed"] = std::to_string(training.seed);
  return settings;
}

std::string describeOtherSettings(const std::string &checkpoint, const TrainingState &saved, const TrainingState &now) {
  if (saved.settings.empty())
    return "";
  std::string text;
  std::map<std::string, std::string> current = allSettings(now);
  for (const auto &[flag, value] : allSettings(saved))
    if (auto found = current.find(flag); found != current.end() && found->second != value)
      text += (text.empty() ? "" : "; ") + flag + " " + value + ", not " + found->second;
  return text.empty() ? ""
                      : checkpoint + " was trained with " + text +
                            "; this run goes on with its own, so it is not what one run would have given";
}

Status dumpGradients(const World &world, const Catalog &catalog, const ModelState &state, const std::string &folder,
                     int64_t step) {
  char name[40];
  std::snprintf(name, sizeof name, "step_%06lld.safetensors", (long long)step);
  std::string path = fs::path(folder) / name, unfinished = path + ".partial";
  Status status = writeTensors(world, catalog, state, unfinished, {kGradient});
  if (status.ok() && world.rank() == 0 && std::rename(unfinished.c_str(), path.c_str()) != 0)
    status = Status::error("cannot rename ", unfinished, ": ", std::strerror(errno));
  return world.agree(status);
}

} // namespace galvatron
