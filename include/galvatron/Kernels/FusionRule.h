// When two kernels over the same indices become one: asked by the lowering, which does it, and by the prices of the
// search.
#ifndef GALVATRON_KERNELS_FUSIONRULE_H
#define GALVATRON_KERNELS_FUSIONRULE_H

#include <cstddef>

namespace galvatron {

/// Whether fusion pays. `moved`: bytes that the two move apart. `saved`: of these, what one kernel does not: inputs
/// that both read, what the second reads of the first's outputs, and those outputs themselves where nobody else reads
/// them. `buffers`: what the one kernel reads and writes; beyond 12 a thread holds too much at once. At least an eighth
/// of the bytes must be saved.
constexpr bool isFusionWorthwhile(double saved, double moved, std::size_t buffers) {
  return saved > 0 && saved * 8 >= moved && buffers <= 12;
}

} // namespace galvatron

#endif // GALVATRON_KERNELS_FUSIONRULE_H
