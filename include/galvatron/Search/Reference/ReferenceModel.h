//===- ReferenceModel.h - Hetu-Galvatron's cost model, exactly --*- C++ -*-===//
//
// `--cost-model=galvatron`: the formulas of GALVATRON.md 3, symbol by symbol.
// They are kept with their quirks (floor divisions, one all-gather for ZeRO-3,
// only first and last stage as bottleneck), because their purpose is honest
// comparison; `--cost-model=native` is the one to plan with.
//
// Times in seconds, memory in MB (2^20 bytes).
//
//===----------------------------------------------------------------------===//

#ifndef GALVATRON_SEARCH_REFERENCE_REFERENCEMODEL_H
#define GALVATRON_SEARCH_REFERENCE_REFERENCEMODEL_H

#include "galvatron/Search/Model/Plan.h"
#include "galvatron/Search/Reference/ReferenceProfile.h"

#include <compare>
#include <optional>
#include <string>
#include <vector>

namespace galvatron::search {

enum class DpType { Ddp, Zero2, Zero3 };

/// A strategy as the reference enumerates them; p · tp · sp · cp · dp = world.
struct ReferenceStrategy {
  int pp = 1, tp = 1, sp = 1, cp = 1, dp = 1;
  DpType type = DpType::Ddp;
  bool checkpoint = false;
  auto operator<=>(const ReferenceStrategy &) const = default;

  int degree() const { return tp > sp ? tp : sp; } ///< q
  int shardRanks() const { return dp * sp * cp; }  ///< D
};

/// "2-4*-1f-c-sp".
std::string notation(const ReferenceStrategy &strategy);

/// A plan in the reference's terms.
struct ReferencePlan {
  int world = 1, stages = 1, batch = 1, chunks = 1;
  std::vector<ReferenceStrategy> layers;
  std::vector<int> layersOfStage;
  ReferenceStrategy ends; ///< checkpoint unused
  /// The `buffer_tp` of the reference's task, which sizes its gather buffer; 0:
  /// none is kept (Ulysses only).
  int bufferTp = 0;
};

/// A price: what `--evaluate` prints.
struct ReferencePrice {
  double iterationSeconds = 0;
  double throughput = 0;            ///< samples per second
  std::vector<double> memoryUsedMB; ///< a stage, allocator overhead included
  bool fits = false;
};

struct SecondsPair {
  double withSync = 0, noSync = 0;
};

struct MegabytePair {
  double states = 0, activation = 0;
};

class ReferenceModel {
public:
  ReferenceModel(ReferenceArguments arguments, ReferenceProfile profile)
      : arguments(std::move(arguments)), profile(std::move(profile)) {}

  const ReferenceArguments &args() const { return arguments; }
  const ReferenceProfile &measurements() const { return profile; }

  /// ⌊⌊B/m⌋/d⌋: samples of a micro-batch on one data-parallel rank.
  static int localSamples(int batch, int chunks, int dp);

  /// One layer, one micro-batch (3.1).
  Result<SecondsPair> layerSeconds(const ReferenceStrategy &s, int batch, int chunks) const;
  /// Both ends, per stage (3.2); all but the first and the last are 0.
  Result<std::vector<SecondsPair>> endsSeconds(const ReferenceStrategy &s, int batch, int chunks) const;
  /// One layer on a stage (3.4).
  Result<MegabytePair> layerMemory(const ReferenceStrategy &s, int batch, int chunks, int stage) const;
  /// The ends per stage, without the 1024 MB context (3.4).
  Result<std::vector<MegabytePair>> endsMemory(const ReferenceStrategy &s, int batch, int chunks) const;
  /// Megatron-SP's shared gather buffer, MB; 0 for bufferTp 0.
  double bufferMB(int batch, int chunks, int stages, int bufferTp) const;

  /// Whole MB that a stage's layers, ends and buffer may take; and how many
  /// were set aside above 20 GB (3.4).
  int budgetMB() const;
  int overheadMB() const;

  /// Iteration from stage times (3.3): `noSync` with ends, `sync` without.
  static double iterationSeconds(const std::vector<double> &noSync, const std::vector<double> &sync, int chunks);

  Result<ReferencePrice> price(const ReferencePlan &plan) const;

  /// From the general plan (reference or own format); error: what the model
  /// has no words for.
  Result<ReferencePlan> fromPlan(const Plan &plan) const;
  /// To the general plan, with layers "embedding", "layers.N", "head".
  Plan toPlan(const ReferencePlan &plan) const;

  DpType defaultType() const;

private:
  double stateFactor(const ReferenceStrategy &s, int chunks) const;
  Result<double> gradientMsPerMB(const ReferenceStrategy &s) const;
  double boundaryMB(int samples) const;

  ReferenceArguments arguments;
  ReferenceProfile profile;
};

} // namespace galvatron::search

#endif // GALVATRON_SEARCH_REFERENCE_REFERENCEMODEL_H
