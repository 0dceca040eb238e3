//===- RawMemory.h - Memory tables out of raw measurements ------*- C++ -*-===//
//
// The reference's memory profiler first writes what it measured, then what it
// derives from that (GALVATRON.md 2.3). A file may hold the first alone: an older
// grammar of keys, or a profiler that was stopped half way. What the search reads
// is derived here in the same way.
//
//   raw   "<pp>_<tp>_<dp>[_c][_vtp][_sp]" → "layernum<L>_bsz<b>_seq<s>_rank<r>_<ms|act|act_peak>", or
//         "layernum[<L>]_…"; MB of a rank: after backward, kept after forward, highest
//   out   "layertype_0[_sp]", "other_memory_pp_{off,on_first,on_last}[_sp]", by length
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_RAWMEMORY_H
#define GALVATRON_SEARCH_REFERENCE_RAWMEMORY_H

#include "ProfileFile.h"
#include "galvatron/Search/Reference/ReferenceProfile.h"

namespace galvatron::search {

/// Adds the derived keys that `file` lacks and whose raw ones it has: at the length
/// of `arguments`, or at every length in mode sequence. Error: raw keys of which
/// some are missing, or that contradict each other.
std::optional<Error> deriveMissingMemory(const ReferenceArguments &arguments, ProfileFile &file);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_RAWMEMORY_H
