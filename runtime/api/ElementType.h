//===- ElementType.h - element types as the C ABI codes them ---------------===//
//
// What attributes named `type` in Functions.def hold. Read by the runtime, by the devices and by the compiler.
//
//===----------------------------------------------------------------------------------------------------------------===//
#ifndef GALVATRON_RUNTIME_API_ELEMENTTYPE_H
#define GALVATRON_RUNTIME_API_ELEMENTTYPE_H

typedef enum { GVRT_F32 = 0, GVRT_I64 = 1, GVRT_BF16 = 2 } gvrt_type;

#endif
