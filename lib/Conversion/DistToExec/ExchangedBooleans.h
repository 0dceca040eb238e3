// Booleans that the runtime cannot move as they are.
#ifndef GALVATRON_CONVERSION_DISTTOEXEC_EXCHANGEDBOOLEANS_H
#define GALVATRON_CONVERSION_DISTTOEXEC_EXCHANGEDBOOLEANS_H

#include "dialects/Dist/Dist.h"

namespace galvatron {

/// Lets the body's collectives that give each device pieces of several exchange 64-bit integers in the place of
/// booleans, where these are not side by side in an even number: masks of few positions.
void widenBooleans(dist::BodyOp body);

} // namespace galvatron

#endif // GALVATRON_CONVERSION_DISTTOEXEC_EXCHANGEDBOOLEANS_H
