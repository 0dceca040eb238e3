// Version of the C ABI.
#include "runtime/api/GalvatronRuntime.h"

int gvrt_abi_version(void) { return 1; }
