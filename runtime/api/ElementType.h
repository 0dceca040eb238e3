//===- ElementType.h - codes of element types in functions' attributes ----------------------------===//
//
// Shared by compiler, core and devices: what `type` means in Functions.def.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_ELEMENTTYPE_H
#define GALVATRON_RUNTIME_API_ELEMENTTYPE_H

enum gvrt_type { GVRT_F32 = 0, GVRT_I64 = 1, GVRT_BF16 = 2 };

#endif
