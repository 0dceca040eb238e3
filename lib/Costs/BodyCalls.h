// What the calls and generated kernels of a lowered body compute and move: read off their constants and buffers.
#ifndef GALVATRON_LIB_COSTS_BODYCALLS_H
#define GALVATRON_LIB_COSTS_BODYCALLS_H

#include "dialects/Exec/Exec.h"
#include "galvatron/Search/Model/StepTimetable.h"

namespace galvatron {

/// In the order in which they run. Groups keep the numbers that the program has for them.
std::vector<search::BodyCall> readBodyCalls(exec::FunctionOp body);

} // namespace galvatron

#endif // GALVATRON_LIB_COSTS_BODYCALLS_H
