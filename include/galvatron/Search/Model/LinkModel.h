//===- LinkModel.h - Collectives on a cluster's links -----------*- C++ -*-===//
//
// Latency and bandwidth of NCCL- and MPI-like collectives from a cluster's
// links: ring or tree, and in two levels when a group spans nodes.
//
// Per algorithm, g ranks, n bytes, a latency, w bandwidth (Thakur, Rabenseifner
// and Gropp 2005, "Optimization of collective communication operations in
// MPICH", for the ring and tree terms):
//
//   ring all-reduce      2 (g-1) a + 2 (g-1)/g n/w
//   tree all-reduce      2 log2(g) a + 2 n/w
//   gather, scatter      half of the ring; recursive doubling: log2(g) a
//   all-to-all           (g-1) a + (g-1)/g n/w
//   two levels           within nodes, then the k ranks of a node each their
//                        n/k share across nodes, then within nodes
//
// Where the cluster comes with a profile, a group that was measured takes what it
// took (MachineTables.h); the formulas are for all others.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_LINKMODEL_H
#define GALVATRON_SEARCH_MODEL_LINKMODEL_H

#include "galvatron/Search/Model/Problem.h"

#include <optional>

namespace galvatron::search {

/// How many members of a group share a node, at least: all that a LinkModel asks of a group but its size.
std::int64_t membersWithin(const plan::GroupShape &group, std::int64_t devicesPerNode);

class LinkModel : public CommunicationModel {
public:
  explicit LinkModel(const Cluster &cluster) : LinkModel(cluster, cluster.inter) {}
  /// For groups inside of nodes whose slowest link is `inter`.
  LinkModel(const Cluster &cluster, const Link &inter) : cluster(cluster), inter(inter) {}

  double seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const override;
  double sendSeconds(double bytesPerRank, int distance) const override;
  double sendSecondsFrom(std::int64_t first, std::int64_t count, double bytesPerRank, int distance) const override;

private:
  /// By the cluster's profile, if it has that.
  std::optional<double> measuredSeconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const;
  std::optional<double> measuredSend(double bytes, int distance, bool isWithinNode) const;

  Cluster cluster;
  Link inter;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_LINKMODEL_H
