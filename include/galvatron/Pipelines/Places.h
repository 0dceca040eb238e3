// Where an op of a program is from, for messages.
#ifndef GALVATRON_PIPELINES_PLACES_H
#define GALVATRON_PIPELINES_PLACES_H

#include "mlir/IR/Location.h"

#include <string>

namespace galvatron {

/// "model.layers.0.mlp (modeling_llama.py:123): ", or nothing where no module is known.
std::string describePlace(mlir::Location location);

} // namespace galvatron

#endif // GALVATRON_PIPELINES_PLACES_H
