// What a layer costs under a strategy, from the program itself.
//
// The search's cost source inside the compiler. Each layer type is read once, after `differentiate`:
// operations and bytes of each op (`CostOpInterface`), which of its loops tensor parallelism may cut
// (`Axes`), which results are then partial sums and need an all-reduce, what backward reads of forward.
// A query is arithmetic on these tables: no IR is touched, so queries may come from several threads.
//
// An estimate: redistribution, rounding and reuse of scratch are seen only when a plan is lowered. The
// driver lowers what may be best and goes by its bytes.
#ifndef GALVATRON_COSTS_PROGRAMCOSTS_H
#define GALVATRON_COSTS_PROGRAMCOSTS_H

#include "galvatron/Axes/Axes.h"
#include "galvatron/Search/Model/Problem.h"

#include "llvm/ADT/StringMap.h"

#include <vector>

namespace galvatron {

/// How an amount of a whole layer on the global batch shrinks on one device.
struct Divisibility {
  bool byBatch = false; ///< with samples of the micro-batch and dp
  /// Extents of the internal axes (heads, feed-forward width, vocabulary), major first.
  llvm::SmallVector<int64_t, 2> internal;

  /// Share left to one of `tp` devices: the degree's primes go to the first extent they divide; those
  /// that divide none leave replicas. tp 8 on [2 key/value heads, 4 query heads of each]: 1/8.
  double getTensorShare(int tp) const;
};

/// One kernel: its work on the whole batch.
struct OpWork {
  double flops = 0, bytes = 0;
  bool isProduct = false; ///< runs at the rate of matrix products
  /// Of attention: queries and keys that the mask lets meet, over batch and heads, as many as forward would take the
  /// time of.
  double pairs = 0;
  Divisibility divisible;
};

/// A value and when it is there, in op numbers of forward followed by backward.
struct ValueLife {
  double bytes = 0;
  Divisibility divisible;
  int first = 0, last = 0;
};

struct LayerWork {
  std::vector<OpWork> forward, backward;
  /// Values that are partial sums under tensor parallelism.
  std::vector<ValueLife> forwardReductions, backwardReductions;
  /// In f32: those that are trained, and those that are frozen; and the bf16 copies of those that bodies read so.
  std::vector<ValueLife> parameters, frozen, copies;
  std::vector<ValueLife> inputs; ///< activations that backward needs in any case
  std::vector<ValueLife> saved;  ///< what else it keeps unless it recomputes
  std::vector<ValueLife> temporaries;
  int forwardOps = 0;
  double boundaryBytes = 0; ///< float results, on the global batch
};

/// Which strategies are priced: the search need not look at those that cut nothing of a layer, since without the
/// degree the same work costs no more; a plan by hand may have them.
enum class Priced { WhatCutsSomething, All };

class ProgramCosts final : public search::CostSource {
public:
  ProgramCosts(mlir::ModuleOp module, const search::Cluster &cluster, int64_t globalBatch,
               Priced priced = Priced::WhatCutsSomething);

  search::Result<search::UnitCost> cost(const search::CostQuery &query) const override;

private:
  search::DeviceKind device;
  double globalBatch;
  Priced priced;
  llvm::StringMap<LayerWork> layers;
};

} // namespace galvatron

#endif // GALVATRON_COSTS_PROGRAMCOSTS_H
