// Passes of lib/Conversion; their reference is Passes.td.
#ifndef GALVATRON_CONVERSION_PASSES_H
#define GALVATRON_CONVERSION_PASSES_H

#include "mlir/Pass/Pass.h"

namespace galvatron {

#define GEN_PASS_DECL
#include "galvatron/Conversion/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "galvatron/Conversion/Passes.h.inc"

} // namespace galvatron

#endif // GALVATRON_CONVERSION_PASSES_H
