// Passes that change dialect; galvatron-convert-x-to-y is lib/Conversion/ConvertXToY.cpp.
#ifndef GALVATRON_CONVERSION_PASSES_TD
#define GALVATRON_CONVERSION_PASSES_TD

include "mlir/Pass/PassBase.td"

#endif // GALVATRON_CONVERSION_PASSES_TD
