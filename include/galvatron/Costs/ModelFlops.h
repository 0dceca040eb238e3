// The floating-point operations that a step of a model is about, whatever a plan makes of it.
#ifndef GALVATRON_COSTS_MODELFLOPS_H
#define GALVATRON_COSTS_MODELFLOPS_H

#include "mlir/IR/BuiltinOps.h"

namespace galvatron {

struct ModelFlops {
  double perStep = 0;     ///< 0: the module has no layers any more
  bool areNarrow = false; ///< products of 16-bit types
};

/// Of a module after phases `import` to `plan`: matrix products and the pairs of query and key that attention's mask
/// leaves, two operations a multiply-add; for each product one more for the gradient of either operand, where that is
/// trained or depends on what is: forward three times where nothing is frozen. What is recomputed does not count, nor
/// what is elementwise (Chowdhery et al., PaLM, arXiv:2204.02311, appendix B).
ModelFlops countModelFlops(mlir::ModuleOp module);

} // namespace galvatron

#endif // GALVATRON_COSTS_MODELFLOPS_H
