//===- StepPrices.h - What the entries of a timetable take ------*- C++ -*-===//
//
// All that a simulation asks of a machine. One source of prices answers from the rates of a cluster; a profile's tables
// answer through the same questions where they know, and leave the rest to it.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_CHECK_STEPPRICES_H
#define GALVATRON_SEARCH_CHECK_STEPPRICES_H

#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/StepTimetable.h"

#include <map>

namespace galvatron::search {

class StepPrices {
public:
  virtual ~StepPrices();

  /// One run of a body, collectives included, alone on its device.
  virtual double bodySeconds(const StepTimetable &step, int stage, const StepBody &body) const = 0;
  /// One collective of the ranks of a group, while the neighbouring groups do the same.
  virtual double collectiveSeconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const = 0;
  /// A value from each rank of a stage to its peer in another one.
  virtual double sendSeconds(const StepTimetable &step, int from, int to, double bytes) const = 0;
  /// A kernel that passes over so many bytes, read plus written.
  virtual double touchSeconds(double bytes) const = 0;
  /// The update of parameters, which reads and writes so many bytes.
  virtual double updateSeconds(double bytes) const = 0;
  /// How much longer work takes while the device also communicates, and communication meanwhile: time beside ÷ time
  /// alone.
  virtual double slowdown() const = 0;
  /// Whether collectives and transfers proceed while kernels run. Where they do not, a collective is done before what
  /// follows, and a value travels while its receiver waits for it.
  virtual bool overlaps() const = 0;
};

/// From the rates and links of a cluster and what a profile measured of it: bodies as a whole, their messages apart;
/// else kernel by kernel, as the search prices them (docs/search.md). Not thread-safe.
class ClusterPrices final : public StepPrices {
public:
  explicit ClusterPrices(const Cluster &cluster) : cluster(cluster), links(cluster) {}

  double bodySeconds(const StepTimetable &step, int stage, const StepBody &body) const override;
  double collectiveSeconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const override;
  double sendSeconds(const StepTimetable &step, int from, int to, double bytes) const override;
  double touchSeconds(double bytes) const override;
  double updateSeconds(double bytes) const override;
  double slowdown() const override { return cluster.device.overlapSlowdown; }
  bool overlaps() const override { return cluster.device.overlapsCommunication; }

private:
  double paceOf(const StepTimetable &step, int stage, const StepBody &body) const;
  double findPace(const StepTimetable &step, int stage, const StepBody &body) const;

  Cluster cluster;
  LinkModel links;
  mutable std::map<const StepBody *, double> paces; ///< of bodies that were asked for
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_CHECK_STEPPRICES_H
