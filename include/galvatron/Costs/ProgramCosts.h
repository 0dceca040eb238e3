// What a layer costs under a strategy, from the program itself.
//
// The search's cost source inside the compiler. Each layer type is placed once for each strategy that is asked for, by
// the rules of phase `shard` and on a copy of the module, after `differentiate`: operations and bytes of the kernels
// that one device is left with, the collectives that redistributions become, what backward keeps of forward, and the
// sums of gradients are counted off that. Whatever has placements has a price.
//
// An estimate: fused parameters, padding and reuse of scratch are seen only when a plan is lowered. The driver lowers
// what may be best and goes by its bytes.
#ifndef GALVATRON_COSTS_PROGRAMCOSTS_H
#define GALVATRON_COSTS_PROGRAMCOSTS_H

#include "galvatron/Search/Model/Problem.h"

#include "mlir/IR/BuiltinOps.h"
#include "llvm/ADT/StringMap.h"

#include <memory>

namespace galvatron {

struct LayerWork;

/// Which strategies are priced.
enum class Priced {
  /// Those that the lowering supports and that cut something of the layer: without the degree the same work costs no
  /// more.
  WhatCutsSomething,
  /// All that the lowering supports: a plan by hand may have them.
  All,
  /// All that can be placed, whether a later phase can lower them or not.
  WhatIsPlaced,
};

class ProgramCosts final : public search::CostSource {
public:
  ProgramCosts(mlir::ModuleOp module, const search::Cluster &cluster, int64_t globalBatch,
               Priced priced = Priced::WhatCutsSomething);
  ~ProgramCosts() override;

  search::Result<search::LayerCost> cost(const search::CostQuery &query) const override;
  /// Both kinds of context parallelism where a layer has attention, and both layouts where they differ in price; of
  /// `zero` 3 also gradients that are reduced once a step. Other times to reduce are another level's, or no better:
  /// level 1 that reduces often is level 2, which reduces once is level 1, and level 0 gains nothing.
  std::vector<search::Strategy> settle(const search::Layer &layer, const search::Strategy &strategy,
                                       int microBatches) const override;
  bool settlesAny() const override { return settles; }

private:
  struct Placed;
  void setCompute(search::LayerCost &cost, const LayerWork &work, const search::CostQuery &query) const;
  void addStates(search::LayerCost &cost, const LayerWork &work, const search::CostQuery &query) const;

  search::DeviceKind device;
  Priced priced;
  bool settles;                        ///< whether `settle` offers any choice
  llvm::StringMap<std::string> hashes; ///< of layers, where bodies were measured
  double seq = 1;                      ///< positions of a row
  std::unique_ptr<Placed> placed;
};

} // namespace galvatron

#endif // GALVATRON_COSTS_PROGRAMCOSTS_H
