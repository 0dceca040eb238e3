//===- ProfileWarnings.h - Why a profile may not hold here ------*- C++ -*-===//
#ifndef GALVATRON_SEARCH_MODEL_PROFILEWARNINGS_H
#define GALVATRON_SEARCH_MODEL_PROFILEWARNINGS_H

#include "galvatron/Search/Model/MachineProfile.h"

#include <map>
#include <string>
#include <vector>

namespace galvatron::search {

/// What of this host fingerprints have under the same names: `hosts`, `device` (the processor), `driver` and `nccl`
/// (of GPUs), as far as it says them; and `clock_mhz`.
std::map<std::string, std::string> lookAtThisHost();

/// One line each, of what differs from `here`, and of what was wrong when the profile was taken: clocks that differ,
/// ranks that were slower, others at work. Nothing that `here` does not say is compared.
std::vector<std::string> findWarnings(const MachineProfile &profile, const std::string &file,
                                      const std::map<std::string, std::string> &here);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_PROFILEWARNINGS_H
