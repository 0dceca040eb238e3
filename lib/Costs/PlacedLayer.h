// One layer type under one strategy, counted: its body is placed as phase `shard` places it, and what one device then
// computes, moves, keeps and exchanges is read off.
//
//   graph.layer ──assignBody──▶ placed clone ──insertCollectives──▶ ──recompute…──▶ counted, and erased
//
// A new row of the table of strategies has a price by having placements. By name this knows the search's groups, and
// tp, which is offered only where it cuts something.
#ifndef GALVATRON_LIB_COSTS_PLACEDLAYER_H
#define GALVATRON_LIB_COSTS_PLACEDLAYER_H

#include "KernelWork.h"

#include "galvatron/Placement/Placements.h"
#include "galvatron/Search/Model/Problem.h"

#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/StringSet.h"

#include <deque>
#include <optional>

namespace galvatron {

/// A collective of a micro-batch or of a step.
struct MovedValue {
  search::Collective group;  ///< its kind and ranks
  std::vector<int64_t> axes; ///< of those ranks
  Amount bytes;              ///< in the place of `group.bytes`, and counted as there
};

/// A value that needs memory of its own from op `first` to op `last`, numbered over forward and then backward.
struct ValueLife {
  Amount bytes;
  int first = 0, last = 0;
};

/// Forward or backward of a layer. `kernels` and `collectives` in the order of the body.
struct BodyWork {
  std::vector<KernelWork> kernels;
  std::vector<MovedValue> collectives;
  std::vector<ValueLife> values;
  int begin = 0, end = 0; ///< numbers of its ops

  /// Most bytes of its values that are there at once.
  double getPeak(double samples) const;
};

/// Trained parameters whose gradients backward leaves partial along the same mesh axes, none perhaps, and that bodies
/// read in one type.
struct TrainedParameters {
  search::Collective sum;         ///< the ranks that share the gradients; empty bytes
  std::vector<int64_t> axes = {}; ///< of those ranks
  int64_t ranks = 1;              ///< how many they are
  bool isReadAsF32 = true;
  bool isTied = false; ///< an earlier layer of the model has them, too
  /// Bytes of one device, before ZeRO shares anything: in f32, and in the type that bodies read.
  double bytes = 0, readBytes = 0;
  int64_t padded = 0; ///< elements, each parameter's rounded up as ZeRO's lists have them
};

/// What a layer leaves one device to do.
struct LayerWork {
  BodyWork forward, backward;
  /// Of backward, the kernels that schedules which split it put off; none: nothing is put off.
  std::vector<KernelWork> weightKernels;
  /// Bytes kept from backward for these: what they read, but for parameters.
  Amount weightSaved;
  /// Bytes kept for backward: the layer's inputs, and what else it reads of forward.
  Amount inputs, saved;
  /// Of both, what is certainly there when backward begins: inputs that it reads, and of `saved` each value that others
  /// are views of once.
  Amount certain;
  /// In the order of their gradients.
  std::vector<TrainedParameters> trained;
  /// Bytes of frozen parameters, in the types that bodies read them in.
  double frozen = 0;
  /// Bytes of the float results over all devices.
  Amount boundary;
  /// Whether tensor parallelism cuts the work of some op of forward.
  bool isCutByTensor = false;
  bool hasBackward = false;
};

/// The data-parallel degree whose work is that of `dp` but for `withDataDegree`: the smallest there is.
int getSmallestDataDegree(int64_t samples, int dp);

/// `work` of `from` data-parallel ranks, more than one, as `to` of them have it. Exact, as they cut the batch and
/// nothing else: of what they cut each has so much more or less, and gradients' groups are as much smaller or larger.
/// None where some op reads samples of several ranks.
std::optional<LayerWork> withDataDegree(LayerWork work, const search::Strategy &strategy, int from, int to);

/// Places and counts layers of a module after phase `differentiate`, on a copy of it. Not thread-safe.
class LayerPlacer {
public:
  /// `pricesBothEnds`: whether context parallelism is placed as plans have it (`chooseContextLayout`), else always in
  /// stretches, whose price is the higher one.
  LayerPlacer(mlir::ModuleOp module, int64_t globalBatch, bool pricesBothEnds);

  /// With what backward keeps without recomputation, or with `strategy.recompute` or `values`. The error is that of
  /// phase `shard`: a degree that does not divide the layer's heads or widths.
  search::Result<LayerWork> place(llvm::StringRef layerType, const search::Strategy &strategy, int dp);
  /// The ways of context parallelism that have prices of their own, where the strategy says none and has some; the way
  /// that plans have which say nothing first.
  std::vector<search::Strategy> settleContext(llvm::StringRef layerType, const search::Strategy &strategy) const;
  bool hasLayer(llvm::StringRef layerType) const { return layers.contains(layerType) || padded.contains(layerType); }

private:
  /// The layer of a type; null where it is padded, but not for this strategy.
  graph::LayerOp findLayer(llvm::StringRef layerType, plan::StrategyAttr strategy) const;
  /// `parts`: micro-batches that the batch is cut into. With several, time has a sub-axis of whatever depends on
  /// samples.
  mlir::FailureOr<LayerWork> tryPlace(graph::LayerOp layer, plan::StrategyAttr strategy, int64_t devices,
                                      int64_t parts);
  /// With its collectives, before any recomputation: strategies that differ in nothing else share it. Stays the
  /// placer's; null: failed.
  struct Base {
    plan::StrategyAttr strategy; // without recomputation
    int64_t parts = 0;
    graph::LayerOp layer, placed;
    std::optional<LayerSubAxes> subAxes;
  };
  const Base *findBase(graph::LayerOp layer, plan::StrategyAttr strategy, int64_t devices, int64_t parts);

  mlir::OwningOpRef<mlir::ModuleOp> module;
  Axes axes;
  int64_t globalBatch;
  int64_t triangularPositions = 0;
  /// Of a row, where some attention is causal without a window: from both ends it may be cut evenly. Else 0.
  int64_t mirrorablePositions = 0;
  bool pricesBothEnds;
  llvm::StringMap<graph::LayerOp> layers;
  llvm::StringSet<> withRings; ///< types of layers that can take one
  /// By type, layers that are padded, each for the calls with one strategy (what pads alike of it).
  llvm::StringMap<llvm::SmallVector<std::pair<plan::StrategyValues, graph::LayerOp>>> padded;
  std::deque<Base> bases; ///< the last ones that were asked for
  /// By layer: parameters, by position, that a call of an earlier layer has.
  llvm::StringMap<llvm::SmallVector<bool>> isTied;
  /// By layer: which of its results are the step's losses.
  llvm::StringMap<llvm::SmallVector<bool>> isLoss;
};

} // namespace galvatron

#endif // GALVATRON_LIB_COSTS_PLACEDLAYER_H
