//===- ZeroBubbleV.h - The list of schedule zb-v ----------------*- C++ -*-===//
//
// Private to lib/Search. The model in 2p parts goes down the stages and up again:
// stage s of p has the parts s (chunk 0) and 2p - 1 - s (chunk 1). So the first
// stage, too, has something to do as soon as the last one has turned, and what
// micro-batches keep is as much on each (Qi et al. 2023, section 6, ZB-V).
//
//   p 2, m 4; a dot begins the name of a part:
//   stage 0   F0 F1 F2 F0.1 B0.1 W0.1 F1.1 B1.1 W1.1 B0 W0 F2.1 …
//   stage 1      F0 F0.1 F1 F1.1 B0.1 …
//
// The shape of the list is that of 2p - 1 micro-batches or more, without those
// that there are not: dropping some of a list's micro-batches keeps its order and
// never adds to what is kept.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_ZEROBUBBLEV_H
#define GALVATRON_SEARCH_MODEL_ZEROBUBBLEV_H

#include "galvatron/Search/Model/Timetable.h"

#include <vector>

namespace galvatron::search {

/// Any number of stages from 2, any of micro-batches from 1. At most 2p parts of micro-batches are between their
/// forward and the gradients of their weights at any time, on every stage.
std::vector<Instruction> zeroBubbleV(const PipelineShape &shape, int stage);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_ZEROBUBBLEV_H
