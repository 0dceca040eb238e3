//===- Update.h - gradient norm and parameter update over this rank's pieces -------------===//
#ifndef GALVATRON_RUNTIME_OPTIM_UPDATE_H
#define GALVATRON_RUNTIME_OPTIM_UPDATE_H

#include "runtime/core/Device.h"
#include "runtime/core/Manifest.h"
#include "runtime/core/Options.h"

namespace galvatron {

/// Whether this rank answers for its piece of the parameter in norms and files: of ranks with equal pieces the one with
/// coordinate 0 on every axis that neither the placement nor a sharing of states (ZeRO) uses; of tied copies in several
/// stages the counted one.
bool answersFor(const gvrt_context &context, const ParameterInfo &parameter);

/// Likewise for the loss: of ranks with equal values the one with coordinate 0.
bool answersForLoss(const gvrt_context &context, const LossInfo &loss);

/// Σ g² in f64 over the pieces that this rank answers for, of scaled gradients.
double squareSum(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena);

/// What gradients are multiplied by so that their norm is at most `limit`, as torch.nn.utils.clip_grad_norm_; limit
/// 0: 1.
double clipScale(double norm, double limit);

/// What of --weight-decay falls on the parameter. A pattern of --no-weight-decay that matches any of its names leaves
/// none.
double weightDecay(const Options &options, const ParameterInfo &parameter);
/// As the shell matches names, though * takes dots and slashes too.
bool matches(const std::string &pattern, const std::string &name);

/// Rounds every parameter that has a copy of 16 bits into it.
Status fillCopies(gvrt_context &context, const Device &device, const Manifest &manifest, char *arena);

/// One step of AdamW or SGD on every piece of a trained parameter that this rank holds.
void updateParameters(gvrt_context &context, const Device &device, const Manifest &manifest, const Options &options,
                      char *arena, double rate, double scale);

} // namespace galvatron

#endif
