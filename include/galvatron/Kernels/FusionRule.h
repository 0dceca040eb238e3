// When ops become one kernel: asked by the lowering, which does it, and by the prices of the search. All ask of ops
// whose readers stand in the same block, whether their types are local or placed.
#ifndef GALVATRON_KERNELS_FUSIONRULE_H
#define GALVATRON_KERNELS_FUSIONRULE_H

#include "dialects/Graph/GraphElementwise.h"
#include "dialects/Graph/GraphProducts.h"

#include <cstddef>
#include <optional>

namespace galvatron {

/// Whether fusion of two kernels over the same indices pays. `moved`: bytes that the two move apart. `saved`: of these,
/// what one kernel does not: inputs that both read, what the second reads of the first's outputs, and those outputs
/// themselves where nobody else reads them. `buffers`: what the one kernel reads and writes; beyond 12 a thread holds
/// too much at once. At least an eighth of the bytes must be saved.
constexpr bool isFusionWorthwhile(double saved, double moved, std::size_t buffers) {
  return saved > 0 && saved * 8 >= moved && buffers <= 12;
}

/// Whether an elementwise value is recomputed by each reader instead of being stored.
bool isInlined(mlir::Value value);

/// A sum of a product, a bias of its last dimension and another tensor; either of the latter may be missing.
struct ProductSum {
  graph::EinsumOp product;
  mlir::Value bias, addend;
};

/// The parts of a sum that a product can take into its kernel. Whether the kernel of the device and the layouts allow
/// it is the lowering's to find out.
std::optional<ProductSum> matchProductSum(graph::SumOp sum);

} // namespace galvatron

#endif // GALVATRON_KERNELS_FUSIONRULE_H
