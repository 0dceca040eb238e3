// All-to-alls that do not need one another become one: queries, keys and values under Ulysses are one message to each
// device of the group, and so are their gradients.
#ifndef GALVATRON_PLACEMENT_EXCHANGEFUSION_H
#define GALVATRON_PLACEMENT_EXCHANGEFUSION_H

#include "dialects/Graph/GraphStructure.h"

namespace galvatron {

/// Fuses the all-to-alls of a layer's forward and of its backward, as far as they go over the same mesh axes and all
/// their operands are there before any of their results is read. Returns how many are gone. The order of collectives
/// is that of the program, so the same on every device.
unsigned fuseExchanges(graph::LayerOp layer);

} // namespace galvatron

#endif // GALVATRON_PLACEMENT_EXCHANGEFUSION_H
