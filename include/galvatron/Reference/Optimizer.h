// AdamW and SGD in doubles, element by element: what the evaluator and the executor of timetables do with gradients.
#ifndef GALVATRON_REFERENCE_OPTIMIZER_H
#define GALVATRON_REFERENCE_OPTIMIZER_H

#include <cstdint>

namespace galvatron::reference {

struct Optimizer {
  bool sgd = false; ///< else AdamW
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  /// On matrices only: decoupled for AdamW, added to the gradient for SGD.
  double weightDecay = 0;
  /// Largest gradient norm; 0: off.
  double clipGrad = 0;
  /// Keeps doubles instead of rounding parameters and moments to f32.
  bool exact = false;
  /// Steps that moved parameters, this one included: those whose batch had labels.
  int64_t numUpdates = 0;

  /// What gradients are multiplied by, as torch.nn.utils.clip_grad_norm_ does.
  double scaleFor(double norm) const;
  /// As `torch.optim.AdamW` and `torch.optim.SGD`, on one element; `gradient` is scaled already.
  void update(double &parameter, double &firstMoment, double &secondMoment, double gradient, bool isMatrix) const;
};

} // namespace galvatron::reference

#endif // GALVATRON_REFERENCE_OPTIMIZER_H
