//===- MeasuredBodies.h - Prices of bodies that were measured ---*- C++ -*-===//
//
// A profile's `layers` as prices. A body was measured as a whole, with what its
// ranks exchange while it runs; a price is of its compute alone, so that other
// groups and links may take its place:
//
//   compute = measured - messages of the measured ranks, which were neighbours
//
// Between numbers of samples along the line. Between lengths of the sequence,
// and beyond, by what the kernels' work grows with: measured ÷ (attention · s²
// + the rest · s), the kernels' prices scaled from length to length, along the
// line between two lengths and as at the last one beyond. Lengths that the profile
// extrapolated itself (LengthFit.h) are points like others, but no measured ones.
//
// A strategy that was not measured must not gain by that: its kernels' prices are
// multiplied by the pace of its neighbours, the greatest compute ÷ kernels of the
// measured strategies that it refines (each of its degrees a multiple of theirs).
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_MODEL_MEASUREDBODIES_H
#define GALVATRON_SEARCH_MODEL_MEASUREDBODIES_H

#include "galvatron/Search/Model/LinkModel.h"
#include "galvatron/Search/Model/MachineProfile.h"
#include "galvatron/Search/Model/Problem.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace galvatron::search {

/// By what compute of a layer is priced, the best first.
enum class PriceSource {
  Measured,     ///< the very body was measured, or ones of more and of less
  Extrapolated, ///< it was, with fewer samples, shorter sequences or more of both
  Neighbours,   ///< the layer was, under strategies that this one refines: by its kernels at their pace
  OtherCode,    ///< a layer of its type was measured whose shape or code is another: by its kernels
  Kernels,      ///< nothing like it was: by its kernels
};

enum class BodyPart { Forward, Backward, Recompute };

/// Which body, and what it would take kernel by kernel.
struct BodyQuery {
  std::string layerType, hash;
  Strategy strategy;
  BodyPart part = BodyPart::Forward;
  double samples = 1; ///< of one replica
  double seq = 1;
  /// By the prices of its kernels, for these samples and this length.
  double attentionSeconds = 0, otherSeconds = 0;
  /// What its ranks exchange, for these samples and this length; `bytes` as in `Collective`.
  struct Message {
    CollectiveKind kind;
    double bytes;
    std::int64_t ranks;
    bool operator==(const Message &) const = default;
  };
  std::vector<Message> messages = {};
};

struct BodyPrice {
  double seconds = 0; ///< of compute
  PriceSource source = PriceSource::Kernels;
  /// Whether `seconds` come from figures of that body.
  bool isMeasured() const { return source == PriceSource::Measured || source == PriceSource::Extrapolated; }
  /// Or of the same layer.
  bool isOfLayer() const { return isMeasured() || source == PriceSource::Neighbours; }
};

class MeasuredBodies {
public:
  /// `links`: as they were measured; `device`: by whose prices of kernels queries come.
  MeasuredBodies(const MachineProfile &profile, LinkModel links, const DeviceKind &device);

  /// By what was measured; else by its kernels, as `source` says.
  BodyPrice price(const BodyQuery &query) const;
  /// Bytes that updates read and write in a second; 0: none was measured.
  double updateBytesPerSecond() const { return updateRate; }

  /// The same bodies of which those that were measured, and updates, take no time; notes in `estimated` of which others
  /// prices are asked, and by what they go. `estimated` outlives it. One thread at a time.
  std::shared_ptr<const MeasuredBodies> madeFree(std::set<std::string> &estimated) const;
  bool isFree() const { return notes != nullptr; }

private:
  using Points = std::vector<const MeasuredBody *>;
  struct AtLength {
    double seconds = 0;
    bool covers = false;
  };
  /// What a body took ÷ what its kernels would, messages apart; 0: not known.
  struct Pace {
    double samples = 1, seq = 1;
    double forward = 0, backward = 0;
  };
  double paceOf(const BodyWork &work, double whole, const DeviceKind &device) const;
  double neighboursPace(const BodyQuery &query) const;
  BodyPrice find(const BodyQuery &query) const;
  AtLength priceAt(const Points &points, double seq, const BodyQuery &query) const;
  double messageSeconds(const BodyQuery &query, double scale) const;

  LinkModel links;
  std::shared_ptr<const std::vector<MeasuredBody>> bodies;
  std::set<std::string> layerTypes;
  std::map<std::pair<std::string, Strategy>, std::map<std::int64_t, Points>> byLength; ///< by hash and strategy
  std::map<std::string, std::map<Strategy, std::vector<Pace>>> paces;                  ///< by hash and strategy
  double updateRate = 0;
  std::set<std::string> *notes = nullptr;
};

/// Ranks that meet for a collective within a body, of one replica.
std::int64_t bodyGroupRanks(const Collective &collective, const Strategy &strategy);

/// "'decoder' with tp=2".
std::string bodyName(const std::string &layerType, const Strategy &strategy);

/// Whether a strategy does what `coarser` does and cuts at least as far: each degree is a multiple of `coarser`'s.
bool refines(const Strategy &strategy, const Strategy &coarser);

/// What of a strategy makes another body: neither ZeRO nor where ranks are, nor what is recomputed.
Strategy bodyStrategy(Strategy strategy);

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_MODEL_MEASUREDBODIES_H
