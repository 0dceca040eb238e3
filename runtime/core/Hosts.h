//===- Hosts.h - whether all hosts of a run have the same files -----------------------------------===//
//
// Ranks of several hosts read files by the same paths, which may lie on disks of their own: a library of yesterday or
// another file of tokens there would train something else without a word. So before anything is read, hosts compare
// what they see. Nothing is judged that all see alike: that a file is missing everywhere is for who opens it.
//
//===----------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_CORE_HOSTS_H
#define GALVATRON_RUNTIME_CORE_HOSTS_H

#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"
#include "runtime/core/World.h"

namespace galvatron {

/// The first difference between what two hosts see, `seen[r]` of rank r on `hosts[r]`: lines "path\tfingerprint", the
/// fingerprint empty where there is no such file. The first host is believed.
Status compareHosts(const std::vector<std::string> &hosts, const std::vector<std::string> &seen);

/// Collective, and the same on every rank: an error naming host and path where the program's libraries, data, weights
/// or a checkpoint to load are missing or different on one (by Fingerprint.h), or where the folder of --save is not one
/// and the same on all.
Status checkHosts(const World &world, const Manifest &manifest, const Options &options);

} // namespace galvatron

#endif
