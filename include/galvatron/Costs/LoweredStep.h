// The timetables of a lowered program as lib/Search knows them: what timetable.json holds and what is simulated.
#ifndef GALVATRON_COSTS_LOWEREDSTEP_H
#define GALVATRON_COSTS_LOWEREDSTEP_H

#include "galvatron/Schedule/Timetable.h"
#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Model/StepTimetable.h"

#include "llvm/ADT/StringMap.h"

namespace galvatron {

/// After `planArena`. `lowered`: the module that the timetables are of; `plan`: for what layers are; `program`: a hash
/// of it. Names of model, target and version are the caller's to add.
search::StepTimetable makeStepTimetable(mlir::ModuleOp lowered, llvm::ArrayRef<Timetable> timetables,
                                        const search::Plan &plan, const search::Cluster &cluster,
                                        const std::string &program, const llvm::StringMap<std::string> &hashes = {});

} // namespace galvatron

#endif // GALVATRON_COSTS_LOWEREDSTEP_H
