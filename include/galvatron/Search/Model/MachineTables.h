//===- MachineTables.h - A profile's figures as prices ----------*- C++ -*-===//
//
// What a MachineProfile measured, as functions of size: seconds never fall as
// sizes rise, so that what the search proves of prices stays true. Between two
// sizes along the line, below the first as long as that, beyond the last along
// the last line; both ends are no longer called measured.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_MACHINETABLES_H
#define GALVATRON_SEARCH_MODEL_MACHINETABLES_H

#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/Problem.h"
#include "galvatron/Search/Model/Result.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace galvatron::search {

class MeasuredBodies;

/// How profiles name messages of this kind.
const char *measuredName(CollectiveKind kind);

/// Seconds by size, through measured points.
class MeasuredCurve {
public:
  void add(double size, double seconds) { points.emplace_back(size, seconds); }
  /// Once all are there: by rising size, of several points of one size their mean, none below the one before.
  void finish();

  bool isEmpty() const { return points.empty(); }
  double seconds(double size) const;
  /// The smallest size.
  double least() const { return points.front().first; }
  bool covers(double size) const { return size >= points.front().first && size <= points.back().first; }
  const std::vector<std::pair<double, double>> &all() const { return points; }

private:
  std::vector<std::pair<double, double>> points;
};

class MachineTables {
public:
  /// `file`: where the profile came from, for people.
  MachineTables(const MachineProfile &profile, std::string file);

  struct Message {
    double seconds = 0;
    bool isMeasured = false; ///< or between measured sizes
  };
  /// A collective of groups of this shape on nodes of `devicesPerNode`, all groups at once; nothing where groups of
  /// that size and stride, as much within a node, were not measured.
  std::optional<Message> message(CollectiveKind kind, double bytes, const plan::GroupShape &group,
                                 std::int64_t devicesPerNode) const;
  /// One message to the rank `distance` away, within a node or not.
  std::optional<Message> send(double bytes, int distance, bool isWithinNode) const;

  /// Of kernels, with what a call costs; empty where none was measured. By operations; elementwise by bytes read plus
  /// written.
  const MeasuredCurve &products() const { return productCurve; }
  const MeasuredCurve &attention(bool isBackward) const { return attentionCurves[isBackward]; }
  const MeasuredCurve &elementwise() const { return elementwiseCurve; }

  /// Bodies of layers; null: none was measured.
  const MeasuredBodies *bodies() const { return measuredBodies.get(); }
  /// Why it may not hold on this host, a line each (ProfileWarnings.h).
  const std::vector<std::string> &warnings() const { return doubts; }
  void setBodies(std::shared_ptr<const MeasuredBodies> bodies) { measuredBodies = std::move(bodies); }

  const std::string &file() const { return path; }
  const std::string &fingerprint() const { return hash; }
  const std::string &precision() const { return elements; }
  bool wasBusy() const { return isBusy; }
  std::int64_t ranks() const { return nodes * nodeDevices; }

  /// Messages that are smaller by `factor` take as long as on these links.
  std::shared_ptr<const MachineTables> withFasterLinks(double factor) const;

private:
  using Arrangement = std::tuple<std::string, std::int64_t, std::int64_t>; ///< kind, ranks, stride
  std::optional<Message> at(const Arrangement &arrangement, double bytes) const;

  std::string path, hash, elements;
  bool isBusy = false;
  std::vector<std::string> doubts;
  std::int64_t nodes = 1, nodeDevices = 1;
  double speedUp = 1;
  std::map<Arrangement, MeasuredCurve> messages;
  std::shared_ptr<const MeasuredBodies> measuredBodies;
  MeasuredCurve productCurve, attentionCurves[2], elementwiseCurve;
};

/// Of this device, if any body of a layer was measured on it.
inline const MeasuredBodies *bodiesOf(const DeviceKind &device) {
  return device.tables ? device.tables->bodies() : nullptr;
}

/// An update that reads and writes so many bytes: as updates were measured, else as elementwise work.
double updateSeconds(double bytes, const DeviceKind &device);

/// Prices `cluster` by what `profile`, from `file`, measured: its tables, and rates for kernels that these do not have.
/// Error: devices of another kind.
std::optional<Error> applyProfile(const MachineProfile &profile, const std::string &file, Cluster &cluster);

/// The profile's devices in other numbers: fewer of one node, or whole nodes.
Result<Cluster> clusterOf(const MachineProfile &profile, std::int64_t ranks);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_MACHINETABLES_H
