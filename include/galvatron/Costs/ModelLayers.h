// The layers of a model, as a plan names them, and the plan on the program.
//
// A layer is one `graph.call` of `@step`. lib/Search knows layers by path and layer type and nothing of
// MLIR; here is the only place that goes between its structs and the attributes `plan.pipeline`,
// `plan.strategy` and `plan.stage`.
#ifndef GALVATRON_COSTS_MODELLAYERS_H
#define GALVATRON_COSTS_MODELLAYERS_H

#include "dialects/Graph/GraphStructure.h"
#include "dialects/Plan/Plan.h"
#include "galvatron/Search/Model/Plan.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/BuiltinOps.h"

#include <vector>

namespace galvatron {

/// On a layer that was padded for a plan: its name before, by which plans know it.
inline constexpr llvm::StringLiteral kLayerTypeAttrName = "plan.layer_type";

/// On a planned module: the search's own figure for a step. Written for people; the program is the same whatever it says.
inline constexpr llvm::StringLiteral kPredictedSecondsAttr = "plan.predicted_step_seconds";

struct ModelLayers {
  mlir::func::FuncOp step;
  int64_t globalBatch = 0; ///< samples of a step
  /// Calls in execution order; `layers` has the same indices.
  llvm::SmallVector<graph::CallOp> calls;
  std::vector<search::Layer> layers;
  std::vector<search::TiedParameter> ties;
};

/// Layers of a module after phase `import`. A layer that reads data only is an embedding, the one that
/// computes the step's result the head, any other a block. Fails with a message where the module has
/// no `@step`, no `graph.batch`, no call, or two calls of one path.
mlir::FailureOr<ModelLayers> collectLayers(mlir::ModuleOp module);

/// How many positions a row has, where every attention of the model is causal over all of them, and there is one:
/// pieces from both ends then give the ranks of context parallelism equal work. Else 0: a window does so by itself.
int64_t getTriangularPositions(mlir::func::FuncOp step);

/// How many positions a row has, where some attention is causal over all before a query, so that pieces from both ends
/// may be the faster cut; else 0.
int64_t getMirrorablePositions(mlir::func::FuncOp step);

/// What a plan leaves to the compiler of context parallelism: positions from both ends, where these are triangular and
/// can be cut so.
void chooseContextLayout(int64_t triangularPositions, search::Strategy &strategy);

/// A layer's strategy as an attribute.
plan::StrategyAttr getStrategyAttr(mlir::MLIRContext *context, const search::Strategy &strategy, int dp);

/// Refuses what a plan says of this model's layers, once it is differentiated: values to recompute that they do not
/// have, and states of a tied parameter that its layers would keep otherwise.
search::Result<bool> checkPlannedLayers(const ModelLayers &model, const search::Plan &plan);

/// Writes the plan on the program, replacing any that was there. The plan's layers are the model's, in the same order,
/// as `search::parsePlan` and `search::solve` return them; `checkPlannedLayers` has let it through. Layers of which
/// values are recomputed get tags.
void annotatePlan(const ModelLayers &model, const search::Plan &plan);

/// The plan that is on the program. Fails with a message naming the layer that lacks its part.
mlir::FailureOr<search::Plan> readAnnotatedPlan(const ModelLayers &model);

} // namespace galvatron

#endif // GALVATRON_COSTS_MODELLAYERS_H
