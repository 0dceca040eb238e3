// Passes that keep to one dialect or go between ours, a file a folder of lib/Transforms, in the order of phases.
#ifndef GALVATRON_TRANSFORMS_PASSES
#define GALVATRON_TRANSFORMS_PASSES

include "galvatron/Transforms/Raise.td"
include "galvatron/Transforms/Form.td"
include "galvatron/Transforms/Differentiate.td"
include "galvatron/Transforms/Plan.td"
include "galvatron/Transforms/Shard.td"
include "galvatron/Transforms/Stage.td"
include "galvatron/Transforms/Lower.td"

#endif // GALVATRON_TRANSFORMS_PASSES
