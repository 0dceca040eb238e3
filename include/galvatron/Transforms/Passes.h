// Passes of lib/Transforms; their reference is Passes.td.
#ifndef GALVATRON_TRANSFORMS_PASSES_H
#define GALVATRON_TRANSFORMS_PASSES_H

#include "mlir/Pass/Pass.h"

namespace galvatron {

#define GEN_PASS_DECL
#include "galvatron/Transforms/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "galvatron/Transforms/Passes.h.inc"

} // namespace galvatron

#endif // GALVATRON_TRANSFORMS_PASSES_H
