// A pipeline as the search knows it, whose list of a stage's instructions and places of parts the phase stage follows.
#ifndef GALVATRON_TRANSFORMS_STAGE_PIPELINESHAPE_H
#define GALVATRON_TRANSFORMS_STAGE_PIPELINESHAPE_H

#include "dialects/Plan/Plan.h"
#include "galvatron/Search/Model/Timetable.h"

namespace galvatron {

inline search::PipelineShape shapeOf(plan::PipelineAttr pipeline) {
  return {*search::parseSchedule(plan::stringifySchedule(pipeline.getSchedule()).str()), int(pipeline.getStages()),
          int(pipeline.getVirtualStages()), int(pipeline.getMicroBatches())};
}

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_STAGE_PIPELINESHAPE_H
