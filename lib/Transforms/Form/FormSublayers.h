// Between the two halves of `form-sublayers`: where a layer is cut, and the layers that come of it.
#ifndef GALVATRON_TRANSFORMS_FORM_FORMSUBLAYERS_H
#define GALVATRON_TRANSFORMS_FORM_FORMSUBLAYERS_H

#include "dialects/Graph/GraphStructure.h"

#include <array>
#include <string>

namespace galvatron::layers {

/// What a plan calls the feed-forward of a layer that has no module of its own for it: `fc1` and `fc2` of OPT,
/// `intermediate` and `output` of BERT.
inline constexpr llvm::StringLiteral kUnnamedFeedForward = "mlp";

/// A layer as attention and the rest, which reads what attention leaves, never the other way.
struct SublayerCut {
  /// Names below the layer's path: of attention, of the rest.
  std::array<std::string, 2> names;
  /// Which of the layer's activations (`FreeOps`) are attention's.
  llvm::DenseSet<mlir::Operation *> ofAttention;
};

/// First components of the names of parameters that products read, each once: what may name a half.
llvm::SmallVector<std::string> getModulesWithProducts(graph::LayerOp layer);

/// Whether the layer has a parameter below a name, or the name is `kUnnamedFeedForward`.
bool hasModule(graph::LayerOp layer, llvm::StringRef name);

/// Cuts a layer before its backward is made. `names`: its attention and the rest, in either order; `hasModule` of
/// both. Fails with an error of `emitError` that says why it has no such halves.
mlir::FailureOr<SublayerCut> cutIntoSublayers(graph::LayerOp layer, std::array<std::string, 2> names,
                                              llvm::function_ref<mlir::InFlightDiagnostic()> emitError);

} // namespace galvatron::layers

#endif // GALVATRON_TRANSFORMS_FORM_FORMSUBLAYERS_H
