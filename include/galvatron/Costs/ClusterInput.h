// The cluster that a command line means: a file, or a number of ranks of this host, and a budget.
#ifndef GALVATRON_COSTS_CLUSTERINPUT_H
#define GALVATRON_COSTS_CLUSTERINPUT_H

#include "galvatron/Search/Model/Cluster.h"

namespace galvatron {

struct ClusterInput {
  std::string file;           ///< cluster.json, or the name of a kind of device ("h200"); empty: this host
  int64_t ranks = 0;          ///< 0: this machine's cores; only without a file
  std::string memory;         ///< budget of one device, such as "2GiB"; empty: the file's, or a share of this host's
  std::string profile;        ///< profile.json of the devices, which prices them; without a file it is the cluster, too
  std::string device = "cpu"; ///< kind of the devices where there is no file
};

/// The cluster, or what is wrong with the input.
search::Result<search::Cluster> readCluster(const ClusterInput &input);

} // namespace galvatron

#endif // GALVATRON_COSTS_CLUSTERINPUT_H
