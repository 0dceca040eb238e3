// The memory plan as a pass whose timetables the caller gets whole: what is planned and proved is what is emitted.
#ifndef GALVATRON_TRANSFORMS_PLANMEMORY_H
#define GALVATRON_TRANSFORMS_PLANMEMORY_H

#include "galvatron/Schedule/Timetable.h"
#include "galvatron/Transforms/Passes.h"

#include <memory>

namespace galvatron {

/// `timetables` receives those of the module's stages, in their order; it may be null.
std::unique_ptr<mlir::Pass> createPlanMemoryPass(std::shared_ptr<std::vector<Timetable>> timetables);

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_PLANMEMORY_H
