//===- Predict.cpp - a lowered program's step, predicted anew -------------===//

#include "Predict.h"

#include "galvatron/Search/Formats/ClusterFile.h"
#include "galvatron/Search/Formats/MachineProfileFile.h"
#include "galvatron/Search/Formats/TimetableFile.h"
#include "galvatron/Search/Model/MachineTables.h"
#include "lib/Search/Formats/JsonReader.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace galvatron::search {

/// Another machine's cluster has to run the program as it is.
static Result<Cluster> readOtherCluster(const std::string &file, const StepTimetable &step) {
  Result<std::string> text = readFile(file);
  if (!text)
    return text.error();
  Result<Cluster> cluster = parseCluster(*text, std::filesystem::path(file).parent_path().string());
  if (!cluster)
    return Error{"'" + file + "': " + cluster.error().message};
  if ((cluster->device.name == "cpu") != (step.target == "cpu"))
    return Error{"expects a cluster of devices that the program runs on, target " + step.target +
                 ", but got devices of kind " + cluster->device.name};
  if (cluster->ranks() < step.ranks())
    return Error{"expects a cluster of at least the program's " + std::to_string(step.ranks()) + " ranks, but '" +
                 file + "' has " + std::to_string(cluster->ranks())};
  return cluster;
}

Result<Prediction> predictFolder(const ToolOptions &options) {
  std::string file = (std::filesystem::path(options.predictFolder) / "timetable.json").string();
  Result<std::string> text = readFile(file);
  if (!text)
    return Error{text.error().message + "; --predict takes a folder that galvatron-opt --lower wrote"};
  Result<StepTimetable> step = parseTimetable(*text);
  if (!step)
    return Error{"'" + file + "': " + step.error().message};
  if (!options.clusterFile.empty()) {
    Result<Cluster> cluster = readOtherCluster(options.clusterFile, *step);
    if (!cluster)
      return cluster.error();
    step->cluster = std::move(*cluster);
  }
  if (!options.profileFile.empty()) {
    Result<MachineProfile> profile = readMachineProfile(options.profileFile);
    if (!profile)
      return profile.error();
    if (std::optional<Error> error = applyProfile(*profile, options.profileFile, step->cluster))
      return *error;
  }
  if (const std::shared_ptr<const MachineTables> &tables = step->cluster.device.tables) {
    if (tables->precision() != step->precision)
      return Error{"expects a profile of the program's precision, " + step->precision + ", but '" + tables->file() +
                   "' is of " + tables->precision() + "; take one with galvatron-profile --precision"};
    for (const std::string &warning : tables->warnings())
      std::fprintf(stderr, "galvatron-search: warning: %s\n", warning.c_str());
  }
  Result<SimulatedStep> simulated = simulateStep(*step, ClusterPrices(step->cluster));
  if (!simulated)
    return Error{"'" + file + "': " + simulated.error().message};
  return Prediction{std::move(*step), std::move(*simulated)};
}

std::string warnOfMemory(const StepTimetable &step) {
  auto largest = std::max_element(
      step.stages.begin(), step.stages.end(),
      [](const StageTimetable &one, const StageTimetable &other) { return one.arenaBytes < other.arenaBytes; });
  std::int64_t beside = step.cluster.device.overhead.least(step.ranks()), memory = step.cluster.memoryBytesPerDevice;
  if (largest->arenaBytes <= memory - beside)
    return "";
  return "stage " + std::to_string(largest - step.stages.begin()) + " takes " + formatBytes(double(largest->arenaBytes)) +
         (beside ? " and what libraries take beside it, at least " + formatBytes(double(beside)) : "") +
         ", but devices of this cluster have " + formatBytes(double(memory)) + ": it does not run there";
}

nlohmann::ordered_json describePrediction(const Prediction &prediction) {
  const StepTimetable &step = prediction.step;
  return {{"status", "ok"},
          {"predicted_step_seconds", prediction.simulated.stepSeconds},
          {"lowered_with_step_seconds", step.predictedStepSeconds},
          {"fits", warnOfMemory(step).empty()},
          {"plan", step.plan},
          {"model", step.model},
          {"ranks", step.ranks()},
          {"device", step.cluster.device.name}};
}

} // namespace galvatron::search
