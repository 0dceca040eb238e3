//===- Predict.h - a lowered program's step, predicted anew -----*- C++ -*-===//
//
// Private to lib/Search. `galvatron-search --predict FOLDER`: what a folder of stage binaries takes a step, from its
// timetable.json and a machine's prices, where no compiler is.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_TOOL_PREDICT_H
#define GALVATRON_SEARCH_TOOL_PREDICT_H

#include "Options.h"

#include "galvatron/Search/Check/StepSimulator.h"

namespace galvatron::search {

struct Prediction {
  StepTimetable step;
  SimulatedStep simulated;
};

/// By the cluster that the options name, or that the folder was planned for. Error: no timetable.json in the folder or
/// one that is not whole, a cluster of other devices or too few ranks.
Result<Prediction> predictFolder(const ToolOptions &options);

/// What is printed of it.
/// What to say where a stage takes more memory than its devices have; empty where all fit.
std::string warnOfMemory(const StepTimetable &step);

nlohmann::ordered_json describePrediction(const Prediction &prediction);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_TOOL_PREDICT_H
