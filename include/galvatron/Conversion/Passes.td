// Passes that change dialect, a file a folder of lib/Conversion.
#ifndef GALVATRON_CONVERSION_PASSES_TD
#define GALVATRON_CONVERSION_PASSES_TD

include "galvatron/Conversion/DistToExec.td"
include "galvatron/Conversion/ExecToLLVM.td"

#endif // GALVATRON_CONVERSION_PASSES_TD
