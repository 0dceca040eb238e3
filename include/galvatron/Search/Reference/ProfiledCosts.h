//===- ProfiledCosts.h - Native costs from measured profiles ----*- C++ -*-===//
//
// The native cost model with the reference's profiles in place of a shape and a
// device's rates: collectives as in TransformerModel.h, times and sizes measured.
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_PROFILEDCOSTS_H
#define GALVATRON_SEARCH_REFERENCE_PROFILEDCOSTS_H

#include "galvatron/Search/Model/Problem.h"
#include "galvatron/Search/Reference/ReferenceProfile.h"

#include <memory>

namespace galvatron::search {

/// Costs from the reference's profiles: measured compute, parameters and
/// activations; collectives as above. Refuses what was not measured.
class ProfiledCosts : public CostSource {
public:
  ProfiledCosts(ReferenceArguments arguments, ReferenceProfile profile)
      : arguments(std::move(arguments)), profile(std::move(profile)) {}
  Result<LayerCost> cost(const CostQuery &query) const override;

private:
  Result<bool> measured(const CostQuery &query) const;
  ReferenceArguments arguments;
  ReferenceProfile profile;
};

/// Communication from the reference's hardware profiles: the measured table by
/// message size where the group was measured (interpolated, latency included),
/// else the measured bandwidth of its arrangement plus that latency.
class ProfiledCommunication : public CommunicationModel {
public:
  ProfiledCommunication(ReferenceArguments arguments, ReferenceProfile profile, double speedUp = 1)
      : arguments(std::move(arguments)), profile(std::move(profile)), speedUp(speedUp) {}
  double seconds(CollectiveKind kind, double bytes, const plan::GroupShape &group) const override;
  double sendSeconds(double bytesPerRank, int distance) const override;

private:
  ReferenceArguments arguments;
  ReferenceProfile profile;
  double speedUp; ///< what faster links would do
};

/// The native problem for a reference configuration. Device: overlaps
/// communication with compute; memory as configured, whole (no 20 % overhead).
struct ProfiledProblem {
  std::unique_ptr<ProfiledCosts> costs;
  std::unique_ptr<ProfiledCommunication> communication;
  Problem problem;
};
Result<ProfiledProblem> makeProfiledProblem(const ReferenceArguments &arguments, const ReferenceProfile &profile,
                                            int batch);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_PROFILEDCOSTS_H
